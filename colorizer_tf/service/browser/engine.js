// Makes colors in the browser itself, in a worker; no photo leaves it. On the static site,
// this module replaces static/engine.js.

import {site} from "./browser/site.js";

const PREVIEW_SIDE = 1600;
const ISOLATION_SECONDS = 5;
const SILENT_SECONDS = 1;
const root = new URL("..", import.meta.url);

export class EngineError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

let worker = null;
let last = 0;
let tell = () => {}; // reports to the page while the network loads
const waiting = new Map(); // id of a task of the worker -> {resolve, reject}

const start = () => {
  worker = new Worker(new URL("browser/worker.js", import.meta.url), {type: "module"});
  const begun = performance.now();
  worker.addEventListener("message", ({data: {id, code, values, error, result}}) => {
    if (code !== undefined) { // a network from the cache loads without a message
      if (performance.now() - begun > 1000 * SILENT_SECONDS) tell(code, values);
      return;
    }
    const {resolve, reject} = waiting.get(id) ?? {};
    waiting.delete(id);
    error ? reject?.(new EngineError(error)) : resolve?.(result);
  });
};

// Returns the limits: {hints: the most hints of a photo}.
export const describe = async ({onWait} = {}) => {
  await isolate();
  tell = onWait ?? tell;
  if (!worker) start();
  return {hints: site.hints};
};

// Returns the gray photo, upright, at the size of a screen, as a JPEG: {blob, name}.
export const preview = (file, name, options = {}) =>
  colorize(file, name, {...options, strength: 0, format: "jpg", longestSide: PREVIEW_SIDE});

// Returns a photo in color: {blob, name}.
export const colorize = (file, name, options = {}) =>
  new Promise((resolve, reject) => {
    const {strength = 1, hints = [], format, longestSide, signal} = options;
    signal?.throwIfAborted();
    if (!worker) start();
    const id = last += 1;
    const stop = () => {
      waiting.delete(id);
      worker.postMessage({id, stop: true});
      reject(signal.reason);
    };
    signal?.addEventListener("abort", stop);
    const ended = (end) => (value) => {
      signal?.removeEventListener("abort", stop);
      end(value);
    };
    waiting.set(id, {resolve: ended(resolve), reject: ended(reject)});
    worker.postMessage({id, file, name, strength, hints, format, longestSide});
  });

// Starts the service worker, which caches the site and adds the headers that threads need.
// The headers take effect after the page is loaded once more.
const isolate = async () => {
  const container = navigator.serviceWorker;
  if (!container) return;
  const controlled = container.controller
    ? Promise.resolve()
    : new Promise((resolve) => container.addEventListener("controllerchange", resolve));
  try {
    await container.register(new URL("sw.js", root), {updateViaCache: "all"});
  } catch { // not allowed, as in some private windows
    return;
  }
  if (crossOriginIsolated || sessionStorage.getItem("isolated")) return;
  const late = new Promise((resolve) => setTimeout(resolve, 1000 * ISOLATION_SECONDS, true));
  if (await Promise.race([controlled, late]) === true) return;
  sessionStorage.setItem("isolated", "tried");
  location.reload();
  await new Promise(() => {});
};
