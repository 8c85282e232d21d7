"""The application: its routes, and the server that runs it."""

import asyncio
import contextlib
import logging
import shutil
import time
import uuid
from pathlib import Path
from typing import Annotated, Literal

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

from colorizer_tf.hints import MOST_HINTS, HintError, parse_hints
from colorizer_tf.service.editor import add_preview
from colorizer_tf.service.jobs import REPORT, JobError, JobStore, Limits, write_zip
from colorizer_tf.service.middleware import (
    IdleTimeoutProtocol,
    LimitsMiddleware,
    error_response,
)
from colorizer_tf.service.page import mount_page

MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".webp": "image/webp",
}
Format = Literal["bmp", "jpg", "png", "tif", "webp"]
MAX_STRENGTH = 10
# As the page /docs understands it, which makes of it a button to choose files.
_FILES_SCHEMA = WithJsonSchema(
    {"type": "array", "items": {"type": "string", "format": "binary"}}
)
# A response of so many bytes is sent from memory: that takes half the time.
MAX_IN_MEMORY_BYTES = 2**21
_log = logging.getLogger("uvicorn.error")


def build_app(colorizer, limits=None):
    """Returns the service as a FastAPI application.

    Args:
        colorizer: a `Colorizer`; see `Colorizer`.
        limits: `Limits`, else the usual ones.
    """
    limits = limits or Limits()
    store = JobStore(colorizer, limits)
    app = FastAPI(
        title="colorizer_tf",
        description="Gives black-and-white photographs their colours.",
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
        LimitsMiddleware, store=store, limits=limits, requests=requests, seconds=seconds
    )
    app.exception_handler(RequestValidationError)(_handle_validation_error)
    app.exception_handler(HTTPException)(_handle_http_error)
    _add_api(app, store)
    add_preview(app, store)
    _add_docs(app)
    mount_page(app, store)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app):
    store = app.state.store

    async def remove_expired():
        while True:
            await asyncio.sleep(min(60, store.limits.page_seconds))
            await run_in_threadpool(store.remove_expired)

    cleanup = asyncio.create_task(remove_expired())
    yield
    cleanup.cancel()
    await run_in_threadpool(store.close)


def _add_api(app, store):
    @app.post(
        "/api/colorize",
        tags=["photos"],
        response_class=Response,
        responses={
            200: {
                "description": "The photo in colour; of several photos a zip, which "
                f"holds a {REPORT} if some could not be colorized.",
                "content": {
                    media: {} for media in (*MEDIA_TYPES.values(), "application/zip")
                },
            },
            400: _describe_error("Not a photo, or a damaged one"),
            408: _describe_error("It did not come in in time"),
            413: _describe_error("Too large, in bytes, pixels or photos"),
            422: _describe_error("A wrong parameter"),
            503: _describe_error("Too much to do: try again after Retry-After"),
        },
    )
    async def colorize(
        request: Request,
        photo: Annotated[
            list[UploadFile], File(description="One or several"), _FILES_SCHEMA
        ],
        strength: Annotated[
            float,
            Form(ge=0, le=MAX_STRENGTH, allow_inf_nan=False, description="0 is gray"),
        ] = 1.0,
        format: Annotated[
            Format | None, Form(description="Of the result; else that of the photo")
        ] = None,
        hints: Annotated[
            str,
            Form(
                description="Colours that places of the photo have, for one photo: "
                f"JSON, at most {MOST_HINTS:,}; x and y are fractions of the upright "
                "photo's width and height",
                examples=['[{"x": 0.41, "y": 0.33, "color": "#2e5d34"}]'],
            ),
        ] = "[]",
    ):
        """Colorizes a photo, or several."""
        start = time.perf_counter()
        hints = _parse_hints(hints, len(photo))
        folder = store.folder / uuid.uuid4().hex
        try:
            jobs = await run_in_threadpool(
                _submit, store, photo, folder, strength, format, hints
            )
            await _wait_for(request, jobs)
            response = await run_in_threadpool(_build_response, store, jobs, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _log.info(
            "photos: %d, %.2f MB, %s, %.2f s",
            len(photo),
            sum(upload.size for upload in photo) / 1e6,
            "+".join("{}x{}".format(*job.task.size[::-1]) for job in jobs if job.task),
            time.perf_counter() - start,
        )
        return response

    @app.get("/health", tags=["state"])
    async def health():
        """Whether the service is up, and how many photos it has to do."""
        return {"status": "ok", "queue": len(store.queue)}

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics():
        """Figures for Prometheus."""
        return Response(generate_latest(store.registry), media_type=CONTENT_TYPE_LATEST)


def _describe_error(description):
    example = {"reason": "What is wrong, in plain words."}
    return {
        "description": description,
        "content": {"application/json": {"example": example}},
    }


def _add_docs(app):
    # The same page that FastAPI has, with its scripts from this machine.
    scripts = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/scripts", StaticFiles(directory=scripts))

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="colorizer_tf",
            swagger_js_url="docs/scripts/swagger-ui-bundle.js",
            swagger_css_url="docs/scripts/swagger-ui.css",
            swagger_favicon_url="docs/scripts/favicon.png",
        )


def _parse_hints(text, photos):
    """Returns the hints of each photo."""
    try:
        hints = parse_hints(text or "[]", "hints")
    except HintError as error:
        raise JobError(422, "wrong_hints", str(error)) from error
    if hints and photos > 1:
        raise JobError(
            422, "wrong_hints", "hints: they belong to one photo; send it alone."
        )
    return [hints] * photos


def _submit(store, uploads, folder, *options):
    """Writes uploads into a folder, and submits them."""
    folder.mkdir()
    photos = []
    for number, upload in enumerate(uploads):
        path = folder / f"{number}.upload"
        with open(path, "wb") as file:
            shutil.copyfileobj(upload.file, file, 2**20)
        upload.file.close()  # frees the room that it takes
        photos.append((path, upload.filename))
    return store.submit(photos, folder, *options)


async def _wait_for(request, jobs):
    """Waits until all photos are done; if the client has gone, gives them up."""
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
    """Returns the response to a request whose photos are done."""
    for job in jobs:
        store.finish(job)
    errors = [job.error for job in jobs if job.error]
    if len(errors) == len(jobs):
        detail = " ".join(error.detail for error in errors)
        raise JobError(errors[0].status_code, errors[0].code, detail)
    if len(jobs) == 1:
        path = jobs[0].task.result
    else:
        path = folder / "colorized.zip"
        results = [(job.name, job.task.result) for job in jobs if not job.error]
        write_zip(path, results, [error.detail for error in errors])
    media_type = MEDIA_TYPES.get(_normal_extension(path), "application/zip")
    response = _TemporaryFileResponse(path, media_type=media_type, filename=path.name)
    if path.stat().st_size > MAX_IN_MEMORY_BYTES:
        return response
    content = path.read_bytes()
    shutil.rmtree(folder, ignore_errors=True)
    return Response(content, headers=response.headers)


def _normal_extension(path):
    return {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())


class _TemporaryFileResponse(FileResponse):
    """A file whose folder lasts until it is sent, or the client has gone."""

    chunk_size = 2**16

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            asyncio.get_running_loop().run_in_executor(
                None, shutil.rmtree, Path(self.path).parent, True
            )


async def _handle_validation_error(request, error):
    problems = error.errors()
    if any(
        problem["loc"][:2] in (("body",), ("body", "photo")) for problem in problems
    ):
        return error_response(400, "No photo came in: send it as the file `photo`.")
    reasons = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems]
    return error_response(422, "; ".join(reasons))


async def _handle_http_error(request, error):
    return error_response(error.status_code, str(error.detail))


class _Server(uvicorn.Server):
    def __init__(self, config, store):
        super().__init__(config)
        self._store = store

    def handle_exit(self, sig, frame):
        self._store.should_exit = True
        super().handle_exit(sig, frame)


def serve(colorizer, host="127.0.0.1", port=8000, limits=None):
    """Runs the service until SIGTERM or Ctrl-C; what was accepted is finished."""
    app = build_app(colorizer, limits)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",
        http=IdleTimeoutProtocol,
        ws="none",
        access_log=False,  # addresses on the page hold names of photos
    )
    _Server(config, app.state.store).run()
