"""The hint editor of the page: colours set by clicks, and a small result."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Annotated

import gradio as gr
from fastapi import Form
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from colorizer_tf.hints import MOST_HINTS, HintError, parse_hints
from colorizer_tf.photos import PhotoError, photo_size
from colorizer_tf.service.batching import QueueFullError, Task
from colorizer_tf.service.jobs import JobError

MAX_STRENGTH = 2
BEFORE = ".before.jpg"
TEXTS = {
    "en": {
        "title": "A colour is wrong? Set it yourself",
        "help": "Choose a colour, then click where it belongs. Drag a dot to move it. "
        "Where a colour spreads too far, a second dot, gray for one, holds it back.",
        "color": "Colour",
        "pick": "Take a colour from the photo",
        "add": "Add a dot",
        "undo": "Undo",
        "redo": "Redo",
        "clear": "Remove all",
        "save": "Save dots",
        "load": "Load dots",
        "photo": "The photo, with the colours set so far",
        "dot": "Dot {number}: {color}. The arrow keys move it, Delete removes it.",
        "list": "Dots: colour, and place from the left and from the top, in %",
        "x": "From the left, %",
        "y": "From the top, %",
        "remove": "Remove",
        "no_hints": "{name} holds no dots that were saved here.",
        "wrong_entry": "{name} was not loaded: entry {number} is no dot.",
        "too_bright": "It is too bright there to take a colour.",
        "too_dark": "It is too dark there to take a colour.",
        "too_many": "At most {most} dots.",
        "gone": "The photo has been deleted here meanwhile: please drop it again.",
        "full": "Too many photos are waiting. Please try again in a moment.",
        "failed": "The colours could not be shown.",
    },
    "ru": {
        "title": "Цвет не тот? Задайте его сами",
        "help": "Выберите цвет и щёлкните там, где он должен быть. Точку можно "
        "перетащить. Если цвет разошёлся слишком далеко, его удержит вторая точка, "
        "например серая.",
        "color": "Цвет",
        "pick": "Взять цвет со снимка",
        "add": "Добавить точку",
        "undo": "Отменить",
        "redo": "Вернуть",
        "clear": "Убрать все",
        "save": "Сохранить точки",
        "load": "Загрузить точки",
        "photo": "Снимок с цветами, которые заданы",
        "dot": "Точка {number}: {color}. Стрелки двигают её, Delete убирает.",
        "list": "Точки: цвет и место слева и сверху, в %",
        "x": "Слева, %",
        "y": "Сверху, %",
        "remove": "Убрать",
        "no_hints": "В файле {name} нет точек, сохранённых здесь.",
        "wrong_entry": "Файл {name} не загружен: запись {number} — не точка.",
        "too_bright": "Здесь слишком светло: цвета не будет видно.",
        "too_dark": "Здесь слишком темно: цвета не будет видно.",
        "too_many": "Точек не более {most}.",
        "gone": "Снимок отсюда уже удалён: перетащите его ещё раз.",
        "full": "Сейчас слишком много фотографий в очереди. Попробуйте чуть позже.",
        "failed": "Не удалось показать цвета.",
    },
}
_HERE = Path(__file__).parent


def build_editor():
    """Returns the editor as a component of the page.

    It is told which photos there are by its value, see `describe_photos`, and puts
    what a person has set in its place, see `read_hints`; then it fires `input`. It
    shows nothing while there are no photos.
    """
    return gr.HTML(
        value={},
        html_template="<div></div>",
        css_template=(_HERE / "editor.css").read_text("utf-8"),
        js_on_load=(_HERE / "editor.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="hints",
        texts=TEXTS,
        most=MOST_HINTS,
    )


def describe_photos(photos, chosen, strength, version):
    """Returns what the editor is to know of these photos, as its value.

    Args:
        photos: (source, name, preview) of each: the upload, the result's name, and
            the photo as large as a screen, in gray, in the page's folder.
        chosen: which of them is shown; None for the one that the person has chosen.
        strength: scales the colour.
        version: that of the hints that they were colorized with, by which the
            editor knows whether they are up to date.
    """
    return {
        "photos": [
            {"source": source, "name": name, "preview": "/".join(preview.parts[-2:])}
            for source, name, preview in photos
        ],
        "strength": strength,
        "made": version,
    } | ({} if chosen is None else {"chosen": chosen})


def read_hints(value):
    """Returns what the editor has sent, as its value.

    Returns:
        The hints of each upload, a dictionary of lists of `Hint`, and their
        version.

    Raises:
        HintError: what came is not what the editor sends.
    """
    hints = value.get("hints", {}) if isinstance(value, dict) else {}
    version = value.get("version") if isinstance(value, dict) else 0
    return (
        {source: parse_hints(json.dumps(own)) for source, own in hints.items()},
        version if isinstance(version, int) else 0,
    )


def add_preview(app, store):
    """Adds the address at which the editor asks for its small results."""

    @app.post("/page/preview", include_in_schema=False)
    async def preview(
        photo: Annotated[str, Form()],
        strength: Annotated[float, Form(ge=0, le=MAX_STRENGTH, allow_inf_nan=False)],
        hints: Annotated[str, Form()],
    ):
        """Colorizes a photo of the page, as large as a screen, with hints."""
        result = store.folder / f"{uuid.uuid4().hex}.jpg"
        try:
            task = await run_in_threadpool(
                _submit, store, photo, result, strength, hints
            )
            await asyncio.wrap_future(task.future)
            content = await run_in_threadpool(result.read_bytes)
        except PhotoError as error:  # expired while it waited
            raise JobError(404, "gone", "There is no such photo.") from error
        finally:
            result.unlink(missing_ok=True)
        return Response(content, media_type="image/jpeg")


def _submit(store, photo, result, strength, hints):
    path = store.page_folder / photo
    try:
        folder, _, name = photo.rpartition("/")
        in_page = folder.isidentifier() and Path(name).name == name  # never above it
        if not in_page or not name.endswith(BEFORE):
            raise PhotoError(f"{path} is no preview.")
        task = Task(path, result, photo_size(path), strength, parse_hints(hints))
        store.queue.submit([task])
    except HintError as error:
        raise JobError(422, "wrong_hints", str(error)) from error
    except QueueFullError as error:
        raise JobError(503, "full", "Too many photos are waiting.") from error
    return task
