// Asks the service of the page for colors. The static site replaces this module by
// browser/engine.js, which has the same functions.
//
// While the service is full, restarts or cannot be reached, a request is repeated, and
// `onWait(code)` is called. Only `signal` ends that.

const PREVIEW_SIDE = 1600;
const FEWEST_SECONDS = 1;
const MOST_SECONDS = 10;
const root = new URL("..", import.meta.url);

export class EngineError extends Error {
  constructor(code, seconds) {
    super(code);
    this.code = code;
    this.seconds = seconds; // until the next try; undefined if there is none
  }
}

// Returns the limits of the service: {hints, photo_bytes, ...}.
export const describe = (options = {}) =>
  patiently(async () => (await ask("api/about")).json(), options);

// Returns the gray photo, upright, at the size of a screen, as a JPEG: {blob, name}.
export const preview = (file, name, options = {}) =>
  colorize(file, name, {...options, strength: 0, format: "jpg", longestSide: PREVIEW_SIDE});

// Returns a photo in color: {blob, name}.
export const colorize = (file, name, options = {}) => {
  const {strength = 1, hints = [], format, longestSide, signal} = options;
  const form = new FormData();
  form.set("photo", file, name);
  form.set("strength", strength);
  if (hints.length) form.set("hints", JSON.stringify(hints));
  if (format) form.set("format", format);
  if (longestSide) form.set("longest_side", longestSide);
  return patiently(async () => {
    const response = await ask("api/colorize", {method: "POST", body: form, signal});
    const header = response.headers.get("content-disposition") ?? "";
    const encoded = /filename\*=UTF-8''([^;]+)/.exec(header)?.[1];
    return {blob: await response.blob(), name: decodeURIComponent(encoded ?? name)};
  }, options);
};

// Returns the likely colors of a place in a photo: ["#rrggbb", ...].
export const suggest = async (file, {x, y, hints = [], signal}) => {
  const {colors} = await consult("api/suggest", {photo: file, x, y}, hints, signal);
  return colors.map(({color}) => color);
};

// Returns the hints of each plausible result of a photo; the first has none.
export const variants = async (file, {hints = [], signal}) =>
  (await consult("api/variants", {photo: file}, hints, signal)).variants;

const consult = async (path, fields, hints, signal) => {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  form.set("hints", JSON.stringify(hints));
  return (await ask(path, {method: "POST", body: form, signal})).json();
};

const ask = async (path, options) => {
  let response;
  try {
    response = await fetch(new URL(path, root), options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new EngineError("offline", FEWEST_SECONDS);
  }
  if (response.ok) return response;
  const seconds = Number(response.headers.get("retry-after")) || FEWEST_SECONDS;
  if (response.status === 503) throw new EngineError("full", seconds);
  // A proxy returns these while the service restarts.
  if ([408, 502, 504].includes(response.status)) throw new EngineError("offline", seconds);
  const {code} = await response.json().catch(() => ({}));
  throw new EngineError(code ?? "failed");
};

const patiently = async (task, {signal, onWait}) => {
  for (let seconds = 0; ; ) {
    try {
      return await task();
    } catch (error) {
      // A body that breaks off raises a TypeError.
      const code = error instanceof TypeError ? "offline" : error.code;
      const wait = error instanceof TypeError ? FEWEST_SECONDS : error.seconds;
      if (signal?.aborted || wait === undefined) throw error;
      onWait?.(code);
      seconds = Math.min(MOST_SECONDS, Math.max(wait, 1.5 * seconds));
      await pause(seconds, signal);
    }
  }
};

// Waits, but not after the browser is online again.
const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      signal?.aborted ? reject(signal.reason) : resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    window.addEventListener("online", done);
    signal?.addEventListener("abort", done);
  });
