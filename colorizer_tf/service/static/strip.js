// The strip: small pictures of all photos with their states, as radio buttons.

import {t} from "./texts.js";

const SIDE = 144;
const strip = document.querySelector("#strip");
const cells = new Map(); // by id

const makeCell = (photo, choose) => {
  const cell = document.createElement("label");
  cell.className = "cell";
  cell.innerHTML = '<input type="radio" name="photo"><canvas></canvas><span class="mark"></span>';
  const [radio, canvas] = cell.children;
  radio.addEventListener("change", () => choose(photo));
  cell.title = photo.name;
  return {cell, radio, canvas, drawn: null};
};

const draw = async (entry, blob) => {
  if (!blob || entry.drawn === blob) return;
  entry.drawn = blob;
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (!bitmap || entry.drawn !== blob) return;
  const scale = Math.max(SIDE / bitmap.width, SIDE / bitmap.height);
  const [w, h] = [scale * bitmap.width, scale * bitmap.height];
  entry.canvas.width = entry.canvas.height = SIDE;
  const drawing = entry.canvas.getContext("2d");
  drawing.drawImage(bitmap, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
  bitmap.close();
};

// Shows all photos, and which one is chosen.
export const showList = (photos, choose) => {
  const ids = new Set(photos.list.map(({id}) => id));
  for (const [id, {cell}] of cells) {
    if (ids.has(id)) continue;
    cell.remove();
    cells.delete(id);
  }
  photos.list.forEach((photo, at) => {
    if (!cells.has(photo.id)) cells.set(photo.id, makeCell(photo, choose));
    const {cell} = cells.get(photo.id);
    if (strip.children[at] !== cell) strip.insertBefore(cell, strip.children[at] ?? null);
    showPhoto(photos, photo);
  });
};

export const showPhoto = (photos, photo) => {
  const entry = cells.get(photo.id);
  if (!entry) return;
  const state = photos.stateOf(photo);
  entry.cell.dataset.state = state;
  entry.radio.ariaLabel = `${photo.name}, ${t(state)}`;
  draw(entry, photo.colour ?? photo.gray);
};

export const showChoice = (photo) => {
  const entry = photo && cells.get(photo.id);
  if (!entry) return;
  entry.radio.checked = true;
  entry.cell.scrollIntoView({block: "nearest", inline: "nearest"});
};
