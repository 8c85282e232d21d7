"""The page of the service: photos dropped, compared and downloaded, in a browser."""

import contextlib
import os
import tempfile
import threading
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

# Before Gradio is imported: it would report to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from PIL import Image

from colorizer_tf.files import find_photos
from colorizer_tf.photos import PhotoError, read_photo, shrink_photo
from colorizer_tf.service import editor
from colorizer_tf.service.jobs import JobError, write_zip
from colorizer_tf.sources import gray_sample

PREVIEW_SIDE = 1600
TEXTS = {
    "en": {
        "title": "# Colour for black-and-white photos",
        "intro": "Drop one photo or several. They keep their size and format, and are "
        "deleted here within the hour.",
        "drop": "Photos",
        "strength": "Strength of the colour",
        "examples": "Or try one of these",
        "choice": "Which photo to see",
        "compare": "Before and after",
        "download": "Download",
        "progress": "Colorizing: {done} of {all} photos…",
        "done": "{done} of {all} photos are done.",
        "not_a_photo": "**{name}** is not a photo that can be read here: JPEG, PNG, "
        "TIFF, WebP and BMP are.",
        "damaged": "**{name}** cannot be read: it is damaged, or of a rare kind.",
        "too_large": "**{name}** is too large: a photo may have {megabytes} MB at "
        "most.",
        "too_many_pixels": "**{name}** has too many pixels: at most 134 million.",
        "too_many_photos": "These are too many photos: take {photos} at a time.",
        "too_much": "Too much at a time: take photos of {together} MB together.",
        "full": "Too many photos are waiting. Please try again in a moment.",
        "failed": "**{name}** could not be colorized.",
        "gone": "The photo has been deleted here meanwhile: please drop it again.",
    },
    "ru": {
        "title": "# Цвет для чёрно-белых фотографий",
        "intro": "Перетащите сюда одну фотографию или несколько. Размер и формат "
        "останутся прежними, а отсюда всё удалится в течение часа.",
        "drop": "Фотографии",
        "strength": "Насыщенность цвета",
        "examples": "Или попробуйте на примере",
        "choice": "Какую фотографию показать",
        "compare": "До и после",
        "download": "Скачать",
        "progress": "Раскрашиваем фотографии: {done} из {all}…",
        "done": "Готово фотографий: {done} из {all}.",
        "not_a_photo": "**{name}** — не фотография, или её формат здесь не читается. "
        "Подойдут JPEG, PNG, TIFF, WebP и BMP.",
        "damaged": "Файл **{name}** не читается: он повреждён, или это редкая "
        "разновидность.",
        "too_large": "Файл **{name}** слишком большой: не более {megabytes} МБ.",
        "too_many_pixels": "В **{name}** слишком много пикселей: не более 134 "
        "миллионов.",
        "too_many_photos": "Слишком много фотографий: не более {photos} за раз.",
        "too_much": "Слишком много за раз: не более {together} МБ вместе.",
        "full": "Сейчас слишком много фотографий в очереди. Попробуйте чуть позже.",
        "failed": "Не удалось раскрасить **{name}**.",
        "gone": "Снимок отсюда уже удалён: перетащите его ещё раз.",
    },
}
# For the keyboard and for screen readers: the language of the page, the slider's
# handle moved by the arrow keys, as if by the mouse, the notice read aloud, names
# for what Gradio leaves without. The strength is moved, not typed: half a number
# would be taken for a wrong one.
_JS = """() => {
  document.documentElement.lang = navigator.language;
  const move = (handle, step) => {
    const box = handle.getBoundingClientRect();
    const at = (name, target, x) => target.dispatchEvent(new MouseEvent(name, {
      bubbles: true, cancelable: true, view: window, button: 0,
      clientX: x, clientY: box.top + box.height / 2,
    }));
    const middle = box.left + box.width / 2;
    at("mousedown", handle, middle);
    at("mousemove", window, middle + step);
    at("mouseup", window, middle + step);
  };
  const steps = {ArrowLeft: -20, ArrowRight: 20};
  const equip = () => {
    const handle = document.querySelector("#compare [data-testid=slider]");
    if (handle && handle.tabIndex < 0) {
      handle.tabIndex = 0;
      handle.setAttribute("aria-label", "← →");
      handle.addEventListener("keydown", (event) => {
        if (event.key in steps) {
          event.preventDefault();
          move(handle, steps[event.key]);
        }
      });
    }
    document.querySelector("#notice")?.setAttribute("role", "status");
    document.querySelector("[aria-label='common.upload']")
      ?.removeAttribute("aria-label");
    for (const box of document.querySelectorAll("#strength input[type=number]")) {
      box.readOnly = true;
    }
    for (const button of document.querySelectorAll("#examples button:has(img)")) {
      const name = button.querySelector("img").src.split("/").pop().split(".")[0];
      if (!button.ariaLabel) button.ariaLabel = name;
    }
  };
  new MutationObserver(equip).observe(document.body, {childList: true, subtree: true});
}"""
_CSS = """
#hints, #hints .html-container { padding: 0 !important; }
#choice label, #choice label span { max-width: 100%; overflow: hidden;
  text-overflow: ellipsis; }
#hints:not(:has(details:not([hidden]))) { display: none; }
#download[inert] { opacity: 0.4; }
.gradio-container { width: 100% !important; max-width: 960px !important;
  margin: 0 auto !important; }
footer, .toast-title { display: none !important; }
input[type=range]:focus-visible { outline: 2px solid var(--color-accent); }
"""
# One large preview at a time: it is decoded as a whole.
_preview_lock = threading.Lock()


def mount_page(app, store):
    """Mounts the page at the root of a FastAPI application."""
    # Gradio takes its temporary folder from here alone.
    os.environ["GRADIO_TEMP_DIR"] = str(store.page_folder)
    i18n = gr.I18n(**TEXTS)
    gr.mount_gradio_app(
        app,
        _build_page(store, i18n),
        path="/",
        i18n=i18n,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=_CSS,
        js=_JS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
    )
    store.permanent = set(store.page_folder.rglob("*"))  # the examples


def _build_page(store, i18n):
    examples = find_photos(gray_sample(store.folder / "examples"))
    with gr.Blocks(title="colorizer_tf", analytics_enabled=False) as page:
        gr.Markdown(i18n("title"), elem_id="title")
        gr.Markdown(i18n("intro"))
        photos = gr.File(
            label=i18n("drop"), file_count="multiple", height=220, elem_id="photos"
        )
        notice = gr.Markdown(elem_id="notice", visible=False)
        strength = gr.Slider(
            0,
            editor.MAX_STRENGTH,
            1,
            step=0.1,
            label=i18n("strength"),
            elem_id="strength",
        )
        choice = gr.Radio(
            label=i18n("choice"), type="index", visible=False, elem_id="choice"
        )
        compare = gr.ImageSlider(
            label=i18n("compare"),
            type="filepath",
            interactive=False,
            visible=False,
            buttons=["fullscreen"],
            elem_id="compare",
        )
        hints = editor.build_editor()
        download = gr.DownloadButton(
            i18n("download"), visible=False, variant="primary", elem_id="download"
        )
        sample = gr.Image(visible=False, type="filepath")
        gallery = gr.Dataset(
            label=i18n("examples"),
            components=[sample],
            samples=[[str(path)] for path in examples],
            elem_id="examples",
        )
        results = gr.State([], time_to_live=store.limits.page_seconds)
        outputs = [compare, choice, notice, download, hints, results]

        def colorize(paths, strength, chosen, hints, results, request: gr.Request):
            texts = choose_texts(request.headers)
            order = _Order(
                paths or [], strength, chosen or 0, *editor.read_hints(hints)
            )
            yield from _colorize(store, order, results, texts)

        def show(index, results):
            shown = [result for result in results if result.previews]
            if not shown:
                return gr.skip(), gr.skip()
            index = min(index or 0, len(shown) - 1)  # a photo may have just gone
            return gr.ImageSlider(shown[index].previews), {"chosen": index}

        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        work = {
            "inputs": [photos, strength, choice, hints, results],
            "outputs": outputs,
        } | hidden
        look = {
            "fn": show,
            "inputs": [choice, results],
            "outputs": [compare, hints],
        } | hidden
        photos.upload(colorize, **work, trigger_mode="always_last")
        photos.delete(colorize, **work, trigger_mode="always_last")
        photos.clear(colorize, **work)
        # Whatever moves it, the keys too; of many moves, the last one counts.
        strength.change(colorize, **work, trigger_mode="always_last").then(**look)
        hints.input(colorize, **work, trigger_mode="always_last").then(**look)
        gallery.click(lambda chosen: chosen, gallery, photos, **hidden).then(
            colorize, **work
        )
        choice.input(**look)
    _allow_uploads_only(page)
    page.queue(max_size=32, default_concurrency_limit=8, api_open=False)
    # Gradio would look for work a thousand times a second, which takes a twentieth
    # of a processor from the photos.
    page._queue.sleep_when_free = 0.05
    # It keeps what it knows of so many visitors; the one who came first is forgotten.
    page.state_session_capacity = 500
    return page


def _allow_uploads_only(page):
    """Has the page take no file but those that were uploaded to it.

    A mounted page, unlike a launched one, would take any file of the server whose
    path a request names, and it would fetch one from an address.
    """
    page.has_launched = True

    def without_addresses(move):
        async def move_file(path):
            if "://" in str(path):
                raise gr.Error("There is no such file.")
            return await move(path)

        return move_file

    for block in page.blocks.values():
        move = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = without_addresses(move)


@dataclass
class _Order:
    """What somebody wants of the page.

    Attributes:
        paths: the photos, as uploaded.
        strength: scales the colour.
        chosen: which of the results is shown.
        hints: lists of `Hint`, by path.
        version: of these hints.
    """

    paths: list
    strength: float
    chosen: int
    hints: dict
    version: int


@dataclass
class _Result:
    """A photo that the page has in colour.

    Attributes:
        source: the photo, as uploaded.
        strength, hints: what it was colorized with.
        name: of the result, as it is downloaded.
        path: the result.
        previews: the paths of the photo before and after, as large as a screen;
            None if they could not be made.
    """

    source: str
    strength: float
    hints: list
    name: str
    path: Path
    previews: tuple | None = None


def _colorize(store, order, results, texts):
    """Yields what the page shows of these photos, its outputs in order, again and
    again until all are done. Results that are right as they are stay."""
    folder = Path(tempfile.mkdtemp(dir=store.page_folder))
    hints = order.hints
    left = [result for result in results if result.path.exists()]
    known = [
        _take(left, path, order.strength, hints.get(path, [])) for path in order.paths
    ]
    new = [
        path for path, result in zip(order.paths, known, strict=True) if result is None
    ]
    try:
        if store.page_is_full():
            raise JobError(503, "full", "The page's folder is full.")
        jobs = store.submit(
            [(path, Path(path).name) for path in new],
            folder,
            order.strength,
            hints=[hints.get(path, []) for path in new],
            taken=[result.name for result in known if result],
        )
    except (JobError, FileNotFoundError) as error:
        # Without the photo it has expired since it was dropped.
        notice = (
            describe_error(error, texts, store.limits)
            if isinstance(error, JobError)
            else texts["gone"]
        )
        yield _build_outputs(order, [], notice, None, store)
        return
    # A dot more on one photo: nothing is to move under the next click.
    quiet = len(new) == 1 and _find_before(results, new[0])
    for finished in _watch_progress(jobs):
        words = texts["progress"].format(done=finished, all=len(jobs))
        said = gr.skip() if quiet else gr.Markdown(words, visible=True)
        yield gr.skip(), gr.skip(), said, *[gr.skip()] * 3
    for job in jobs:
        store.finish(job)
    made = iter(jobs)
    done = []
    for path, result in zip(order.paths, known, strict=True):
        if result is None:
            job = next(made)
            if job.error:
                continue
            result = _Result(
                path, order.strength, job.task.hints, job.name, job.task.result
            )
            # Without its preview, a result can be downloaded all the same.
            with contextlib.suppress(OSError, PhotoError):
                result.previews = _preview(job.task, _find_before(results, path))
        done.append(result)
    lines = [
        describe_error(job.error, texts, store.limits, job.name)
        for job in jobs
        if job.error
    ]
    if len(order.paths) > 1:
        lines.insert(0, texts["done"].format(done=len(done), all=len(order.paths)))
    download = None
    if len(done) == 1:
        download = done[0].path
    elif done:
        download = folder / "colorized.zip"
        reasons = [job.error.detail for job in jobs if job.error]
        write_zip(download, [(each.name, each.path) for each in done], reasons)
    yield _build_outputs(order, done, "\n\n".join(lines), download, store, results)


def _take(results, source, strength, hints):
    """Takes the result of a photo, made in this way, out of a list; None if it has
    none."""
    for result in results:
        if (result.source, result.strength, result.hints) == (source, strength, hints):
            results.remove(result)
            return result
    return None


def _find_before(results, source):
    """The preview that a photo has already had before it was colorized, or None."""
    for result in results:
        if result.source == source and result.previews:
            return result.previews[0]
    return None


def choose_texts(headers):
    """Returns the texts of the page in the language that a browser asks for."""
    wanted = headers.get("accept-language", "").lower()
    return TEXTS["ru" if wanted.startswith("ru") else "en"]


def _watch_progress(jobs):
    """Yields how many are done, at first and at each change, until all are."""
    waiting = {job.task.future for job in jobs if job.task}
    while waiting:
        yield len(jobs) - len(waiting)
        _, waiting = wait(waiting, return_when=FIRST_COMPLETED)


def describe_error(error, texts, limits, name=""):
    """Returns a `JobError` in the words of the page."""
    return texts[error.code].format(
        name=name.replace("*", ""),
        megabytes=limits.photo_bytes // 2**20,
        together=limits.request_bytes // 2**20,
        photos=limits.photos,
    )


def _preview(task, before=None):
    """Writes the photo before and after, as large as a screen; returns both paths.

    Args:
        task: a `Task` that is done.
        before: the preview before, if there is one already.
    """
    paths = []
    shorter_side = round(PREVIEW_SIDE * min(task.size) / max(task.size)) or 1
    small = max(task.size) <= PREVIEW_SIDE
    for path, ending in ((task.photo, editor.BEFORE), (task.result, ".after.jpg")):
        if path == task.photo and before and Path(before).exists():
            paths.append(before)
            continue
        with _preview_lock:
            photo = read_photo(path, None if small else shorter_side)
        preview = task.result.with_name(f"{task.result.name}{ending}")
        Image.fromarray(shrink_photo(photo, PREVIEW_SIDE)).save(preview, quality=90)
        paths.append(str(preview))
    return tuple(paths)


def _build_outputs(order, done, notice, download, store, before=()):
    shown = [result for result in done if result.previews]
    names = [result.name for result in shown]
    chosen = min(order.chosen, max(0, len(shown) - 1))
    if shown and _sources(shown) == _sources(before):
        # Another of them may have been chosen meanwhile: `show` comes next.
        compare, choice, chosen = gr.skip(), gr.skip(), None
    else:
        compare = gr.ImageSlider(
            shown[chosen].previews if shown else None, visible=bool(shown)
        )
        choice = gr.Radio(
            names, value=names[chosen] if names else None, visible=len(names) > 1
        )
    editable = shown if store.queue.colorizer.takes_hints else []
    return (
        compare,
        choice,
        gr.Markdown(notice, visible=bool(notice)),
        gr.DownloadButton(value=download and str(download), visible=bool(download)),
        editor.describe_photos(
            [(each.source, each.name, Path(each.previews[0])) for each in editable],
            chosen,
            order.strength,
            order.version,
        ),
        done,
    )


def _sources(results):
    return [result.source for result in results if result.previews]
