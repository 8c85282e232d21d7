// How colours are got. The rest of the page knows nothing of what is behind this:
// here it is the service that the page came from.
//
// What cannot be had just now, as the service is full, restarting or out of reach, is
// waited for: `onWait(code)` is told so. Only `signal` ends that.

const PREVIEW_SIDE = 1600;
const FEWEST_SECONDS = 1;
const MOST_SECONDS = 10;
const root = new URL("..", import.meta.url);

export class EngineError extends Error {
  constructor(code, seconds) {
    super(code);
    this.code = code;
    this.seconds = seconds; // after which to try again; undefined for never
  }
}

// What may be asked for: {hints: how many, photo_bytes, ...}.
export const describe = (options = {}) =>
  patiently(async () => (await ask("api/about")).json(), options);

// The gray photo, upright, as large as a screen, in a format that browsers show.
export const preview = (file, name, options = {}) =>
  colorize(file, name, {...options, strength: 0, format: "jpg", longestSide: PREVIEW_SIDE});

// A photo in colour: {blob, name}.
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

// Colours that are likely at a place of a photo: ["#rrggbb", ...].
export const suggest = async (file, {x, y, hints = [], signal}) => {
  const {colors} = await consult("api/suggest", {photo: file, x, y}, hints, signal);
  return colors.map(({color}) => color);
};

// Other results that a photo could have: for each, the dots that give it.
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
  // A proxy answers so while the service behind it restarts.
  if ([408, 502, 504].includes(response.status)) throw new EngineError("offline", seconds);
  const {code} = await response.json().catch(() => ({}));
  throw new EngineError(code ?? "failed");
};

const patiently = async (task, {signal, onWait}) => {
  for (let seconds = 0; ; ) {
    try {
      return await task();
    } catch (error) {
      // A body that breaks off in the middle is a TypeError.
      const code = error instanceof TypeError ? "offline" : error.code;
      const wait = error instanceof TypeError ? FEWEST_SECONDS : error.seconds;
      if (signal?.aborted || wait === undefined) throw error;
      onWait?.(code);
      seconds = Math.min(MOST_SECONDS, Math.max(wait, 1.5 * seconds));
      await pause(seconds, signal);
    }
  }
};

// Ends early when the browser is online again.
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
