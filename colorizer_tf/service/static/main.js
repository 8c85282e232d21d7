// The page: connects the stage, the strip and the panel.

import * as downloads from "./downloads.js";
import * as engine from "./engine.js";
import * as hintFiles from "./hints.js";
import * as intake from "./intake.js";
import {Panel} from "./panel.js";
import {Photos} from "./photos.js";
import {Stage} from "./stage.js";
import * as strip from "./strip.js";
import {language, t, use, wanted} from "./texts.js";

const EXAMPLES = ["astronaut", "cat", "coffee"];
const TOO_DARK = 0.04;
const TOO_BRIGHT = 0.96;
const SECONDS = {toRead: 4, toAct: 8}; // how long a message is shown
const find = (selector) => document.querySelector(selector);
const click = (id, act) => find(`#${id}`).addEventListener("click", act);

const photos = new Photos();
const panel = new Panel();
const stage = new Stage();
let chosen = null; // the index of a dot
let before = null; // the settings before a drag of a dot or of the slider
let stopDownload = null;

const photo = () => photos.current;
const edit = (index, change) =>
  photo().hints.map((hint, at) => (at === index ? {...hint, ...change} : hint));
const inside = (value) => Math.round(1e4 * Math.min(1, Math.max(0, value))) / 1e4;

// --- Messages

let messageTimer = 0;
const say = (text, {action = "", act = null, stay = false} = {}) => {
  const [words, button] = find("#message").children;
  clearTimeout(messageTimer);
  words.textContent = text;
  button.textContent = action;
  button.hidden = !action;
  button.onclick = act;
  find("#message").classList.toggle("shown", Boolean(text));
  const seconds = action ? SECONDS.toAct : SECONDS.toRead;
  if (text && !stay) messageTimer = setTimeout(() => say(""), 1000 * seconds);
};

const reasonFor = ({name}, code) => {
  const megabytes = Math.round((photos.limits.photo_bytes ?? 0) / 2 ** 20);
  const key = `error_${code}`;
  const words = t(key, {name, megabytes});
  return words === key ? t("error_failed", {name}) : words;
};

let waiting = false;
const wait = (code, values) => {
  if (code) say(t(code, values), {stay: true});
  else if (waiting) say(t("back"));
  waiting = Boolean(code);
};

// --- Display

const disable = (id, disabled) => {
  // `disabled` would remove the focus, and the next key would be lost.
  find(`#${id}`).ariaDisabled = disabled;
};

const showEdits = () => {
  const {hints = [], past = [], future = [], strength = 1} = photo() ?? {};
  if (chosen >= hints.length) chosen = null;
  if (chosen === null) panel.showLikely([]);
  stage.showDots(hints, chosen);
  panel.showDots(hints);
  panel.showStrength(strength);
  disable("undo-button", !past.length);
  disable("redo-button", !future.length);
  disable("clear-dots", !hints.length);
  disable("save-dots", !photos.list.some((each) => each.hints.length));
};

const showStage = async () => {
  const state = photo() ? photos.stateOf(photo()) : "";
  stage.box.dataset.state = state;
  stage.box.ariaBusy = state === "working" || state === "waiting";
  const words = state === "failed" ? reasonFor(photo(), photo().failed) : t(state);
  find("#state").textContent = photo()?.gray && state !== "failed" ? "" : words;
  await stage.show(photo() ?? {});
};

const showProgress = () => {
  const all = photos.list.length;
  const left = photos.count("waiting") + photos.count("working");
  const done = all - left;
  const idle = stopDownload || all < 2 || !left;
  find("#stop-button").hidden = !stopDownload && idle;
  if (stopDownload) return;
  find("#progress").textContent = idle
    ? "" : t(photos.paused ? "stopped" : "colouring", {done, all});
  find("#stop-button").textContent = t(photos.paused ? "go_on" : "stop");
};

const showList = () => {
  document.body.classList.toggle("empty", !photos.list.length);
  document.body.classList.toggle("several", photos.list.length > 1);
  find("#kept").textContent = t(photos.kept ? "kept_here" : "not_kept");
  strip.showList(photos, (each) => photos.choose(each));
  strip.showChoice(photo());
  showProgress();
};

const showChoice = () => {
  chosen = before = null;
  forget();
  find("#name").textContent = photo()?.name ?? "";
  stage.reset();
  showEdits();
  showStage();
  strip.showChoice(photo());
};

photos.addEventListener("list", showList);
photos.addEventListener("choice", showChoice);
photos.addEventListener("wait", ({detail}) => wait(detail));
photos.addEventListener("change", ({detail}) => {
  if (detail) strip.showPhoto(photos, detail);
  showProgress();
  if (detail !== photo() || !detail) return;
  showEdits();
  showStage();
});

// --- Suggestions and variants

let asking = new AbortController();
const forget = () => {
  asking.abort();
  asking = new AbortController();
  panel.showLikely([]);
  find("#variants").replaceChildren();
  return asking.signal;
};

// Shows nothing if the engine fails: suggestions are optional.
const consult = async (work) => {
  const signal = forget();
  if (!photos.limits.suggestions || !photo()?.gray) return;
  try {
    await work(photo(), signal);
  } catch (error) {
    if (!signal.aborted && !(error instanceof engine.EngineError)) throw error;
  }
};

const suggest = () => consult(async ({gray, hints}, signal) => {
  const {x, y} = hints[chosen];
  const others = hints.filter((_, at) => at !== chosen);
  const colours = await engine.suggest(gray, {x, y, hints: others, signal});
  if (!signal.aborted) panel.showLikely(colours);
});

click("others-button", () => consult(async (asked, signal) => {
  const {gray, hints, strength} = asked;
  const found = await engine.variants(gray, {hints, signal});
  if (found.length === 1) say(t("no_others"));
  for (const more of found.slice(1)) {
    const options = {hints: [...hints, ...more], strength, longestSide: 320, format: "jpg", signal};
    const {blob} = await engine.colorize(gray, "preview.jpg", options);
    if (signal.aborted) return;
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = t("other", {number: find("#variants").children.length + 1});
    const picture = new Image();
    picture.src = URL.createObjectURL(blob);
    picture.alt = "";
    button.append(picture);
    button.addEventListener("click", () => photos.change(asked, {hints: options.hints}));
    find("#variants").append(button);
  }
}));

panel.addEventListener("likely", ({detail: color}) => {
  if (photo()?.hints[chosen]) photos.change(photo(), {hints: edit(chosen, {color})});
});

// --- Adding and removing photos

const take = async (files) => {
  const hints = files.filter(intake.isHints);
  const added = files.filter((file) => !hints.includes(file));
  if (added.length) photos.add(added);
  else if (!hints.length) say(t("no_photos_found"));
  for (const file of hints) await loadHints(file, hints.length > 1);
};

const loadHints = async (file, many) => {
  const owner = hintFiles.photoOf(file, photos.list) ?? (many ? null : photo());
  if (!owner) {
    say(t("no_photo_for", {name: file.name}));
    return;
  }
  try {
    const hints = await hintFiles.read(file);
    if (hints.length > photos.limits.hints) {
      say(t("too_many", {most: photos.limits.hints}));
      return;
    }
    photos.change(owner, {hints});
    say(t("loaded", {count: hints.length}));
  } catch (error) {
    if (!error.key) throw error;
    say(t(error.key, error.values));
  }
};

const remove = (removed) => {
  if (!removed.length) return;
  const putBack = photos.remove(removed);
  const words = removed.length > 1
    ? t("removed_all", {count: removed.length}) : t("removed", {name: removed[0].name});
  say(words, {action: t("put_back"), act: () => { putBack(); say(""); }});
};

click("remove-button", () => photo() && remove([photo()]));
click("clear-button", () => remove(photos.list));
find("#strip").addEventListener("keydown", (event) => {
  if (event.key === "Delete" && photo()) remove([photo()]);
});

const showExamples = () => {
  find("#examples").replaceChildren(...EXAMPLES.map((name) => {
    const item = document.createElement("li");
    item.innerHTML = `<button type="button"><img src="static/examples/${name}.jpg" alt=""></button>`;
    const [button] = item.children;
    button.ariaLabel = t(`example_${name}`);
    button.addEventListener("click", async () => {
      const response = await fetch(`static/examples/${name}.jpg`);
      take([new File([await response.blob()], `${name}.jpg`, {type: "image/jpeg"})]);
    });
    return item;
  }));
};

// --- Dots

const set = (place) => {
  const {hints} = photo();
  if (hints.length >= photos.limits.hints) {
    say(t("too_many", {most: photos.limits.hints}));
    return;
  }
  // A person who sets a color in the gray half wants to see it.
  if (stage.isGrayAt(place)) stage.compare(false);
  chosen = hints.length;
  photos.change(photo(), {hints: [...hints, {...place, color: panel.colour}]});
  suggest();
  const light = stage.brightnessAt(place);
  if (light < TOO_DARK) say(t("too_dark"));
  else if (light > TOO_BRIGHT) say(t("too_bright"));
};

const removeDot = (index) => {
  photos.change(photo(), {hints: photo().hints.filter((_, at) => at !== index)});
  stage.focusDot(Math.max(0, index - 1));
};

const draft = (change) => {
  before ??= {hints: photo().hints, strength: photo().strength};
  photos.draft(photo(), change);
};
const commit = () => {
  if (before) photos.commit(photo(), before);
  before = null;
};

let added = false; // whether the last tap set a dot; a double tap takes it back
stage.addEventListener("tap", ({detail: place}) => {
  added = false;
  if (panel.picking) {
    panel.setColour(stage.colourAt(place), true);
    panel.setPicking(false);
  } else if (photos.limits.hints) {
    set(place);
    added = true;
  }
});
stage.addEventListener("double", () => {
  if (added) photos.takeBack(photo());
  added = false;
});
stage.addEventListener("move", ({detail: {index, x, y}}) => draft({hints: edit(index, {x, y})}));
stage.addEventListener("moved", commit);
stage.addEventListener("nudge", ({detail: {index, x, y}}) => {
  const hint = photo().hints[index];
  const place = {x: inside(hint.x + x), y: inside(hint.y + y)};
  photos.change(photo(), {hints: edit(index, place)});
});
stage.addEventListener("delete", ({detail}) => removeDot(detail));
stage.addEventListener("dot", ({detail: index}) => {
  if (!photo().hints[index]) return;
  if (panel.picking) {
    panel.setPicking(false);
  } else {
    chosen = index;
    suggest();
  }
  panel.setColour(photo().hints[index].color);
  showEdits();
});

panel.addEventListener("colour", ({detail: color}) => {
  // A chosen dot with the focus gets the new color.
  const own = photo()?.hints[chosen]?.color;
  if (own && own !== color && stage.dots.children[chosen].matches(":focus")) {
    photos.change(photo(), {hints: edit(chosen, {color})});
  }
});
panel.addEventListener("strength", ({detail: strength}) => photo() && draft({strength}));
panel.addEventListener("strengths", commit);
panel.addEventListener("edit", ({detail: {index, ...change}}) => draft({hints: edit(index, change)}));
panel.addEventListener("edited", () => {
  commit();
  showEdits();
});
panel.addEventListener("delete", ({detail}) => removeDot(detail));

click("strength-all", () => {
  const {strength} = photo();
  for (const each of photos.list) if (each.strength !== strength) photos.change(each, {strength});
});
click("add-dot", () => {
  set(stage.middle);
  stage.focusDot(photo().hints.length - 1);
});
click("clear-dots", () => photo().hints.length && photos.change(photo(), {hints: []}));
click("save-dots", async () => {
  const file = await hintFiles.save(photos.list);
  if (file) downloads.save(file);
});
click("load-dots", () => find("#hints").click());

// --- Bar

const undo = () => photo() && photos.undo(photo());
const redo = () => photo() && photos.redo(photo());
click("undo-button", undo);
click("redo-button", redo);
click("compare-button", () => stage.compare(!stage.comparing));
click("out-button", () => stage.zoomBy(1 / 1.5));
click("in-button", () => stage.zoomBy(1.5));
click("fit-button", () => stage.reset());
click("full-button", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
});
stage.addEventListener("zoom", () => {
  find("#fit-button").textContent = `${Math.round(100 * stage.zoom)}%`;
});
stage.addEventListener("compare", () => {
  find("#compare-button").ariaPressed = stage.comparing;
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") panel.setPicking(false);
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("[type=number]")) return;
  const key = event.key.toLowerCase();
  if (key === "z") event.shiftKey ? redo() : undo();
  else if (key === "y") redo();
  else return;
  event.preventDefault();
});

// --- Results

const startDownload = () => {
  const stop = new AbortController();
  stopDownload = stop;
  showProgress();
  find("#stop-button").hidden = false;
  find("#stop-button").textContent = t("stop");
  for (const id of ["download-button", "all-button"]) disable(id, true);
  return {signal: stop.signal, onWait: wait};
};

const endDownload = () => {
  stopDownload = null;
  waiting = false;
  for (const id of ["download-button", "all-button"]) disable(id, false);
  showProgress();
};

const download = async (work) => {
  if (stopDownload) return;
  const options = startDownload();
  try {
    await work(options);
  } finally {
    endDownload();
  }
};

click("download-button", () => photo() && download(async (options) => {
  const wanted = photo();
  find("#progress").textContent = t("making", {name: wanted.name});
  try {
    const file = await downloads.make(wanted, options);
    downloads.save(file);
    say(t("saved", {name: file.name}));
  } catch (error) {
    if (!options.signal.aborted) say(reasonFor(wanted, error.code));
  }
}));

click("all-button", () => download(async (options) => {
  const all = photos.list.filter(({failed}) => !failed);
  const broken = photos.list.filter(({failed}) => failed);
  const report = (done) => {
    find("#progress").textContent = t("making_all", {done, all: all.length});
  };
  report(0);
  try {
    const {files, failed} = await downloads.makeAll(all, report, options);
    const reasons = [...broken.map((each) => reasonFor(each, each.failed)),
      ...failed.map((each) => reasonFor(each.photo, each.code))];
    downloads.save(await downloads.pack(files, reasons));
    const total = files.length + reasons.length;
    const name = "colorized.zip";
    say(reasons.length ? t("saved_some", {done: files.length, all: total}) : t("saved", {name}));
  } catch (error) {
    if (!options.signal.aborted) throw error;
  }
}));

click("stop-button", () => {
  if (stopDownload) stopDownload.abort(new DOMException("", "AbortError"));
  else photos.pause(!photos.paused);
});

// --- Start

const speak = async (name) => {
  await use(name);
  find("#language").textContent = t("switch");
  const other = name === "en" ? "ru" : "en";
  find("#language").lang = find("#language").dataset.short = other;
  showExamples();
  showList();
  showEdits();
  showStage();
  panel.setPicking(panel.picking);
};

click("language", async () => {
  const other = language === "en" ? "ru" : "en";
  localStorage.setItem("language", other);
  await speak(other);
});
intake.listen(take);
find("#full-button").hidden = !document.fullscreenEnabled;
addEventListener("beforeunload", (event) => {
  if (!photos.kept && photos.list.some(({hints}) => hints.length)) event.preventDefault();
});

await speak(wanted());
stage.compare(true);
await photos.restore();
photos.limits = await engine.describe({onWait: wait});
wait(null);
document.body.classList.toggle("suggesting", Boolean(photos.limits.suggestions));
document.body.classList.toggle("plain", !photos.limits.hints);
document.body.classList.add("ready");
