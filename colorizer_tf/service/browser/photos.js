// Reads photo files as luma, and writes them in color; see photos.py.

import {scaleSides, shrink} from "./painting.js";

const QUALITY = 0.96;
const BAND_PIXELS = 2 ** 19;
const MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"};
const MAX_SIDE = {".jpg": 65500, ".webp": 16383};

const read = async (blob, start, end) =>
  new Uint8Array(await blob.slice(start, end).arrayBuffer());
// BT.601, rounded as Pillow does it.
const lumaOf = (red, green, blue) =>
  (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
const ascii = (bytes) => String.fromCharCode(...bytes);

// Returns the extension of a file's result, by the file's content and not by its name.
export const extensionOf = async (file) => {
  const head = ascii(await read(file, 0, 12));
  if (head.startsWith("\xff\xd8\xff")) return ".jpg";
  if (head.startsWith("\x89PNG")) return ".png";
  if (/^(II[*+]\0|MM\0[*+])/.test(head)) return ".tif";
  if (/^RIFF....WEBP/s.test(head)) return ".webp";
  if (head.startsWith("BM")) return ".bmp";
  return null; // other formats that the browser reads become JPEG
};

// Returns whether browsers cannot handle the file: TIFF, and 16 bits.
export const needsCommand = async (file, extension) =>
  extension === ".tif" || (extension === ".png" && (await read(file, 24, 25))[0] === 16);

// Returns an upright photo, {luma, width, height, alpha, canvas}, with at most
// `longestSide` pixels a side, if given. `canvas` is missing if the luma needed none.
export const decode = async (file, extension, maxPixels, longestSide) => {
  const bytes = extension === ".jpg" && new Uint8Array(await file.arrayBuffer());
  if (bytes && !isWhole(bytes)) throw {code: "damaged"};
  const photo = (bytes && (await readLumaPlane(bytes, maxPixels)))
    || (await readPixels(file, extension, maxPixels));
  let {luma, alpha, width, height} = photo;
  const scale = (longestSide ?? Infinity) / Math.max(width, height);
  if (scale < 1) {
    const size = scaleSides([height, width], scale);
    luma = shrink(luma, height, width, ...size);
    alpha &&= shrink(alpha, height, width, ...size);
    [height, width] = size;
  }
  return {...photo, luma, alpha, width, height};
};

// Returns a color JPEG's own plane of luma, upright; RGB loses it where colors are vivid.
// Returns null if the browser does not give planes.
const readLumaPlane = async (bytes, maxPixels) => {
  const isColour = readSegments(bytes).some(isColourFrame);
  if (!isColour || !self.ImageDecoder) return null;
  const options = {data: bytes, type: "image/jpeg", colorSpaceConversion: "none"};
  const decoder = new ImageDecoder(options);
  let frame;
  try {
    frame = (await decoder.decode()).image;
    const {format, colorSpace, rotation, flip, visibleRect: {width: w, height: h}} = frame;
    if (!/^I4\d\d$/.test(format) || !colorSpace.fullRange || w * h > maxPixels) return null;
    const planes = new Uint8Array(frame.allocationSize());
    const [{offset, stride}] = await frame.copyTo(planes);
    // The place of the first pixel, and the steps to the ones below and beside it.
    const steps = {
      0: [0, stride, 1],
      90: [(h - 1) * stride, 1, -stride],
      180: [(h - 1) * stride + w - 1, -stride, -1],
      270: [w - 1, -1, stride],
    };
    if (!(rotation in steps)) return null; // in older browsers
    let [start, down, across] = steps[rotation];
    const [width, height] = rotation % 180 ? [h, w] : [w, h];
    if (flip) [start, across] = [start + (width - 1) * across, -across];
    const luma = new Uint8Array(width * height);
    for (let row = 0, at = 0; row < height; row += 1) {
      for (let x = 0, from = offset + start + row * down; x < width; x += 1, from += across) {
        luma[at++] = planes[from];
      }
    }
    return {luma, width, height, alpha: null};
  } catch {
    return null;
  } finally {
    frame?.close();
    decoder.close();
  }
};

const readPixels = async (file, extension, maxPixels) => {
  let bitmap;
  try {
    const options = {colorSpaceConversion: "none", premultiplyAlpha: "none"};
    bitmap = await createImageBitmap(file, options);
  } catch {
    throw {code: extension ? "damaged" : "not_a_photo"};
  }
  const {width, height} = bitmap;
  if (width * height > maxPixels) throw {code: "too_many_pixels"};
  const canvas = new OffscreenCanvas(width, height);
  const drawing = canvas.getContext("2d", {willReadFrequently: true});
  drawing.drawImage(bitmap, 0, 0);
  bitmap.close();
  const luma = new Uint8Array(width * height);
  let alpha = null;
  for (const [top, rows] of bands(width, height)) {
    const {data} = drawing.getImageData(0, top, width, rows);
    for (let at = top * width, from = 0; from < data.length; at += 1, from += 4) {
      luma[at] = lumaOf(data[from], data[from + 1], data[from + 2]);
      if (data[from + 3] === 255) continue;
      alpha ??= new Uint8Array(width * height).fill(255);
      alpha[at] = data[from + 3];
    }
  }
  // In some browsers, a canvas that is too large stays empty.
  if (alpha?.every((opacity) => !opacity)) throw {code: "too_many_pixels"};
  return {luma, width, height, alpha, canvas};
};

// Browsers show a truncated JPEG, with gray in the missing part.
const isWhole = (bytes) => {
  for (let at = bytes.length - 2; at > 0; at -= 1) {
    if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
    if (bytes[at] === 0xff && bytes[at + 1] === 0xda) return false;
  }
  return false;
};

const bands = function* (width, height) {
  const rows = Math.max(2, 2 * Math.floor(BAND_PIXELS / width / 2));
  for (let top = 0; top < height; top += rows) yield [top, Math.min(rows, height - top)];
};

// Returns a photo as a blob, painted by `paintRows(rgba, top, bottom)`.
//
// From its file `source`, a JPEG, another JPEG gets EXIF, color profile and resolution.
export const encode = async (photo, ending, paintRows, source) => {
  const {alpha, width, height, canvas = new OffscreenCanvas(width, height)} = photo;
  const extension = ending ?? ".jpg";
  if (Math.max(width, height) > (MAX_SIDE[extension] ?? Infinity)) throw {code: "wrong_format"};
  // The canvas of the decoded photo is painted over, to save memory.
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
  }
  const drawing = canvas.getContext("2d", {willReadFrequently: true});
  const rows = [...bands(width, height)].map(([top, count]) => {
    const band = new ImageData(width, count);
    paintRows(band.data, top, top + count);
    cover(band.data, alpha, top * width, [".png", ".webp"].includes(extension));
    if (extension === ".bmp") return band;
    drawing.putImageData(band, 0, top);
    return null;
  });
  if (extension === ".bmp") return writeBmp(rows, width, height);
  const blob = await canvas.convertToBlob({type: MEDIA_TYPES[extension], quality: QUALITY});
  canvas.width = canvas.height = 0; // frees its memory at once
  return extension === ".jpg" ? addMetadata(blob, source) : blob;
};

// Sets the opacity of RGBA, or blends it with white.
const cover = (rgba, alpha, start, keeps) => {
  for (let at = 3, from = start; at < rgba.length; at += 4, from += 1) {
    const opacity = alpha ? alpha[from] : 255;
    rgba[at] = keeps ? opacity : 255;
    if (keeps || opacity === 255) continue;
    for (let channel = at - 3; channel < at; channel += 1) {
      rgba[channel] = 255 + (opacity / 255) * (rgba[channel] - 255);
    }
  }
};

const writeBmp = (bands, width, height) => {
  const stride = 4 * Math.ceil((3 * width) / 4);
  const head = new DataView(new ArrayBuffer(54));
  head.setUint16(0, 0x424d);
  const fields = [[2, 54 + stride * height], [10, 54], [14, 40], [18, width], [22, height], [34, stride * height]];
  for (const [at, value] of fields) head.setUint32(at, value, true);
  head.setUint16(26, 1, true);
  head.setUint16(28, 24, true);
  const parts = bands.map(({data, height: count}) => {
    const bytes = new Uint8Array(stride * count); // bottom row first, in the order BGR
    for (let row = 0, from = 0; row < count; row += 1) {
      for (let at = stride * (count - 1 - row), x = 0; x < width; x += 1, at += 3, from += 4) {
        bytes.set([data[from + 2], data[from + 1], data[from]], at);
      }
    }
    return bytes;
  });
  return new Blob([head, ...parts.reverse()], {type: "image/bmp"});
};

// --- Metadata of a JPEG

// Returns the segments before the pixels of a JPEG: [{marker, bytes, at}], `at` their place.
const readSegments = (bytes) => {
  const segments = [];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const end = at + 2 + 256 * bytes[at + 2] + bytes[at + 3];
    segments.push({marker: bytes[at + 1], bytes: bytes.slice(at, end), at});
    at = end;
  }
  return segments;
};

const isApp = ({marker}) => marker >= 0xe0 && marker <= 0xef;
// Baseline, extended or progressive, with three components.
const isColourFrame = ({marker, bytes}) => marker >= 0xc0 && marker <= 0xc2 && bytes[9] === 3;

const addMetadata = async (blob, source) => {
  const from = new Uint8Array(await source.arrayBuffer());
  if (from[0] !== 0xff || from[1] !== 0xd8) return blob;
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const own = readSegments(bytes);
  const begins = ({bytes: segment}, text) => ascii(segment.slice(4, 4 + text.length)) === text;
  const all = readSegments(from).filter(isApp);
  const head = all.find((each) => begins(each, "JFIF\0")) ?? own.find((each) => begins(each, "JFIF\0"));
  const exif = all.find((each) => begins(each, "Exif\0"));
  const profile = all.filter((each) => begins(each, "ICC_PROFILE\0"));
  // A profile for gray or CMYK does not fit a photo in color.
  const isRgb = profile[0] && ascii(profile[0].bytes.slice(34, 38)) === "RGB ";
  const kept = [head && trimHead(head.bytes), exif && straighten(exif.bytes)]
    .concat(isRgb ? profile.map((each) => each.bytes) : []).filter(Boolean);
  const rest = own.find((each) => !isApp(each)).at;
  const whole = new Blob([bytes.slice(0, 2), ...kept, bytes.slice(rest)]);
  // Firefox cannot decode a blob of several parts.
  return new Blob([await whole.arrayBuffer()], {type: blob.type});
};

// Returns the JFIF segment without its thumbnail.
const trimHead = (segment) => {
  const head = segment.slice(0, 18);
  head.set([0, 16], 2);
  head.set([0, 0], 16);
  return head;
};

// Returns the EXIF of an upright photo, without its gray thumbnail.
const straighten = (segment) => {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.length);
  const little = view.getUint16(10) === 0x4949;
  try {
    const start = 10 + view.getUint32(14, little);
    const count = view.getUint16(start, little);
    for (let at = start + 2; at < start + 2 + 12 * count; at += 12) {
      if (view.getUint16(at, little) === 0x0112) view.setUint16(at + 8, 1, little);
    }
    view.setUint32(start + 2 + 12 * count, 0, little);
    return segment;
  } catch { // damaged
    return null;
  }
};

// --- Names

const splitName = (name) => /^(.+?)(\.[^.]+)?$/s.exec(name).slice(1);

// Returns a safe file name for a result: "a b.jpeg" gives "a b colour.jpeg"; see
// validation.py.
export const resultName = (name, ending) => {
  const extension = ending ?? ".jpg";
  const last = name.replaceAll("\\", "/").split("/").at(-1)
    .replace(/[<>:"|?*]/g, "_").replace(/[\p{C}]/gu, "").replace(/^[ .]+|[ .]+$/g, "");
  const [stem, suffix = ""] = splitName(last || "photo");
  const same = extension === ".jpg" && /^\.jpe?g$/i.test(suffix);
  return `${[...stem].slice(0, 60).join("")} colour${same ? suffix : extension}`;
};
