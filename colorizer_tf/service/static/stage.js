// The stage: one photo, gray and in color, as large as the window allows.
//
// It places pictures and dots, and sends events: "tap" (place), "double" (place), "move"
// and "moved" (a dot's index and place), "dot" (a dot was chosen), "nudge" and "delete" (a
// dot, by key), "zoom", "compare".

import {t} from "./texts.js";

const LARGEST = 12;
const STEP = 0.01;
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const SLIP = 6; // the most pixels that a finger moves in a tap
const DOUBLE = {milliseconds: 350, pixels: 24};
const find = (selector) => document.querySelector(selector);
const between = (low, value, high) => Math.min(high, Math.max(low, value));
const round = (fraction) => Math.round(1e4 * between(0, fraction, 1)) / 1e4;
const brightness = (hex) =>
  [0.299, 0.587, 0.114].reduce(
    (sum, weight, at) => sum + (weight * parseInt(hex.slice(1 + 2 * at, 3 + 2 * at), 16)) / 255,
    0,
  );

// Returns the mean of a few pixels as "#rrggbb", because a single one may be a speck.
const colourAt = (image, {x, y}) => {
  const drawing = document.createElement("canvas").getContext("2d");
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const side = Math.min(5, width, height);
  const left = between(0, Math.floor(x * width - side / 2), width - side);
  const top = between(0, Math.floor(y * height - side / 2), height - side);
  drawing.drawImage(image, -left, -top);
  const {data} = drawing.getImageData(0, 0, side, side);
  const hex = [0, 1, 2].map((channel) => {
    const levels = data.filter((_, at) => at % 4 === channel);
    const mean = levels.reduce((sum, level) => sum + level, 0) / levels.length;
    return Math.round(mean).toString(16).padStart(2, "0");
  });
  return `#${hex.join("")}`;
};

export class Stage extends EventTarget {
  box = find("#stage");
  picture = find("#picture");
  images = {gray: find("#gray"), colour: find("#colour")};
  dots = find("#dots");
  divider = find("#divider");
  handle = find("#handle");
  split = 0.5;
  comparing = false;
  zoom = 1;
  #center = {x: 0.5, y: 0.5};
  #shown = {gray: null, colour: null};
  #shows = 0;
  #pointers = new Map();
  #gesture = null;
  #lastTap = null;

  constructor() {
    super();
    new ResizeObserver(() => this.layout()).observe(this.box);
    this.#listenToHands();
    this.#listenToKeys();
    this.#listenToDivider();
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, {detail}));
  }

  // --- Pictures

  reset() {
    this.zoom = 1;
    this.#center = {x: 0.5, y: 0.5};
    this.layout();
  }

  // Shows blobs, or nothing; unchanged pictures are not loaded again.
  async show({gray, colour, name}) {
    this.images.gray.alt = name ? t("gray_alt", {name}) : "";
    this.images.colour.alt = name ? t("colour_alt", {name}) : "";
    this.picture.hidden = !gray;
    const number = (this.#shows += 1);
    this.picture.ariaBusy = true;
    await Promise.all([this.#load("gray", gray), this.#load("colour", colour)]);
    if (number === this.#shows) this.picture.ariaBusy = false;
    this.layout();
  }

  async #load(which, blob) {
    const image = this.images[which];
    if (this.#shown[which] === blob) return;
    this.#shown[which] = blob;
    if (!blob) {
      image.hidden = true;
      return;
    }
    const next = new Image();
    next.src = URL.createObjectURL(blob);
    await next.decode().catch(() => {});
    if (this.#shown[which] !== blob) {
      URL.revokeObjectURL(next.src);
      return;
    }
    URL.revokeObjectURL(image.src);
    image.src = next.src;
    image.hidden = false;
    await image.decode().catch(() => {});
  }

  colourAt(place) {
    return colourAt(this.images.colour.hidden ? this.images.gray : this.images.colour, place);
  }

  brightnessAt(place) {
    return brightness(colourAt(this.images.gray, place));
  }

  // --- Layout

  #sizes() {
    const {clientWidth: width, clientHeight: height} = this.box;
    const {naturalWidth: w, naturalHeight: h} = this.images.gray;
    const fit = Math.min(width / w, height / h);
    return {width, height, w: w * fit * this.zoom, h: h * fit * this.zoom};
  }

  layout() {
    if (this.picture.hidden || !this.images.gray.naturalWidth) {
      this.divider.hidden = true;
      return;
    }
    const {width, height, w, h} = this.#sizes();
    // A picture that is larger than the stage fills it.
    const half = {x: Math.min(0.5, width / w / 2), y: Math.min(0.5, height / h / 2)};
    const x = between(half.x, this.#center.x, 1 - half.x);
    const y = between(half.y, this.#center.y, 1 - half.y);
    this.#center = {x, y};
    const [left, top] = [width / 2 - x * w, height / 2 - y * h];
    Object.assign(this.picture.style, {
      width: `${w}px`, height: `${h}px`, left: `${left}px`, top: `${top}px`,
    });
    this.divider.hidden = !this.comparing || this.images.colour.hidden;
    this.divider.style.left = `${100 * this.split}%`;
    const hidden = this.comparing ? between(0, (this.split * width - left) / w, 1) : 0;
    this.images.colour.style.clipPath = `inset(0 0 0 ${100 * hidden}%)`;
    this.handle.ariaValueNow = Math.round(100 * this.split);
    this.tell("zoom");
  }

  #placeOf({clientX, clientY}) {
    const box = this.picture.getBoundingClientRect();
    return {x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height};
  }

  // The middle of the visible part.
  get middle() {
    return {x: round(this.#center.x), y: round(this.#center.y)};
  }

  isGrayAt(place) {
    const box = this.picture.getBoundingClientRect();
    const edge = this.box.getBoundingClientRect().left + this.split * this.box.clientWidth;
    return this.comparing && box.left + place.x * box.width < edge;
  }

  zoomBy(factor, at = null) {
    if (this.picture.hidden) return;
    const before = at && this.#placeOf(at);
    this.zoom = between(1, this.zoom * factor, LARGEST);
    this.layout();
    if (!before) return;
    const after = this.#placeOf(at); // the place under the finger stays there
    this.#center.x += before.x - after.x;
    this.#center.y += before.y - after.y;
    this.layout();
  }

  panBy(x, y) {
    if (this.picture.hidden) return;
    const {w, h} = this.#sizes();
    this.#center = {x: this.#center.x - x / w, y: this.#center.y - y / h};
    this.layout();
  }

  compare(comparing) {
    this.comparing = comparing;
    this.layout();
    this.tell("compare");
  }

  // --- Pointers

  #listenToHands() {
    const {box} = this;
    box.addEventListener("pointerdown", (event) => {
      if (event.button || event.target.closest(".dot, #divider") || this.picture.hidden) return;
      box.setPointerCapture(event.pointerId);
      if (!this.#pointers.size) this.#gesture = {start: event, moved: false};
      this.#pointers.set(event.pointerId, event);
      if (this.#pointers.size > 1) this.#gesture.moved = true;
    });
    box.addEventListener("pointermove", (event) => {
      if (!this.#pointers.has(event.pointerId)) return;
      this.#drag(event);
      this.#pointers.set(event.pointerId, event);
    });
    const end = (event) => {
      if (!this.#pointers.delete(event.pointerId) || this.#pointers.size) return;
      if (event.type === "pointerup" && !this.#gesture.moved) this.#tap(event);
    };
    box.addEventListener("pointerup", end);
    box.addEventListener("pointercancel", end);
    box.addEventListener("wheel", (event) => {
      if (this.picture.hidden) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event);
    }, {passive: false});
  }

  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    const other = [...this.#pointers.values()].find(({pointerId}) => pointerId !== event.pointerId);
    const {start} = this.#gesture;
    const way = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
    if (way > SLIP) this.#gesture.moved = true;
    if (!this.#gesture.moved) return;
    const share = other ? 0.5 : 1; // one of two fingers moves their middle half as far
    this.panBy(share * (event.clientX - before.clientX), share * (event.clientY - before.clientY));
    if (!other) return;
    const distance = ({clientX, clientY}) =>
      Math.hypot(clientX - other.clientX, clientY - other.clientY);
    const middle = {
      clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2,
    };
    this.zoomBy(distance(event) / Math.max(1, distance(before)), middle);
  }

  #isDouble(event) {
    const last = this.#lastTap;
    return last && event.timeStamp - last.timeStamp < DOUBLE.milliseconds
      && Math.hypot(event.clientX - last.clientX, event.clientY - last.clientY) < DOUBLE.pixels;
  }

  #tap(event) {
    const place = this.#placeOf(event);
    if (place.x < 0 || place.x > 1 || place.y < 0 || place.y > 1) return;
    const isDouble = this.#isDouble(event);
    this.#lastTap = event;
    if (!isDouble) {
      this.tell("tap", {x: round(place.x), y: round(place.y)});
      return;
    }
    this.#lastTap = null;
    this.tell("double");
    this.zoomBy(this.zoom > 1 ? 1 / this.zoom : 3, event);
  }

  // --- Keys

  #listenToKeys() {
    this.box.addEventListener("keydown", (event) => {
      if (event.target !== this.box || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in ARROWS) {
        const [x, y] = ARROWS[event.key];
        this.panBy(-60 * x, -60 * y);
      } else if (event.key === "+" || event.key === "=") {
        this.zoomBy(1.5);
      } else if (event.key === "-") {
        this.zoomBy(1 / 1.5);
      } else if (event.key === "0") {
        this.reset();
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  #listenToDivider() {
    const move = (fraction) => {
      this.split = between(0, fraction, 1);
      this.layout();
    };
    let start = null; // of a possible tap; null on the handle and during a drag
    this.divider.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      start = event.target === this.divider ? event : null;
      this.handle.focus({preventScroll: true});
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener("pointermove", (event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      const way = start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
      if (start && way < SLIP) return;
      start = null;
      const box = this.box.getBoundingClientRect();
      move((event.clientX - box.left) / box.width);
    });
    // The line often runs through a face, so a tap on it is a tap on the photo.
    this.divider.addEventListener("pointerup", (event) => start && this.#tap(event));
    this.handle.addEventListener("keydown", (event) => {
      const steps = {ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05};
      if (event.key in steps) move(this.split + steps[event.key]);
      else if (event.key === "Home") move(0);
      else if (event.key === "End") move(1);
      else return;
      event.preventDefault();
    });
  }

  // --- Dots

  showDots(hints, chosen) {
    while (this.dots.children.length > hints.length) this.dots.lastChild.remove();
    while (this.dots.children.length < hints.length) {
      this.dots.append(this.#makeDot(this.dots.children.length));
    }
    hints.forEach(({x, y, color}, index) => {
      const dot = this.dots.children[index];
      dot.style.left = `${100 * x}%`;
      dot.style.top = `${100 * y}%`;
      dot.style.background = color;
      dot.style.color = brightness(color) > 0.5 ? "black" : "white";
      dot.ariaLabel = t("dot", {number: index + 1, color});
      dot.ariaPressed = index === chosen;
    });
  }

  focusDot(index) {
    (this.dots.children[index] ?? this.box).focus({preventScroll: true});
  }

  #makeDot(index) {
    const dot = document.createElement("button");
    dot.type = "button";
    dot.className = "dot";
    dot.textContent = index + 1;
    dot.addEventListener("click", () => this.tell("dot", index));
    dot.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      // The second tap of a double tap hits the dot that the first one set.
      if (this.#isDouble(event)) this.#tap(event);
      else this.#dragDot(dot, index, event);
    });
    dot.addEventListener("keydown", (event) => {
      if (event.key in ARROWS) {
        const [x, y] = ARROWS[event.key];
        this.tell("nudge", {index, x: STEP * x, y: STEP * y});
      } else if (event.key === "Delete" || event.key === "Backspace") {
        this.tell("delete", index);
      } else {
        return;
      }
      event.preventDefault();
    });
    return dot;
  }

  #dragDot(dot, index, start) {
    dot.setPointerCapture(start.pointerId);
    let moved = false;
    const move = (event) => {
      const way = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
      if (!moved && way < SLIP / 2) return;
      moved = true;
      const {x, y} = this.#placeOf(event);
      this.tell("move", {index, x: round(x), y: round(y)});
    };
    dot.addEventListener("pointermove", move);
    dot.addEventListener("lostpointercapture", () => {
      dot.removeEventListener("pointermove", move);
      if (moved) this.tell("moved", index);
    }, {once: true});
  }
}
