// Packs files into a zip without compression: photos are compressed already.

const TABLE = Uint32Array.from({length: 256}, (_, number) => {
  for (let bit = 0; bit < 8; bit += 1) {
    number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  }
  return number;
});
const UTF8_NAMES = 0x800;

const checksum = (bytes) => {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
};

// Returns date and time in the format of DOS: in steps of two seconds, since 1980.
const now = () => {
  const date = new Date();
  const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  return ((day << 16) | time) >>> 0;
};

// Returns fields, each [size in bytes, value], as little-endian bytes.
const pack = (fields) => {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    size === 2 ? view.setUint16(at, value, true) : view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
};

export const unique = (name, taken) => {
  const [, stem, ending] = /^(.*?)(\.[^.]*)?$/.exec(name);
  let free = name;
  for (let number = 2; taken.has(free.toLowerCase()); number += 1) {
    free = `${stem} (${number})${ending ?? ""}`;
  }
  taken.add(free.toLowerCase());
  return free;
};

// Returns files, each {name, blob}, as the blob of a zip.
export const zip = async (files) => {
  const parts = [], directory = [], taken = new Set(), written = now();
  let offset = 0;
  for (const {name, blob} of files) {
    const bytes = new TextEncoder().encode(unique(name, taken));
    const sum = checksum(new Uint8Array(await blob.arrayBuffer()));
    const common = [
      [2, 20], [2, UTF8_NAMES], [2, 0], [4, written], [4, sum], [4, blob.size],
      [4, blob.size], [2, bytes.length], [2, 0],
    ];
    const head = pack([[4, 0x04034b50], ...common]);
    parts.push(head, bytes, blob);
    const entry = [[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(pack([[4, 0x02014b50], [2, 20], ...common, ...entry]), bytes);
    offset += head.length + bytes.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = [[4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]];
  return new Blob([...parts, ...directory, pack(end)], {type: "application/zip"});
};
