// How colours are got. The rest of the page knows nothing of what is behind this:
// here it is the browser itself, in a worker; no photo leaves it.

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
let tell = () => {}; // the page, of the network on its way
const waiting = new Map(); // what has been asked of the worker, by its number

const start = () => {
  worker = new Worker(new URL("browser/worker.js", import.meta.url), {type: "module"});
  const begun = performance.now();
  worker.addEventListener("message", ({data: {id, code, values, error, result}}) => {
    if (code !== undefined) { // nothing is said of what comes at once
      if (performance.now() - begun > 1000 * SILENT_SECONDS) tell(code, values);
      return;
    }
    const {resolve, reject} = waiting.get(id) ?? {};
    waiting.delete(id);
    error ? reject?.(new EngineError(error)) : resolve?.(result);
  });
};

// What may be asked for: {hints: how many}.
export const describe = async ({onWait} = {}) => {
  await isolate();
  tell = onWait ?? tell;
  if (!worker) start();
  return {hints: site.hints};
};

// The gray photo, upright, as large as a screen, in a format that browsers show.
export const preview = (file, name, options = {}) =>
  colorize(file, name, {...options, strength: 0, format: "jpg", longestSide: PREVIEW_SIDE});

// A photo in colour: {blob, name}.
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

// The service worker keeps the site for the next time, and adds the headers that threads
// need; for these the page has to be loaded once more, before anything is done with it.
const isolate = async () => {
  const container = navigator.serviceWorker;
  if (!container) return;
  const controlled = container.controller
    ? Promise.resolve()
    : new Promise((resolve) => container.addEventListener("controllerchange", resolve));
  try {
    await container.register(new URL("sw.js", root), {updateViaCache: "all"});
  } catch { // not kept, as in some private windows
    return;
  }
  if (crossOriginIsolated || sessionStorage.getItem("isolated")) return;
  const late = new Promise((resolve) => setTimeout(resolve, 1000 * ISOLATION_SECONDS, true));
  if (await Promise.race([controlled, late]) === true) return;
  sessionStorage.setItem("isolated", "tried");
  location.reload();
  await new Promise(() => {});
};
