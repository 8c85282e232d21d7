// Results at full size: of one photo, or of all in a zip.

import * as engine from "./engine.js";
import {zip} from "./zip.js";

const AT_ONCE = 2;

export const save = ({name, blob}) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // Not at once: some browsers ask where to save it first.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// The photo with all that is set on it by now: {name, blob}.
export const make = ({file, name, strength, hints}, options) =>
  engine.colorize(file, name, {strength, hints, ...options});

// Results of many photos, a few at a time. One that fails stops no other.
//
// `report(done)` is told how many there are; returns {files, failed}, and of `failed`
// which photo it is, and the code of why.
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

// What could not be made is named in a report, as the service does it.
export const pack = async (files, reasons) => {
  const report = {name: "report.txt", blob: new Blob([`${reasons.join("\n")}\n`])};
  return {name: "colorized.zip", blob: await zip(reasons.length ? [...files, report] : files)};
};
