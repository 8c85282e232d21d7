"""Jobs: which photos are taken from clients, and what became of them."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from starlette.exceptions import HTTPException

from colorizer_tf.photos import PhotoError, PhotoTooLargeError
from colorizer_tf.service.batching import (
    PhotoQueue,
    QueueFullError,
    Task,
    TaskCancelledError,
)
from colorizer_tf.service.validation import validate_photo

# The longest side that a format can hold.
MAX_SIDE = {".jpg": 65500, ".webp": 16383}
REPORT = "report.txt"
# What a file takes beside its content, to be on the safe side.
FILE_OVERHEAD_BYTES = 2**16
# So much of the disk is left free.
MIN_FREE_BYTES = 2**31
_log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Limits:
    """What the service takes; sizes are in bytes.

    Attributes:
        photo_bytes: of one photo.
        photos: in one request.
        request_bytes: of a request as a whole.
        received_bytes: of all requests under way together.
        page_bytes: of what the page keeps in its temporary folder.
        page_seconds: for how long it keeps that.
        queue_photos: waiting or at work.
        stall_seconds: without a byte from a client, or to it.
        upload_seconds: for a request to come in.
        response_seconds: for all of it, until the response has been taken.
    """

    photo_bytes: int = 2**26
    photos: int = 20
    request_bytes: int = 2**28
    received_bytes: int = 2**30
    page_bytes: int = 2**31
    page_seconds: float = 1800
    queue_photos: int = 64
    stall_seconds: float = 20
    upload_seconds: float = 300
    response_seconds: float = 1800


class JobError(HTTPException):
    """Why a photo, or a request as a whole, gives no result.

    Attributes:
        status_code: of HTTP.
        code: "not_a_photo", "damaged", "too_large", "too_many_pixels",
            "too_many_photos", "too_much", "wrong_format", "wrong_hints", "full"
            or "failed".
        detail: the reason, in plain words.
    """

    def __init__(self, status_code, code, detail):
        super().__init__(status_code, detail)
        self.code = code


@dataclass
class Job:
    """One photo of a request.

    Attributes:
        name: of the result, safe as the name of a file.
        task: in the queue; None if the photo was not taken.
        error: why there is no result.
    """

    name: str
    task: Task | None = None
    error: JobError | None = None


class JobStore:
    """Takes photos from the page and the API, and hands out what became of them.

    Args:
        colorizer: a `Colorizer`.
        limits: `Limits`.

    Attributes:
        folder: a temporary folder, all that is ever written lies in it.
        page_folder: the part of it that the page keeps for a while.
        permanent: what the page keeps there for ever, a set of paths.
        should_exit: whether the service has been told to end.
        queue: the `PhotoQueue`.
        registry: of the figures for Prometheus.
    """

    def __init__(self, colorizer, limits):
        self.limits = limits
        self._temporary = tempfile.TemporaryDirectory(
            prefix="colorizer_tf_", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self.page_folder = self.folder / "page"
        self.page_folder.mkdir()
        self.permanent = set()
        self.should_exit = False
        self.queue = PhotoQueue(colorizer, limits.queue_photos)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.photos = Counter(
            "colorizer_photos",
            "Photos, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        Gauge(
            "colorizer_queue_photos",
            "Photos waiting or at work",
            registry=self.registry,
        ).set_function(lambda: len(self.queue))

    def is_drained(self):
        """Whether the service has been told to end, and has no photo left to do."""
        return self.should_exit and not len(self.queue)

    def close(self):
        """Finishes all photos and empties the temporary folder."""
        self.queue.close()
        self._temporary.cleanup()

    def submit(
        self, photos, folder, strength=1.0, photo_format=None, hints=None, taken=()
    ):
        """Looks at photo files and puts those that are photos into the queue.

        Args:
            photos: (path, name) of each; the name is the client's.
            folder: where the results go.
            strength: scales the colour.
            photo_format: of the results; by default that of each photo.
            hints: a list of `Hint` for each photo; None for none at all.
            taken: names that the results are not to have.

        Returns:
            A `Job` for each photo.

        Raises:
            JobError: the queue is full, these are too many, or there are hints
                and the generator takes none.
        """
        hints = hints or [[]] * len(photos)
        if len(photos) > self.limits.photos:
            raise JobError(
                413,
                "too_many_photos",
                f"At most {self.limits.photos} photos at a time.",
            )
        if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            raise JobError(503, "full", "The disk is full; try again later.")
        if any(hints) and not self.queue.colorizer.takes_hints:
            raise JobError(422, "wrong_hints", "hints: this generator takes none.")
        jobs, taken = [], {REPORT, *map(str.casefold, taken)}
        for (path, name), own in zip(photos, hints, strict=True):
            try:
                extension, size = self._validate(path, name, photo_format)
                name = unique_name(safe_name(name, extension), taken)
                result = Path(folder) / name
                task = Task(Path(path), result, size, strength, own)
                jobs.append(Job(name, task))
            except JobError as error:
                jobs.append(Job(safe_name(name), error=error))
        try:
            self.queue.submit([job.task for job in jobs if job.task])
        except QueueFullError as error:
            raise JobError(
                503, "full", "Too many photos are waiting; try again in a moment."
            ) from error
        return jobs

    def _validate(self, path, name, photo_format):
        """Returns the extension of the result, and the (height, width)."""
        name = safe_name(name)
        most = self.limits.photo_bytes
        if os.path.getsize(path) > most:
            reason = f"{name} is too large: at most {most / 2**20:.0f} MB."
            raise JobError(413, "too_large", reason)
        try:
            extension, size = validate_photo(path)
        except PhotoTooLargeError as error:
            reason = f"{name} has too many pixels: at most 134 million."
            raise JobError(413, "too_many_pixels", reason) from error
        except PhotoError as error:
            reason = (
                f"{name} is not a photo that can be read here: JPEG, PNG, TIFF, WebP "
                "and BMP are."
            )
            raise JobError(400, "not_a_photo", reason) from error
        if photo_format:
            extension = f".{photo_format}"
        if max(size) > MAX_SIDE.get(extension, max(size)):
            reason = (
                f"{name} is too large for {extension[1:]}, which holds "
                f"{MAX_SIDE[extension]} pixels a side."
            )
            raise JobError(422, "wrong_format", reason)
        return extension, size

    def finish(self, job):
        """Notes in a job, whose task is done, why there is no result."""
        error = None
        if job.task:
            cancelled = job.task.future.cancelled()
            error = TaskCancelledError() if cancelled else job.task.future.exception()
        if isinstance(error, PhotoError):
            reason = f"{job.name} cannot be read: damaged, or of a rare kind."
            job.error = JobError(400, "damaged", reason)
        elif error:
            if not isinstance(error, TaskCancelledError):
                _log.error("A photo failed: %s", type(error).__name__)
            reason = f"{job.name} could not be colorized."
            job.error = JobError(500, "failed", reason)
        self.photos.labels(job.error.code if job.error else "done").inc()

    def page_is_full(self, more=0):
        """Whether the page's folder has no room for so many bytes."""
        size = more
        for path in self.page_folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # just expired
                size += path.stat().st_size + FILE_OVERHEAD_BYTES
        return size > self.limits.page_bytes

    def remove_expired(self):
        """Removes what the page has kept for long enough."""
        oldest = time.time() - self.limits.page_seconds
        found = set(self.page_folder.rglob("*")) - self.permanent
        for path in sorted(found, reverse=True):
            with contextlib.suppress(OSError):  # a folder that is not empty
                if path.stat().st_mtime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()


def safe_name(name, extension=None):
    """Returns a client's name of a file as one that is safe in any folder.

    "../a b.jpeg" gives "a b.jpeg", and "a b.png" for the extension ".png".
    """
    name = (name or "").replace("\\", "/").split("/")[-1]
    name = "".join(
        "_" if letter in '<>:"|?*' else letter
        for letter in name
        if letter.isprintable()
    )
    path = Path(name.strip(" .") or "photo")
    suffix = path.suffix if extension is None else extension
    if extension == ".jpg" and path.suffix.lower() in (".jpg", ".jpeg"):
        suffix = path.suffix
    return f"{path.stem[:60]}{suffix[:10]}"


def unique_name(name, taken):
    """Returns the name, with a number if it is in `taken`, and adds it there."""
    path, number = Path(name), 1
    while name.casefold() in taken:
        number += 1
        name = f"{path.stem} ({number}){path.suffix}"
    taken.add(name.casefold())
    return name


def write_zip(path, results, reasons):
    """Writes results, (name, path) of each, into a zip, with a report of reasons."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, result in results:
            archive.write(result, name)
        if reasons:
            archive.writestr(REPORT, "\n".join([*reasons, ""]))
