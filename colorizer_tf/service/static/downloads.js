// Downloads results at full size: of one photo, or of all photos in a zip.

import * as engine from "./engine.js";
import {zip} from "./zip.js";

const AT_ONCE = 2;

export const save = ({name, blob}) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // Later, because some browsers first ask where to save the file.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// Returns a photo's result with its present settings: {name, blob}.
export const make = ({file, name, strength, hints}, options) =>
  engine.colorize(file, name, {strength, hints, ...options});

// Makes results of many photos, a few at a time. A failure does not stop the others.
//
// Calls `report(done)` with the number of finished photos. Returns {files, failed}, where
// `failed` is a list of {photo, code}.
export const makeAll = async (photos, report, options) => {
  const files = photos.map(() => null), failed = [];
  let next = 0, done = 0;
  const work = async () => {
    while (next < photos.length) {
      const at = next;
      next += 1;
      try {
        files[at] = await make(photos[at], options);
      } catch (error) {
        if (options.signal.aborted) throw error;
        failed.push({photo: photos[at], code: error.code ?? "failed"});
      }
      done += 1;
      report(done);
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
  return {files: files.filter(Boolean), failed};
};

// Returns a zip of files, with a report of the reasons of failed photos.
export const pack = async (files, reasons) => {
  const report = {name: "report.txt", blob: new Blob([`${reasons.join("\n")}\n`])};
  return {name: "colorized.zip", blob: await zip(reasons.length ? [...files, report] : files)};
};
