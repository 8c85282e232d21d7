"""A bounded queue that runs the photos of many clients through one network."""

import logging
import os
import shutil
import tempfile
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from colorizer_tf.folder import NETWORK_PIXELS
from colorizer_tf.photos import PhotoError, read_gray
from colorizer_tf.pipeline import Photo, predict, prepare
from colorizer_tf.service.validation import (
    RequestError,
    check_photo,
    result_name,
    safe_name,
    unique_name,
)

# The most pixels in progress in a lane, unless a single photo has more. Photos with
# more than half of them use a second lane, so that they do not hold up others.
MAX_LANE_PIXELS = 2**26
# The network is fastest with several photos. While files are read or written, it waits
# this long for more.
BATCH_DELAY_SECONDS = 0.005
# Uploads are refused if the disk has less free space.
MIN_FREE_BYTES = 2**31
# The file in a zip that names the photos that failed.
REPORT = "report.txt"
_log = logging.getLogger("uvicorn.error")


class QueueFullError(Exception):
    """The queue has no room for the photos."""


class TaskCancelledError(Exception):
    """The client no longer waits for the photo."""


@dataclass(eq=False)
class Task:
    """A photo in a `PhotoQueue`.

    Attributes:
        photo: the file.
        result: the file to write, in the format of its extension.
        size: the photo's (height, width), as its file states.
        strength: factor of the predicted color, not of the hints; 0 or more.
        hints: a list of `Hint`.
        longest_side: the most pixels on a side of the result; None for the photo's
            own size.
        future: its value is `result`. Its error is `PhotoError` for a damaged photo;
            after `cancel`, it is cancelled, or its error is `TaskCancelledError`.
        cancelled: whether `cancel` was called.
        work: the photo in memory, a `pipeline.Photo`.
    """

    photo: Path
    result: Path
    size: tuple[int, int]
    strength: float = 1.0
    hints: list = field(default_factory=list)
    longest_side: int | None = None
    future: Future = field(default_factory=Future)
    cancelled: bool = False
    work: Photo | None = None

    @property
    def pixels(self):
        return self.size[0] * self.size[1]

    def cancel(self):
        """Removes the photo from the queue; a step in progress is finished first."""
        self.cancelled = True
        self.future.cancel()

    def fail(self, error):
        self.work = None
        self.future.set_exception(error)


@dataclass
class _Lane:
    """Photos that start in the order of their arrival."""

    waiting: deque = field(default_factory=deque)
    pixels: int = 0

    def has_room(self):
        task = self.waiting[0]
        return not self.pixels or self.pixels + task.pixels <= MAX_LANE_PIXELS


class PhotoQueue:
    """Colorizes photo files from many threads with one network.

    A few threads read and write files. Photos that are ready at the same time and
    share a `Colorizer.network_shape` pass through the network as a batch. A single
    photo does not wait for others.

    Args:
        colorizer: a `Colorizer`.
        max_photos: the most photos that wait or are in progress.
        max_pixels: the most pixels of these photos; an empty queue accepts a photo of
            any size.
    """

    def __init__(self, colorizer, max_photos=64, max_pixels=2**28):
        self.colorizer = colorizer
        self.max_photos = max_photos
        self.max_pixels = max_pixels
        self._small, self._large = _Lane(), _Lane()
        self._ready = []
        self._photos = self._pixels = self._busy = 0
        self._closed = False
        self._changed = threading.Condition(threading.RLock())
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count()), "photos")
        self._network = threading.Thread(target=self._run_network, daemon=True)
        self._network.start()

    def __len__(self):
        return self._photos

    def submit(self, tasks):
        """Accepts all of a list of tasks, or none.

        Raises:
            QueueFullError: the queue has no room for them, or it is closed.
        """
        pixels = sum(task.pixels for task in tasks)
        with self._changed:
            full = self._photos + len(tasks) > self.max_photos or (
                self._photos and self._pixels + pixels > self.max_pixels
            )
            if self._closed or full:
                raise QueueFullError("The queue is full.")
            self._photos += len(tasks)
            self._pixels += pixels
            for task in tasks:
                self._lane(task).waiting.append(task)
        for task in tasks:
            task.future.add_done_callback(lambda _, task=task: self._release(task))
        with self._changed:
            self._start_waiting()

    def close(self):
        """Finishes all accepted photos, and accepts no more."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._photos)
            self._changed.notify_all()
        self._network.join()
        self._pool.shutdown()

    def _lane(self, task):
        return self._large if 2 * task.pixels > MAX_LANE_PIXELS else self._small

    def _release(self, task):
        with self._changed:
            self._photos -= 1
            self._pixels -= task.pixels
            lane = self._lane(task)
            if task in lane.waiting:
                lane.waiting.remove(task)
            else:
                lane.pixels -= task.pixels
            self._start_waiting()
            self._changed.notify_all()

    def _start_waiting(self):
        for lane in (self._small, self._large):
            while lane.waiting and lane.has_room():
                task = lane.waiting.popleft()
                lane.pixels += task.pixels
                # A cancelled task returns its pixels through `_release`.
                if task.future.set_running_or_notify_cancel():
                    self._start(self._read, task)

    def _start(self, step, task):
        with self._changed:
            self._busy += 1
        self._pool.submit(self._run_step, step, task)

    def _run_step(self, step, task):
        try:
            if task.cancelled:
                raise TaskCancelledError
            step(task)
        except Exception as error:  # the thread that waits for the photo raises it
            task.fail(error)
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def _read(self, task):
        source = scale_down(read_gray(task.photo), task.longest_side)
        task.work = prepare(self.colorizer, source, task.strength, task.hints)
        if task.work.chroma is not None:  # gray, without the network
            self._start(self._write, task)
            return
        with self._changed:
            self._ready.append(task)

    def _run_network(self):
        while batch := self._next_batch():
            try:
                predict(self.colorizer, [task.work for task in batch])
            except Exception as error:  # this thread must survive for other photos
                for task in batch:
                    task.fail(error)
                continue
            for task in batch:
                self._start(self._write, task)

    def _next_batch(self):
        """Waits for photos; returns those with the first one's shape, [] at the end."""

        def shape(task):
            return self.colorizer.network_shape(*task.work.luma.shape)

        with self._changed:
            self._changed.wait_for(
                lambda: self._ready or (self._closed and not self._photos)
            )
            if not self._ready:
                return []
            self._changed.wait_for(lambda: not self._busy, BATCH_DELAY_SECONDS)
            first = shape(self._ready[0])
            most = max(1, NETWORK_PIXELS // (first[0] * first[1]))
            batch = [task for task in self._ready if shape(task) == first][:most]
            self._ready = [task for task in self._ready if task not in batch]
            return batch

    def _write(self, task):
        try:
            task.work.write(task.result)
        except PhotoError as error:  # the photo was read, so it is not damaged
            raise OSError(f"{type(error.__cause__).__name__} in writing") from error
        task.work = None
        task.future.set_result(task.result)


def scale_down(photo, longest_side):
    """Returns a `GrayPhoto` scaled down to a longest side; None keeps its size."""
    height, width = photo.gray.shape
    scale = (longest_side or max(height, width)) / max(height, width)
    if scale >= 1:
        return photo
    size = max(1, round(scale * width)), max(1, round(scale * height))
    gray, alpha = (
        plane if plane is None else cv2.resize(plane, size, None, 0, 0, cv2.INTER_AREA)
        for plane in (photo.gray, photo.alpha)
    )
    return replace(photo, gray=gray, alpha=alpha)


@dataclass
class Job:
    """One photo of a request.

    Attributes:
        photo: its name in error messages.
        name: the result's name, safe as the name of a file.
        task: its `Task` in the queue; None if the photo was refused.
        error: why there is no result.
    """

    photo: str
    name: str = ""
    task: Task | None = None
    error: RequestError | None = None


class JobStore:
    """Accepts photos from clients, and reports their outcomes.

    Args:
        colorizer: a `Colorizer`.
        limits: the `Limits`.

    Attributes:
        folder: the temporary folder of all written files.
        queue: the `PhotoQueue`.
        registry: the Prometheus registry of all metrics.
        photos: the Prometheus counter of photos by outcome.
    """

    def __init__(self, colorizer, limits):
        self.limits = limits
        self._temporary = tempfile.TemporaryDirectory(
            prefix="colorizer_tf_", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
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
            "Photos waiting or in progress",
            registry=self.registry,
        ).set_function(lambda: len(self.queue))

    def close(self):
        """Finishes all photos and removes the temporary folder."""
        self.queue.close()
        self._temporary.cleanup()

    def submit(self, photos, folder, photo_format=None, **options):
        """Checks files and puts the valid photos into the queue.

        Args:
            photos: a list of (path, name), where the name is the client's.
            folder: the folder for the results.
            photo_format: of the results, such as "jpg"; by default that of each photo.
            **options: strength, hints and longest_side, as in `Task`.

        Returns:
            A list with a `Job` for each photo.

        Raises:
            RequestError: there are too many photos, the queue or the disk is full, or
                the generator takes no hints.
        """
        if len(photos) > self.limits.photos:
            reason = f"At most {self.limits.photos} photos at a time."
            raise RequestError(413, "too_many_photos", reason)
        if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            raise RequestError(503, "full", "The disk is full; try again later.")
        if options.get("hints") and not self.queue.colorizer.takes_hints:
            reason = "hints: this generator takes none."
            raise RequestError(422, "wrong_hints", reason)
        jobs, taken = [], {REPORT}
        for path, name in photos:
            job = Job(safe_name(name))
            jobs.append(job)
            try:
                extension, size = check_photo(
                    path,
                    job.photo,
                    photo_format,
                    options.get("longest_side"),
                    self.limits,
                )
            except RequestError as error:
                job.error = error
                continue
            job.name = unique_name(result_name(name, extension), taken)
            job.task = Task(Path(path), Path(folder) / job.name, size, **options)
        try:
            self.queue.submit([job.task for job in jobs if job.task])
        except QueueFullError as error:
            reason = "Too many photos are waiting; try again in a moment."
            raise RequestError(503, "full", reason) from error
        return jobs

    def look_at(self, upload, work):
        """Returns the result of a function of a client's photo.

        Args:
            upload: a `fastapi.UploadFile`.
            work: a function of the gray photo, uint8 or uint16 (H, W).

        Raises:
            RequestError: the file is no photo, is damaged, or is too large.
        """
        name = safe_name(upload.filename)
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            shutil.copyfileobj(upload.file, file, 2**20)
            file.flush()
            check_photo(file.name, name, None, None, self.limits)
            try:
                gray = read_gray(file.name).gray
            except PhotoError as error:
                raise _damaged(name) from error
        return work(gray)

    def finish(self, job):
        """Sets the error of a job whose task is done, and counts its outcome."""
        error = None
        if job.task:
            cancelled = job.task.future.cancelled()
            error = TaskCancelledError() if cancelled else job.task.future.exception()
        if isinstance(error, PhotoError):
            job.error = _damaged(job.photo)
        elif error:
            if not isinstance(error, TaskCancelledError):
                _log.error("A photo failed: %s", type(error).__name__)
            reason = f"{job.photo} could not be colorized."
            job.error = RequestError(500, "failed", reason)
        self.photos.labels(job.error.code if job.error else "done").inc()


def _damaged(name):
    reason = f"{name} cannot be read: damaged, or of a rare kind."
    return RequestError(400, "damaged", reason)
