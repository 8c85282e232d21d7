"""The web application: its routes, and the server that runs it."""

import asyncio
import contextlib
import logging
import shutil
import time
import uuid
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import fastapi_offline
import uvicorn
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from colorizer_tf import __version__
from colorizer_tf.hints import MAX_HINTS, HintError, parse_hints
from colorizer_tf.service.middleware import (
    COLORIZE,
    SUGGEST,
    VARIANTS,
    IdleTimeoutProtocol,
    LimitsMiddleware,
    error_response,
)
from colorizer_tf.service.queue import REPORT, JobStore
from colorizer_tf.service.validation import Limits, RequestError
from colorizer_tf.sixteen_bit import MAX_PIXELS

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".zip": "application/zip",
}
FORMATS = ("jpg", "png", "tif", "webp", "bmp")
FIELDS = ("photo", "strength", "hints", "format", "longest_side")
SUGGEST_FIELDS = ("photo", "x", "y", "hints")
VARIANTS_FIELDS = ("photo", "count", "hints")
MAX_STRENGTH = 10
MAX_VARIANTS = 12
CHUNK_BYTES = 2**16
# Answers of at most so many bytes are sent from memory.
SMALL_BYTES = 2**18
STATIC = Path(__file__).parent / "static"
# In this form, the page /docs shows a button to choose files.
_FILES_SCHEMA = WithJsonSchema(
    {"type": "array", "items": {"type": "string", "format": "binary"}}
)
# In this form, the page /docs leaves the fields empty until a person fills them.
_FORMAT_SCHEMA = WithJsonSchema({"type": "string", "enum": ["", *FORMATS]})
_SIDE_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 1, "examples": [""]})
_log = logging.getLogger("uvicorn.error")


def build_app(colorizer, limits=None):
    """Returns the service as a FastAPI application.

    Args:
        colorizer: a `Colorizer`.
        limits: the `Limits`; by default `Limits()`.
    """
    limits = limits or Limits()
    store = JobStore(colorizer, limits)
    app = FastAPI(
        title="colorizer_tf",
        version=__version__,
        description="Gives black-and-white photographs their colors.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.store = store
    requests = Counter(
        "colorizer_requests",
        "Requests, by route and status",
        ["route", "status"],
        registry=store.registry,
    )
    seconds = Histogram(
        "colorizer_request_seconds",
        "Seconds from a request's first byte to its answer's last",
        ["route"],
        registry=store.registry,
    )
    app.add_middleware(
        LimitsMiddleware, limits=limits, requests=requests, seconds=seconds
    )
    app.exception_handler(RequestValidationError)(_handle_validation_error)
    app.exception_handler(HTTPException)(_handle_http_error)
    _add_api(app, store)
    _add_suggestions(app, store)
    _add_state(app, store)
    _add_docs(app)
    _add_page(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app):
    yield
    await run_in_threadpool(app.state.store.close)


def _add_api(app, store):
    @app.post(
        COLORIZE,
        tags=["photos"],
        response_class=Response,
        responses={
            200: {
                "description": "The photo in color, named NAME colour.jpg. For several "
                f"photos a zip, with a {REPORT} if some failed.",
                "content": {media: {} for media in MEDIA_TYPES.values()},
            },
            400: _describe_error("Not a photo, or a damaged one"),
            408: _describe_error("The request took too long to arrive"),
            413: _describe_error("Too many bytes, pixels or photos"),
            422: _describe_error("An invalid or unknown parameter"),
            503: _describe_error("Busy: try again after Retry-After seconds"),
        },
    )
    async def colorize(
        request: Request,
        photo: Annotated[
            list[UploadFile], File(description="One or several"), _FILES_SCHEMA
        ],
        strength: Annotated[
            float,
            Form(
                ge=0,
                le=MAX_STRENGTH,
                allow_inf_nan=False,
                description="Factor of the predicted color, not of the hints. 0 gives "
                "the gray photo, or one that only its hints color",
            ),
        ] = 1.0,
        hints: Annotated[
            str,
            Form(
                description="Colors of places, in a request with one photo: JSON, at "
                f"most {MAX_HINTS:,} entries; x and y are fractions of the upright "
                "photo's width and height: "
                '`[{"x": 0.41, "y": 0.33, "color": "#2e5d34"}]`',
            ),
        ] = "",
        format: Annotated[
            Literal[FORMATS] | None,
            Form(description="Format of the result; by default that of the photo"),
            _FORMAT_SCHEMA,
        ] = None,
        longest_side: Annotated[
            int | None,
            Form(
                ge=1,
                description="The most pixels on a side of the result; by default those "
                "of the photo",
            ),
            _SIDE_SCHEMA,
        ] = None,
    ):
        """Colorizes one or several photos."""
        start = time.perf_counter()
        _refuse_unknown(request.query_params, await request.form(), FIELDS)
        options = {
            "photo_format": format,
            "strength": strength,
            "hints": _parse_hints(hints, len(photo)),
            "longest_side": longest_side,
        }
        folder = store.folder / uuid.uuid4().hex
        try:
            jobs = await run_in_threadpool(_submit, store, photo, folder, options)
            await _wait_for(request, jobs)
            response = await run_in_threadpool(_build_response, store, jobs, folder)
        except BaseException:
            await run_in_threadpool(_remove, folder)
            raise
        _log.info(
            "photos: %d, %.2f MB, %s, %.2f s",
            len(photo),
            sum(upload.size for upload in photo) / 1e6,
            "+".join("{}x{}".format(*job.task.size[::-1]) for job in jobs if job.task),
            time.perf_counter() - start,
        )
        return response


_Fraction = Annotated[
    float, Form(ge=0, le=1, description="Fraction of the upright width or height")
]
_SetHints = Annotated[
    str, Form(description="Colors that are set already, as for /api/colorize")
]


def _add_suggestions(app, store):
    turn, responses = (
        asyncio.Semaphore(1),
        {
            400: _describe_error("Not a photo, or a damaged one"),
            413: _describe_error("Too many bytes or pixels"),
            422: _describe_error(
                "An invalid parameter, or a generator that suggests no colors"
            ),
        },
    )

    async def ask(request, photo, hints, fields, work):
        """Calls `work` with a gray photo and its hints, one photo at a time."""
        form = await request.form()
        _refuse_unknown(request.query_params, form, fields)
        if len(form.getlist("photo")) > 1:
            raise RequestError(413, "too_many_photos", "One photo at a time.")
        if not store.queue.colorizer.network.suggests:
            reason = "This generator suggests no colors."
            raise RequestError(422, "no_suggestions", reason)
        given = _parse_hints(hints, 1)
        async with turn:
            return await run_in_threadpool(
                store.look_at, photo, lambda gray: work(gray, given)
            )

    @app.post(SUGGEST, tags=["photos"], responses=responses)
    async def suggest(
        request: Request,
        photo: UploadFile,
        x: _Fraction,
        y: _Fraction,
        hints: _SetHints = "",
    ):
        """Likely colors of a place: the automatic one, then by probability."""

        def work(gray, hints):
            return store.queue.colorizer.suggest(gray, x, y, hints=hints)

        colors = await ask(request, photo, hints, SUGGEST_FIELDS, work)
        return {
            "colors": [
                {"color": color, "probability": round(probability, 4)}
                for color, probability in colors
            ]
        }

    @app.post(VARIANTS, tags=["photos"], responses=responses)
    async def variants(
        request: Request,
        photo: UploadFile,
        count: Annotated[int, Form(ge=1, le=MAX_VARIANTS)] = 4,
        hints: _SetHints = "",
    ):
        """Plausible results for a photo, each as the hints that produce it."""

        def work(gray, hints):
            return store.queue.colorizer.find_variants(gray, count, hints)

        found = await ask(request, photo, hints, VARIANTS_FIELDS, work)
        return {"variants": [[asdict(hint) for hint in more] for more in found]}


def _add_state(app, store):
    limits = store.limits

    @app.get("/api/about", tags=["state"])
    async def about():
        """What the service accepts: the most hints, formats and limits."""
        return {
            "hints": MAX_HINTS if store.queue.colorizer.takes_hints else 0,
            "suggestions": store.queue.colorizer.network.suggests,
            "formats": FORMATS,
            "photo_bytes": limits.photo_bytes,
            "pixels": MAX_PIXELS,
            "photos": limits.photos,
            "request_bytes": limits.request_bytes,
        }

    @app.get("/health", tags=["state"])
    async def health():
        """Whether the service is up, and how many photos wait or are in progress."""
        return {"status": "ok", "queue": len(store.queue)}

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics():
        """Metrics for Prometheus."""
        return Response(generate_latest(store.registry), media_type=CONTENT_TYPE_LATEST)


def _describe_error(description):
    example = {"reason": "What is wrong, in plain words.", "code": "a_word"}
    return {
        "description": description,
        "content": {"application/json": {"example": example}},
    }


def _add_docs(app):
    # FastAPI's own page loads its scripts from another host.
    scripts = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/scripts", StaticFiles(directory=scripts))

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="colorizer_tf",
            swagger_js_url="docs/scripts/swagger-ui-bundle.js",
            swagger_css_url="docs/scripts/swagger-ui.css",
            swagger_favicon_url="static/icon.svg",
        )


def _add_page(app):
    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/", include_in_schema=False)
    async def page():
        return FileResponse(STATIC / "index.html")


def _refuse_unknown(query, form, fields):
    """Raises `RequestError` for unknown form fields and for any query parameter."""
    known = f"The fields of the form are {', '.join(fields)}."
    unknown = [name for name in form if name not in fields]
    if query:
        reason = f"Put no parameters into the query: {', '.join(query)}. {known}"
    elif unknown:
        reason = f"Unknown: {', '.join(unknown)}. {known}"
    else:
        return
    raise RequestError(422, "wrong_field", reason)


def _parse_hints(text, photos):
    try:
        hints = parse_hints(text or "[]", "hints")
    except HintError as error:
        raise RequestError(422, "wrong_hints", str(error)) from error
    if hints and photos > 1:
        reason = "hints: they belong to one photo; send it alone."
        raise RequestError(422, "wrong_hints", reason)
    return hints


def _submit(store, uploads, folder, options):
    """Writes uploads to a folder, and submits them to the queue."""
    folder.mkdir()
    photos = []
    for number, upload in enumerate(uploads):
        path = folder / f"{number}.upload"
        with open(path, "wb") as file:
            shutil.copyfileobj(upload.file, file, 2**20)
        upload.file.close()  # frees its memory or disk space
        photos.append((path, upload.filename))
    return store.submit(photos, folder, **options)


async def _wait_for(request, jobs):
    """Waits until all photos are done; cancels them if the client disconnects."""
    futures = [asyncio.wrap_future(job.task.future) for job in jobs if job.task]
    waiting = set(futures)
    try:
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=0.5)
            if waiting and await request.is_disconnected():
                for job in jobs:
                    if job.task:
                        job.task.cancel()
    finally:
        await asyncio.gather(*futures, return_exceptions=True)


def _build_response(store, jobs, folder):
    """Returns the response to a request with finished photos. Removes the folder."""
    response = _find_response(store, jobs, folder)
    _remove(folder)
    return response


def _remove(folder):
    shutil.rmtree(folder, ignore_errors=True)


def _find_response(store, jobs, folder):
    for job in jobs:
        store.finish(job)
    errors = [job.error for job in jobs if job.error]
    if len(errors) == len(jobs):
        detail = " ".join(error.detail for error in errors)
        raise RequestError(errors[0].status_code, errors[0].code, detail)
    if len(jobs) == 1:
        path = jobs[0].task.result
    else:
        path = folder / "colorized.zip"
        results = [(job.name, job.task.result) for job in jobs if not job.error]
        _write_zip(path, results, [error.detail for error in errors])
    if path.stat().st_size <= SMALL_BYTES:
        return Response(path.read_bytes(), 200, _file_headers(path), _media_type(path))
    return _OpenFileResponse(path)


def _write_zip(path, results, reasons):
    """Writes results, each (name, path), to a zip, with a report of any reasons."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, result in results:
            archive.write(result, name)
        if reasons:
            archive.writestr(REPORT, "\n".join([*reasons, ""]))


def _media_type(path):
    return MEDIA_TYPES[path.suffix.lower()]


def _file_headers(path):
    # Some clients, such as `curl -OJ`, know only the first form of the name.
    plain = path.name.encode("ascii", "replace").decode().replace("?", "_")
    return {
        "Content-Length": str(path.stat().st_size),
        "Content-Disposition": f'attachment; filename="{plain}"; '
        f"filename*=UTF-8''{quote(path.name)}",
    }


class _OpenFileResponse(Response):
    """Sends an open file, whose folder may be removed before."""

    def __init__(self, path):
        self.file = open(path, "rb")  # closed after sending
        super().__init__(None, 200, _file_headers(path), _media_type(path))

    async def __call__(self, scope, receive, send):
        start = {"status": self.status_code, "headers": self.raw_headers}
        try:
            await send({"type": "http.response.start", **start})
            while chunk := await run_in_threadpool(self.file.read, CHUNK_BYTES):
                part = {"body": chunk, "more_body": True}
                await send({"type": "http.response.body", **part})
            await send({"type": "http.response.body"})
        finally:
            # The last handle of a removed file: the disk takes its time.
            await run_in_threadpool(self.file.close)


async def _handle_validation_error(request, error):
    problems = error.errors()
    if any(
        problem["loc"][:2] in (("body",), ("body", "photo")) for problem in problems
    ):
        reason = "No photo came in: send it as the file `photo`."
        return error_response(400, "no_photo", reason)
    reasons = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems]
    return error_response(422, "wrong_value", "; ".join(reasons))


async def _handle_http_error(request, error):
    code = getattr(error, "code", "failed")
    return error_response(error.status_code, code, str(error.detail))


def serve(colorizer, host="127.0.0.1", port=8000, limits=None):
    """Runs the service until SIGTERM or Ctrl-C; then finishes all accepted photos.

    Args:
        colorizer: a `Colorizer`.
        host: the address to listen at.
        port: the port to listen at.
        limits: the `Limits`; by default `Limits()`.
    """
    uvicorn.run(
        build_app(colorizer, limits),
        host=host,
        port=port,
        http=IdleTimeoutProtocol,
        ws="none",
        access_log=False,
    )
