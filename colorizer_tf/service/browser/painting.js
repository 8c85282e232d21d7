// Brings the network's small chroma to the size of a photo; see painting.py.

const [RED, GREEN, BLUE] = [0.299, 0.587, 0.114];
const CB_SCALE = 2 * (1 - BLUE);
const CR_SCALE = 2 * (1 - RED);

// Returns the sides scaled. A half is rounded to the even number, as Python does.
export const scaleSides = (sides, scale) => sides.map((side) => {
  const up = Math.round(scale * side);
  return Math.max(1, up - scale * side === 0.5 && up % 2 ? up - 1 : up);
});

// Returns pixels (Uint8Array) scaled down to means of areas, as OpenCV's INTER_AREA.
export const shrink = (pixels, height, width, newHeight, newWidth) => {
  if (newHeight === height && newWidth === width) return pixels;
  const [down, across] = [height / newHeight, width / newWidth];
  const result = new Uint8Array(newHeight * newWidth);
  const line = new Float64Array(newWidth), sums = new Float64Array(newWidth);
  // For each new column: its first whole pixel, the end of its whole pixels, and the
  // shares of the pixels before and after them.
  const spans = Array.from({length: newWidth}, (_, column) => {
    const [start, end] = [column * across, Math.min(width, (column + 1) * across)];
    const [first, last] = [Math.ceil(start - 1e-9), Math.floor(end + 1e-9)];
    return [first, last, Math.max(0, first - start), Math.max(0, end - last)];
  });
  let bottom = down;
  for (let row = 0, newRow = 0; row < height; row += 1) {
    const at = row * width;
    for (let column = 0; column < newWidth; column += 1) {
      const [first, last, before, after] = spans[column];
      let sum = 0;
      for (let x = at + first; x < at + last; x += 1) sum += pixels[x];
      if (before > 1e-9) sum += before * pixels[at + first - 1];
      if (after > 1e-9) sum += after * pixels[at + last];
      line[column] = sum;
    }
    const share = Math.min(1, bottom - row); // the part of this row in the new row
    for (let column = 0; column < newWidth; column += 1) sums[column] += share * line[column];
    if (row + 1 < bottom - 1e-9 && row + 1 < height) continue;
    const out = newRow * newWidth;
    for (let column = 0; column < newWidth; column += 1) {
      result[out + column] = Math.round(sums[column] / (down * across));
      sums[column] = (1 - share) * line[column];
    }
    newRow += 1;
    bottom += down;
  }
  return result;
};

// Returns the [height, width] of slope and offset for that of the network's input.
export const fitShape = (height, width) => [Math.ceil(height / 2), Math.ceil(width / 2)];

// Returns the two old pixels around each new pixel, and the share of the second one.
const between = (old, length) => {
  const [left, right, share] = [new Int32Array(length), new Int32Array(length), new Float32Array(length)];
  for (let at = 0; at < length; at += 1) {
    const place = Math.min(old - 1, Math.max(0, ((at + 0.5) * old) / length - 0.5));
    left[at] = Math.floor(place);
    right[at] = Math.min(old - 1, left[at] + 1);
    share[at] = place - left[at];
  }
  return {left, right, share};
};

// Returns a function: row -> slopes and offsets of Cb and Cr, each as long as the row.
const stretch = ({data, rows, columns}, height, width) => {
  const [down, across] = [between(rows, height), between(columns, width)];
  const short = new Float32Array(columns);
  const lines = Array.from({length: 4}, () => new Float32Array(width));
  return (row) => {
    const [above, below, near] = [down.left[row], down.right[row], down.share[row]];
    for (let plane = 0; plane < 4; plane += 1) {
      const [one, other] = [above, below].map((each) => (plane * rows + each) * columns);
      for (let x = 0; x < columns; x += 1) {
        short[x] = data[one + x] + near * (data[other + x] - data[one + x]);
      }
      const line = lines[plane], {left, right, share} = across;
      for (let x = 0; x < width; x += 1) {
        const start = short[left[x]];
        line[x] = start + share[x] * (short[right[x]] - start);
      }
    }
    return lines;
  };
};

// Returns the factor, at most 1, by which the offsets of red, green and blue from the luma
// fit between `below` and `above`.
const room = (below, above, red, green, blue) => {
  const highest = Math.max(red, green, blue) + 1e-6;
  const lowest = Math.min(red, green, blue) - 1e-6;
  return Math.min(1, above / highest, -below / lowest);
};

// Returns `paintRows(rgba, top, bottom)`, which paints rows of a gray photo into RGBA.
export const paint = (luma, height, width, fit) => {
  const lines = stretch(fit, height, width);
  return (rgba, top, bottom) => {
    for (let row = top, at = 0, out = 0; row < bottom; row += 1) {
      at = row * width;
      const [cbSlope, crSlope, cbOffset, crOffset] = lines(row);
      for (let x = 0; x < width; x += 1, at += 1, out += 4) {
        const level = luma[at];
        const red = CR_SCALE * (crSlope[x] * level + 255 * crOffset[x]);
        const blue = CB_SCALE * (cbSlope[x] * level + 255 * cbOffset[x]);
        const green = -(RED * red + BLUE * blue) / GREEN;
        const factor = room(level, 255 - level, red, green, blue);
        rgba[out] = level + factor * red;
        rgba[out + 1] = level + factor * green;
        rgba[out + 2] = level + factor * blue;
      }
    }
  };
};

// Returns the same for a JPEG, which has one chroma for four pixels. The chroma fits the
// brightest and the darkest of these and of their neighbors, so that no decoder leaves the
// range of RGB.
export const paintPlanes = (luma, height, width, fit) => {
  const half = Math.ceil(width / 2);
  const lines = stretch(fit, Math.ceil(height / 2), half);
  const [low, high, mean] = Array.from({length: 3}, () => new Uint8Array(half));
  const [lowest, highest] = Array.from({length: 2}, () => new Uint8Array(width + 3));
  const clamp = (row) => Math.min(height - 1, Math.max(0, row)) * width;
  const measure = (row) => { // `row` is even
    const above = clamp(row - 1), one = clamp(row), other = clamp(row + 1), below = clamp(row + 2);
    for (let x = 0; x < width; x += 1) {
      const a = luma[above + x], b = luma[one + x], c = luma[other + x], d = luma[below + x];
      lowest[x + 1] = Math.min(a, b, c, d);
      highest[x + 1] = Math.max(a, b, c, d);
    }
    for (const line of [lowest, highest]) {
      line[0] = line[1];
      line[width + 1] = line[width + 2] = line[width];
    }
    for (let x = 0, at = 0; x < half; x += 1, at += 2) {
      const next = Math.min(width - 1, at + 1);
      low[x] = Math.min(lowest[at], lowest[at + 1], lowest[at + 2], lowest[at + 3]);
      high[x] = Math.max(highest[at], highest[at + 1], highest[at + 2], highest[at + 3]);
      mean[x] = (luma[one + at] + luma[one + next] + luma[other + at] + luma[other + next] + 2) >> 2;
    }
  };
  // `top` is even.
  return (rgba, top, bottom) => {
    for (let row = top; row < bottom; row += 2) {
      measure(row);
      const [cbSlope, crSlope, cbOffset, crOffset] = lines(row / 2);
      for (let x = 0; x < half; x += 1) {
        let red = CR_SCALE * (crSlope[x] * mean[x] + 255 * crOffset[x]);
        let blue = CB_SCALE * (cbSlope[x] * mean[x] + 255 * cbOffset[x]);
        let green = -(RED * red + BLUE * blue) / GREEN;
        const factor = room(low[x], 255 - high[x], red, green, blue);
        red = CR_SCALE * Math.round((factor * red) / CR_SCALE);
        blue = CB_SCALE * Math.round((factor * blue) / CB_SCALE);
        green = -(RED * red + BLUE * blue) / GREEN;
        for (let y = row; y < Math.min(bottom, row + 2); y += 1) {
          for (let column = 2 * x; column < Math.min(width, 2 * x + 2); column += 1) {
            const level = luma[y * width + column];
            const out = 4 * ((y - top) * width + column);
            rgba[out] = level + red;
            rgba[out + 1] = level + green;
            rgba[out + 2] = level + blue;
          }
        }
      }
    }
  };
};
