// The hint editor: colours that a person sets, as dots on the photo.
//
// It runs once, as a function of Gradio's: `element` is its place in the page,
// `props.value` what it and the service tell each other (see editor.py), and
// `trigger("input")` has the full-size photo made again.

// So long after the last change, in milliseconds.
const SETTLE = 600;
const STEP = 0.01;
const ARROWS = {
  ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
};
// A few colours that are hard to find by hand. A browser shows them in its picker.
const SWATCHES = [
  "#808080", "#d8a88c", "#b07850", "#6b4530", "#8fb4dd", "#5f8a3c", "#9a4f3a", "#7a5638",
];

const words = props.texts[navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en"];
element.innerHTML = `
  <details hidden>
    <summary>${words.title}</summary>
    <p>${words.help}</p>
    <div class="tools">
      <label>${words.color} <input type="color" class="color" value="#2e5d34"
        list="swatches"></label>
      <datalist id="swatches"><option>${SWATCHES.join("<option>")}</datalist>
      <button type="button" class="pick" aria-pressed="false">${words.pick}</button>
      <button type="button" class="undo">${words.undo}</button>
      <button type="button" class="redo">${words.redo}</button>
    </div>
    <div class="stage" tabindex="-1"><img alt="${words.photo}" draggable="false"></div>
    <p class="status" role="status"></p>
    <ol class="list" aria-label="${words.list}"></ol>
    <div class="tools">
      <button type="button" class="add">${words.add}</button>
      <button type="button" class="clear">${words.clear}</button>
      <button type="button" class="save">${words.save}</button>
      <button type="button" class="load">${words.load}</button>
      <input type="file" class="file" accept=".json,application/json" hidden>
    </div>
  </details>`;
const find = (selector) => element.querySelector(selector);
const [details, stage, image, list] = ["details", ".stage", "img", ".list"].map(find);
const [color, pick, undo, redo] = [".color", ".pick", ".undo", ".redo"].map(find);
const [clear, save, status, file] = [".clear", ".save", ".status", ".file"].map(find);

let photos = [], chosen = 0, strength = 1;
// What was changed last, and whether the full-size photos have been made with it.
let version = 0, timer = 0;
// What is to be said beside the small result.
let remark = "";
// By photo, for as long as the page is open: hints now, before, after, and as saved.
const histories = new Map();

const photo = () => photos[chosen];
const historyOf = ({source}) => {
  if (!histories.has(source)) histories.set(source, {past: [], hints: [], future: []});
  return histories.get(source);
};
const hints = () => historyOf(photo()).hints;
const clamp = (fraction) => Math.round(1e4 * Math.min(1, Math.max(0, fraction))) / 1e4;
const percent = (fraction) => Math.round(1e3 * fraction) / 10;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const say = (text) => { status.textContent = text; };
const luma = (hex) => [0.299, 0.587, 0.114].reduce(
  (sum, weight, at) => sum + weight * parseInt(hex.slice(1 + 2 * at, 3 + 2 * at), 16) / 255, 0,
);

// --- Changes

// Shows hints without noting them: a dot on its way.
const draft = (changed) => {
  historyOf(photo()).hints = changed;
  remark = "";
  render();
  preview();
};

// Notes that the hints, whatever they are by now, were others before.
const commit = (before) => {
  const history = historyOf(photo());
  history.past.push(before);
  history.future = [];
  renderButtons();
  settle();
};

const change = (changed) => {
  if (changed.length > props.most) {
    say(fill(words.too_many, {most: props.most}));
    return;
  }
  const before = hints();
  draft(changed);
  commit(before);
};

const edit = (index, changes) =>
  hints().map((hint, at) => (at === index ? {...hint, ...changes} : hint));

const remove = (index) => {
  change(hints().filter((_, at) => at !== index));
  (stage.querySelectorAll(".dot")[Math.max(0, index - 1)] ?? find(".add")).focus();
};

const step = (from, to) => {
  const history = historyOf(photo());
  if (!history[from].length) return;
  history[to].push(history.hints);
  draft(history[from].pop());
  if (document.activeElement === document.body) stage.focus({preventScroll: true});
  settle();
};

// --- What is shown

const sync = (parent, selector, make) => {
  const count = hints().length;
  const children = () => parent.querySelectorAll(selector);
  while (children().length > count) parent.lastElementChild.remove();
  while (children().length < count) parent.append(make(children().length));
  return [...children()];
};

const renderButtons = () => {
  const {past, hints: now, future} = historyOf(photo());
  undo.disabled = !past.length;
  redo.disabled = !future.length;
  clear.disabled = save.disabled = !now.length;
};

const render = () => {
  const now = hints();
  sync(stage, ".dot", makeDot).forEach((dot, index) => {
    const hint = now[index];
    dot.style.left = `${100 * hint.x}%`;
    dot.style.top = `${100 * hint.y}%`;
    dot.style.background = hint.color;
    dot.style.color = luma(hint.color) > 0.5 ? "black" : "white";
    dot.ariaLabel = fill(words.dot, {number: index + 1, color: hint.color});
  });
  sync(list, "li", makeRow).forEach((row, index) => {
    const {x, y, color: own} = now[index];
    const shown = {color: own, x: percent(x), y: percent(y)};
    for (const input of row.querySelectorAll("input")) {
      if (input !== document.activeElement) input.value = shown[input.name];
    }
  });
  renderButtons();
};

const makeDot = (index) => {
  const dot = document.createElement("button");
  dot.type = "button";
  dot.className = "dot";
  dot.textContent = index + 1;
  dot.addEventListener("click", (event) => event.stopPropagation());
  dot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const before = hints();
    dot.setPointerCapture(event.pointerId);
    const move = (moved) => draft(edit(index, placeOf(moved)));
    const end = () => {
      dot.removeEventListener("pointermove", move);
      if (hints() !== before) commit(before);
    };
    dot.addEventListener("pointermove", move);
    dot.addEventListener("lostpointercapture", end, {once: true});
  });
  dot.addEventListener("keydown", (event) => {
    if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key], hint = hints()[index];
      change(edit(index, {x: clamp(hint.x + x), y: clamp(hint.y + y)}));
    } else if (event.key === "Delete" || event.key === "Backspace") {
      remove(index);
    } else {
      return;
    }
    event.preventDefault();
  });
  return dot;
};

const makeRow = (index) => {
  const row = document.createElement("li");
  row.innerHTML = `
    <span class="number">${index + 1}</span>
    <input type="color" name="color" aria-label="${words.color} ${index + 1}">
    <label title="${words.x}">← <input type="number" name="x" min="0" max="100" step="0.1"
      aria-label="${words.x} ${index + 1}"></label>
    <label title="${words.y}">↑ <input type="number" name="y" min="0" max="100" step="0.1"
      aria-label="${words.y} ${index + 1}"></label>
    <button type="button" aria-label="${words.remove} ${index + 1}">✕</button>`;
  let before = null;
  row.addEventListener("input", ({target: {name, value}}) => {
    if (name !== "color") return;
    before ??= hints();
    draft(edit(index, {color: value}));
  });
  row.addEventListener("change", ({target}) => {
    const {name, value} = target;
    if (name === "color") {
      if (before) commit(before);
      before = null;
    } else {
      if (value !== "") change(edit(index, {[name]: clamp(value / 100)}));
      target.value = percent(hints()[index][name]);
    }
  });
  row.querySelector("button").addEventListener("click", () => remove(index));
  return row;
};

// --- The small result, and the large one

let asking = false, askAgain = false;
const preview = async () => {
  if (!details.open || !photo()) return;
  stage.ariaBusy = "true";
  askAgain = true;
  if (asking) return;
  asking = true;
  while (askAgain && photo()) {
    askAgain = false;
    const asked = photo();
    const form = new FormData();
    form.set("photo", asked.preview);
    form.set("strength", strength);
    form.set("hints", JSON.stringify(hints()));
    try {
      const response = await fetch("page/preview", {method: "POST", body: form});
      if (!response.ok) {
        say({404: words.gone, 503: words.full}[response.status] ?? words.failed);
      } else if (asked.preview === photo()?.preview) {
        await show(await response.blob());
        say(remark);
      }
    } catch {
      say(words.failed);
    }
  }
  asking = false;
  stage.ariaBusy = "false";
};

const show = async (blob) => {
  const old = image.src;
  image.src = URL.createObjectURL(blob);
  await image.decode();
  stage.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  URL.revokeObjectURL(old);
};

const publish = () => {
  const all = photos.map((each) => [each.source, historyOf(each).hints]);
  const set = Object.fromEntries(all.filter(([, own]) => own.length));
  props.value = {hints: set, version};
};

// Nobody is to download a photo that lacks the last change.
const setDownloadable = (downloadable) => {
  const button = document.querySelector("#download");
  if (button) button.inert = !downloadable;
};

const settle = () => {
  version += 1;
  setDownloadable(false);
  publish();
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = 0;
    trigger("input");
  }, SETTLE);
};

watch("value", () => {
  const told = props.value;
  const before = photo()?.preview, strengthBefore = strength;
  ({photos, chosen, strength} = {photos, chosen, strength, ...told});
  details.hidden = !photo();
  publish();
  if (told.made === version) setDownloadable(true);
  else if ("made" in told && !timer) settle();
  if (!photo()) return;
  render();
  if (photo().preview !== before || strength !== strengthBefore) preview();
});

// --- Hands and keys

const placeOf = (event) => {
  const box = image.getBoundingClientRect();
  return {
    x: clamp((event.clientX - box.left) / box.width),
    y: clamp((event.clientY - box.top) / box.height),
  };
};

const setPicking = (picking) => {
  pick.ariaPressed = picking;
  stage.classList.toggle("picking", picking);
};

// The mean of a few pixels: a single one may be a speck.
const colorAt = ({x, y}) => {
  const drawing = document.createElement("canvas").getContext("2d");
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const side = Math.min(5, width, height);
  const left = Math.min(Math.max(0, Math.floor(x * width - side / 2)), width - side);
  const top = Math.min(Math.max(0, Math.floor(y * height - side / 2)), height - side);
  drawing.drawImage(image, -left, -top);
  const {data} = drawing.getImageData(0, 0, side, side);
  const hex = [0, 1, 2].map((channel) => {
    const levels = data.filter((_, at) => at % 4 === channel);
    const mean = Math.round(levels.reduce((sum, level) => sum + level, 0) / levels.length);
    return mean.toString(16).padStart(2, "0");
  });
  return `#${hex.join("")}`;
};

stage.addEventListener("click", (event) => {
  if (!image.naturalWidth) return;
  const place = placeOf(event);
  if (pick.ariaPressed === "true") {
    color.value = colorAt(place);
    setPicking(false);
  } else {
    const room = luma(colorAt(place));
    change([...hints(), {...place, color: color.value}]);
    if (room < 0.04) remark = words.too_dark;
    if (room > 0.96) remark = words.too_bright;
  }
});
pick.addEventListener("click", () => setPicking(pick.ariaPressed !== "true"));
find(".add").addEventListener("click", () => {
  change([...hints(), {x: 0.5, y: 0.5, color: color.value}]);
  [...stage.querySelectorAll(".dot")].at(-1)?.focus();
});
undo.addEventListener("click", () => step("past", "future"));
redo.addEventListener("click", () => step("future", "past"));
clear.addEventListener("click", () => change([]));
details.addEventListener("toggle", preview);
details.addEventListener("keydown", (event) => {
  if (event.key === "Escape") setPicking(false);
  if (event.target.type === "number" || !(event.ctrlKey || event.metaKey)) return;
  const key = event.key.toLowerCase();
  if (key === "z") step(...(event.shiftKey ? ["future", "past"] : ["past", "future"]));
  else if (key === "y") step("future", "past");
  else return;
  event.preventDefault();
});

// --- Files

save.addEventListener("click", () => {
  const lines = hints().map((hint) => `  ${JSON.stringify(hint)}`);
  const blob = new Blob([`[\n${lines.join(",\n")}\n]\n`], {type: "application/json"});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${photo().name.replace(/\.[^.]*$/, "")}.hints.json`;
  link.click();
  URL.revokeObjectURL(link.href);
  historyOf(photo()).saved = hints();
});
window.addEventListener("beforeunload", (event) => {
  const isUnsaved = ({hints: own, saved}) => own.length && own !== saved;
  if ([...histories.values()].some(isUnsaved)) event.preventDefault();
});

const isHint = (entry) =>
  [entry?.x, entry?.y].every((place) => typeof place === "number" && place >= 0 && place <= 1)
  && /^#[0-9a-f]{6}$/i.test(entry.color) && Object.keys(entry).length === 3;

find(".load").addEventListener("click", () => file.click());
file.addEventListener("change", async () => {
  const [chosenFile] = file.files;
  if (!chosenFile) return;
  let loaded = null;
  try {
    loaded = JSON.parse(await chosenFile.text());
  } catch { /* said below */ }
  file.value = "";
  const entries = Array.isArray(loaded) ? loaded : [null];
  const wrong = entries.findIndex((entry) => !isHint(entry));
  if (wrong >= 0) {
    const text = entries.length > 1 ? words.wrong_entry : words.no_hints;
    say(fill(text, {name: chosenFile.name, number: wrong + 1}));
    return;
  }
  say("");
  change(entries.map(({x, y, color: own}) => ({x, y, color: own.toLowerCase()})));
  if (entries.length === hints().length) historyOf(photo()).saved = hints();
});
