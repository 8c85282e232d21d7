// Colorizes photos one after the other: decodes, shrinks, runs the network, paints,
// encodes. The functions are named like those of the library.

import {
  decode, encode, extensionOf, needsCommand, resultName,
} from "./photos.js";
import {fitShape, paint, paintPlanes, scaleSides, shrink} from "./painting.js";
import {site} from "./site.js";

const MAX_PIXELS = 2 ** 27;
const MOST_THREADS = 4;
const RETRY_SECONDS = 3;

// --- Network

// Returns the bytes of a file; calls `report(bytes)` as they arrive. Repeats a failed
// request until it succeeds.
const load = async (path, report) => {
  for (;;) {
    const parts = [];
    try {
      const response = await fetch(new URL(path, import.meta.url));
      if (!response.ok) throw new Error(`${path}: ${response.status}`);
      const reader = response.body.getReader();
      for (;;) {
        const {done, value} = await reader.read();
        if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
        parts.push(value);
        report(value.length);
      }
    } catch {
      for (const part of parts) report(-part.length);
      postMessage({code: "offline"});
      await new Promise((resolve) => setTimeout(resolve, 1000 * RETRY_SECONDS));
    }
  }
};

const openNetwork = async () => {
  let loaded = 0;
  const report = (bytes) => {
    loaded += bytes;
    const percent = Math.floor((100 * loaded) / site.bytes);
    if (bytes > 0) postMessage({code: "loading", values: {percent}});
  };
  const [ort, wasm, graph] = await Promise.all([
    import(new URL(site.runtime, import.meta.url)),
    load(site.wasm, report),
    load(site.network, report),
  ]);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  const session = await ort.InferenceSession.create(graph, {executionProviders: ["wasm"]});
  postMessage({code: null});
  // Returns slope and offset of both chroma planes.
  return async (luma, [height, width], hints, strength) => {
    const rows = hints.length
      ? hints.flatMap(({x, y, color}) => [x, y, ...rgbOf(color)]) : [-1, 0, 0, 0, 0];
    const {fit} = await session.run({
      luma: new ort.Tensor("float32", luma, [height, width]),
      hints: new ort.Tensor("float32", new Float32Array(rows), [rows.length / 5, 5]),
      strength: new ort.Tensor("float32", new Float32Array([strength]), [1]),
    });
    return {data: fit.data, rows: fit.dims[1], columns: fit.dims[2]};
  };
};

const rgbOf = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);

// If loading fails, the next photo tries again.
let network = null;
const getNetwork = () => {
  network ??= openNetwork().catch((error) => {
    network = null;
    throw error;
  });
  return network;
};

// --- Photo

const workingShape = (height, width) => {
  const shorter = Math.min(height, width);
  const longer = Math.max(height, width);
  const size = Math.min(site.working_size, Math.max(site.small_size, site.share * shorter));
  const scale = Math.min(1, size / shorter, (site.longest * size) / longer);
  return scaleSides([height, width], scale);
};

const predict = async (luma, height, width, hints, strength) => {
  if (!strength && !hints.length) {
    const [rows, columns] = fitShape(...workingShape(height, width));
    return {data: new Float32Array(4 * rows * columns), rows, columns};
  }
  const [h, w] = workingShape(height, width);
  const small = Float32Array.from(shrink(luma, height, width, h, w), (level) => level / 255);
  return (await getNetwork())(small, [h, w], hints, strength);
};

const colorize = async ({file, name, strength, hints, format, longestSide}) => {
  const extension = await extensionOf(file);
  if (await needsCommand(file, extension)) throw {code: "needs_command"};
  const photo = await decode(file, extension, MAX_PIXELS, longestSide);
  const {luma, height, width} = photo;
  const fit = await predict(luma, height, width, hints, strength);
  const ending = format ? `.${format}` : extension;
  const painter = ending === ".jpg" ? paintPlanes : paint;
  const blob = await encode(photo, ending, painter(luma, height, width, fit), file);
  return {blob, name: resultName(name, ending)};
};

// --- Tasks: the newest first, because the person waits for it

const tasks = [];
let busy = false;

const work = async () => {
  if (busy) return;
  busy = true;
  for (let task = tasks.pop(); task; task = tasks.pop()) {
    const {id} = task;
    try {
      postMessage({id, result: await colorize(task)});
    } catch (error) {
      if (!error.code) console.warn(error);
      const code = typeof error.code === "string" ? error.code : "failed";
      postMessage({id, error: code});
    }
  }
  busy = false;
};

addEventListener("message", ({data}) => {
  const at = tasks.findIndex(({id}) => id === data.id);
  if (!data.stop) tasks.push(data);
  else if (at >= 0) tasks.splice(at, 1);
  work();
});
getNetwork().catch(() => postMessage({code: null}));
