// The photos of the page, with their settings and states.
//
// A photo is {id, name, file, gray, colour, hints, strength, past, future, ...}: `gray`
// and `colour` are pictures at the size of a screen, `version` counts the changes, and
// `drawn` is the version that `colour` shows.
//
// Events: "list" (photos were added or removed), "choice" (another photo is shown),
// "change" (of the photo `detail`), "wait" (for the engine; `detail` is the reason's code,
// and null at the end).

import * as engine from "./engine.js";
import * as store from "./store.js";

const AT_ONCE = 3;
const snapshot = ({hints, strength}) => ({hints, strength});

export class Photos extends EventTarget {
  list = [];
  current = null;
  limits = {};
  kept = true;
  paused = false;
  #working = new Map(); // photo -> its AbortController

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, {detail}));
  }

  async restore() {
    this.kept = await store.open();
    this.list = (await store.readAll())
      .sort((one, other) => one.id - other.id)
      .map((record) => ({version: 1, drawn: record.colour ? 1 : 0, ...record}));
    const last = Number(sessionStorage.getItem("photo"));
    this.choose(this.list.find(({id}) => id === last) ?? this.list[0] ?? null);
    this.tell("list");
    this.#start();
  }

  add(files) {
    const first = Math.max(Date.now(), (this.list.at(-1)?.id ?? 0) + 1);
    const added = files.map((file, at) => ({
      id: first + at, name: file.name, file, gray: null, colour: null, failed: null,
      hints: [], strength: 1, past: [], future: [], version: 1, drawn: 0,
    }));
    for (const photo of added) {
      if (photo.file.size > (this.limits.photo_bytes ?? Infinity)) photo.failed = "too_large";
      this.#keep("files", {id: photo.id, file: photo.file});
      this.#keepEdits(photo);
    }
    this.list.push(...added);
    if (added.length) this.choose(added[0]);
    this.tell("list");
    this.#start();
  }

  choose(photo) {
    this.current = photo;
    if (photo) sessionStorage.setItem("photo", photo.id);
    this.tell("choice");
    this.#start();
  }

  // Removes photos; returns a function that restores them.
  remove(removed) {
    const before = this.list;
    const at = before.indexOf(this.current);
    for (const photo of removed) this.#working.get(photo)?.abort();
    this.list = before.filter((photo) => !removed.includes(photo));
    store.remove(removed.map(({id}) => id));
    this.tell("list");
    if (!this.list.includes(this.current)) {
      this.choose(this.list[Math.min(at, this.list.length - 1)] ?? null);
    }
    return () => {
      for (const photo of removed) {
        this.#keep("files", {id: photo.id, file: photo.file});
        this.#keepPreview(photo);
        this.#keepEdits(photo);
      }
      const both = [...this.list, ...removed];
      this.list = both.sort((one, other) => one.id - other.id);
      this.tell("list");
      this.choose(removed[0]);
    };
  }

  // Shows a change without a step in the history, such as during a drag.
  draft(photo, change) {
    Object.assign(photo, change);
    photo.version += 1;
    this.tell("change", photo);
    this.#start();
  }

  // Adds a photo's settings before its changes as a step in the history.
  commit(photo, before) {
    photo.past = [...photo.past, before];
    photo.future = [];
    this.#keepEdits(photo);
    this.tell("change", photo);
  }

  change(photo, change) {
    const before = snapshot(photo);
    this.draft(photo, change);
    this.commit(photo, before);
  }

  // Undoes the last change without a redo, such as the first tap of a double tap.
  takeBack(photo) {
    if (!photo.past.length) return;
    const before = photo.past.at(-1);
    photo.past = photo.past.slice(0, -1);
    this.draft(photo, before);
    this.#keepEdits(photo);
  }

  undo(photo) {
    this.#step(photo, "past", "future");
  }

  redo(photo) {
    this.#step(photo, "future", "past");
  }

  #step(photo, from, to) {
    if (!photo?.[from].length) return;
    const wanted = photo[from].at(-1);
    photo[to] = [...photo[to], snapshot(photo)];
    photo[from] = photo[from].slice(0, -1);
    this.draft(photo, wanted);
    this.#keepEdits(photo);
  }

  pause(paused) {
    this.paused = paused;
    if (paused) {
      for (const [photo, stop] of this.#working) if (photo !== this.current) stop.abort();
    }
    this.tell("change", null);
    this.#start();
  }

  stateOf(photo) {
    if (photo.failed) return "failed";
    if (photo.drawn === photo.version) return "done";
    return this.#working.has(photo) ? "working" : "waiting";
  }

  count(state) {
    return this.list.filter((photo) => this.stateOf(photo) === state).length;
  }

  // Colorizes a few photos at a time; the shown photo starts at once.
  #start() {
    if (this.current) this.#work(this.current);
    for (const photo of this.list) {
      if (this.paused || this.#working.size >= AT_ONCE) return;
      this.#work(photo);
    }
  }

  async #work(photo) {
    if (this.stateOf(photo) !== "waiting") return;
    const stop = new AbortController();
    const options = {signal: stop.signal, onWait: (code) => this.tell("wait", code)};
    this.#working.set(photo, stop);
    this.tell("change", photo);
    try {
      if (!photo.gray) {
        photo.gray = (await engine.preview(photo.file, photo.name, options)).blob;
        this.tell("change", photo);
      }
      const {version} = photo;
      const drawing = {...options, ...snapshot(photo), format: "jpg"};
      photo.colour = (await engine.colorize(photo.gray, "preview.jpg", drawing)).blob;
      photo.drawn = version;
      this.tell("wait", null);
      if (version === photo.version) this.#keepPreview(photo);
    } catch (error) {
      if (!stop.signal.aborted) photo.failed = error.code ?? "failed";
      this.#keepEdits(photo);
    }
    this.#working.delete(photo);
    this.tell("change", photo);
    this.#start();
  }

  #keepPreview({id, gray, colour}) {
    this.#keep("previews", {id, gray, colour});
  }

  #keepEdits({id, name, hints, strength, past, future, failed}) {
    this.#keep("edits", {id, name, hints, strength, past, future, failed});
  }

  // Stores a record; deletes it again if the photo was removed meanwhile.
  async #keep(name, record) {
    try {
      await store.put(name, record);
    } catch { // the storage is full
      this.kept = false;
      this.tell("list");
    }
    if (name !== "files" && !this.list.some(({id}) => id === record.id)) {
      store.remove([record.id]);
    }
  }
}
