// The panel: the color to set, the strength, and the dots as a list for the keyboard.
//
// Events: "colour" (a color was picked), "strength" (the slider moves), "strengths" (the
// slider was released), "edit" (a dot's index and changes), "edited" (the edit has ended),
// "delete" (a dot's index), "likely" (a likely color was picked).

import {t} from "./texts.js";

const SWATCHES = {
  skin_fair: "#e3b899", skin: "#c68863", skin_dark: "#7a4b32", hair_fair: "#c9a66b",
  hair_brown: "#5a3c28", wood: "#8a5a34", brick: "#9a4f3a", red: "#a8322d",
  grass: "#6f9440", leaves: "#3f6b3a", sky: "#8fb4dd", water: "#4f7d8f",
  field_gray: "#5f6658", khaki: "#8a7b52", navy: "#2f3f5f", gray: "#808080",
};
const find = (selector) => document.querySelector(selector);
const percent = (fraction) => Math.round(1000 * fraction) / 10;
const fraction = (text) => Math.round(100 * Math.min(100, Math.max(0, text))) / 1e4;

const makeSwatch = (colour, act) => {
  const swatch = document.createElement("button");
  swatch.type = "button";
  swatch.dataset.colour = colour;
  swatch.style.background = colour;
  swatch.addEventListener("click", act);
  return swatch;
};

export class Panel extends EventTarget {
  input = find("#colour-input");
  pick = find("#pick-button");
  range = find("#strength");
  rows = find("#dot-list ol");

  constructor() {
    super();
    for (const [name, colour] of Object.entries(SWATCHES)) {
      const swatch = makeSwatch(colour, () => this.setColour(colour, true));
      swatch.dataset.label = name;
      find("#swatches").append(swatch);
    }
    this.input.addEventListener("input", () => this.setColour(this.input.value, true));
    this.pick.addEventListener("click", () => this.setPicking(!this.picking));
    this.range.addEventListener("input", () => {
      this.showStrength(this.range.value / 100);
      this.tell("strength", this.range.value / 100);
    });
    this.range.addEventListener("change", () => this.tell("strengths"));
    this.setColour(this.input.value);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, {detail}));
  }

  get colour() {
    return this.input.value;
  }

  setColour(colour, told = false) {
    this.input.value = colour;
    for (const swatch of find("#swatches").children) {
      swatch.ariaPressed = swatch.dataset.colour === colour;
    }
    if (told) this.tell("colour", colour);
  }

  // Shows the likely colors of the chosen dot; an empty list hides them.
  showLikely(colours) {
    find("#likely").hidden = !colours.length;
    find("#likely .swatches").replaceChildren(...colours.map((colour) => {
      const swatch = makeSwatch(colour, () => {
        this.setColour(colour);
        this.tell("likely", colour);
      });
      swatch.ariaLabel = swatch.title = colour;
      return swatch;
    }));
  }

  get picking() {
    return this.pick.ariaPressed === "true";
  }

  setPicking(picking) {
    this.pick.ariaPressed = picking;
    document.body.classList.toggle("picking", picking);
    find("#help").textContent = t(picking ? "pick_help" : "help");
  }

  showStrength(strength) {
    this.range.value = Math.round(100 * strength);
    find("#strength-shown").textContent = `${this.range.value} %`;
  }

  showDots(hints) {
    const {rows} = this;
    while (rows.children.length > hints.length) rows.lastChild.remove();
    while (rows.children.length < hints.length) rows.append(this.#makeRow());
    find("#dot-count").textContent = hints.length || "";
    hints.forEach(({x, y, color}, index) => {
      const number = index + 1;
      const shown = {color, x: percent(x), y: percent(y)};
      for (const input of rows.children[index].querySelectorAll("input")) {
        if (input !== document.activeElement) input.value = shown[input.name];
        input.ariaLabel = t(input.name === "color" ? "dot_colour" : `dot_${input.name}`, {number});
      }
      const remove = rows.children[index].querySelector("button");
      remove.ariaLabel = remove.title = t("dot_remove", {number});
    });
  }

  #makeRow() {
    const row = document.createElement("li");
    row.innerHTML = `<input type="color" name="color">
      <label>← <input type="number" name="x" min="0" max="100" step="0.1"></label>
      <label>↑ <input type="number" name="y" min="0" max="100" step="0.1"></label>
      <button type="button" class="icon"><svg><use href="#remove"/></svg></button>`;
    const index = () => [...this.rows.children].indexOf(row);
    row.addEventListener("input", ({target: {name, value}}) => {
      if (name === "color") this.tell("edit", {index: index(), color: value});
    });
    row.addEventListener("change", ({target: {name, value}}) => {
      if (name !== "color" && value !== "") {
        this.tell("edit", {index: index(), [name]: fraction(value)});
      }
      this.tell("edited", index());
    });
    row.querySelector("button").addEventListener("click", () => this.tell("delete", index()));
    return row;
  }
}
