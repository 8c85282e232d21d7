// Files of hints, with the names and the format that the command `colorize` reads.

import {zip} from "./zip.js";

const stemOf = (name) => name.replace(/\.[^.]*$/, "");

const format = (hints) => {
  const lines = hints.map((hint) => `  ${JSON.stringify(hint)}`);
  return `[\n${lines.join(",\n")}\n]\n`;
};

// Returns "scan.hints.json"; "scan.png.hints.json" if another photo is named "scan" too.
const fileName = (photo, photos) => {
  const stem = stemOf(photo.name);
  const alike = photos.filter(({name}) => stemOf(name) === stem);
  return `${alike.length > 1 ? photo.name : stem}.hints.json`;
};

// Returns the hints of one photo as a file, or those of several in a zip: {name, blob}.
export const save = async (photos) => {
  const files = photos
    .filter(({hints}) => hints.length)
    .map((photo) => ({
      name: fileName(photo, photos),
      blob: new Blob([format(photo.hints)], {type: "application/json"}),
    }));
  return files.length > 1 ? {name: "hints.zip", blob: await zip(files)} : files[0];
};

const isFraction = (value) => typeof value === "number" && value >= 0 && value <= 1;
const isHint = (entry) =>
  isFraction(entry?.x) && isFraction(entry.y) && /^#[0-9a-f]{6}$/i.test(entry.color)
  && Object.keys(entry).length === 3;

// Returns the hints in a file; throws {key, values}, the text of an error.
export const read = async (file) => {
  let entries = null;
  try {
    entries = JSON.parse(await file.text());
  } catch { /* reported below */ }
  if (!Array.isArray(entries)) entries = [null];
  const wrong = entries.findIndex((entry) => !isHint(entry));
  if (wrong >= 0) {
    const key = entries.length > 1 ? "wrong_entry" : "not_hints";
    throw {key, values: {name: file.name, number: wrong + 1}};
  }
  return entries.map(({x, y, color}) => ({x, y, color: color.toLowerCase()}));
};

// Returns the photo that a file of hints belongs to by its name, or null.
export const photoOf = (file, photos) => {
  const own = file.name.replace(/(\.hints)?\.json$/i, "");
  return photos.find(({name}) => name === own)
    ?? photos.find(({name}) => stemOf(name) === own) ?? null;
};
