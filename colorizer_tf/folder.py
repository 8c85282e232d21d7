"""Colorizes a folder of photos: reading, network and writing run in parallel."""

import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass, field
from pathlib import Path

from colorizer_tf.account import RECORD, Account, Claim
from colorizer_tf.files import EXTENSIONS
from colorizer_tf.hints import HintError, read_hints
from colorizer_tf.painting import check_strength
from colorizer_tf.photos import PhotoError, photo_size, read_gray
from colorizer_tf.pipeline import Photo, predict, prepare
from colorizer_tf.places import Folder
from colorizer_tf.report import Progress

# Batches that run at the same time.
THREADS = 3
# The most pixels in a batch, at the network's size and at full size.
NETWORK_PIXELS = 2**19
PHOTO_PIXELS = 2**25
# The most photos that are measured and wait for others of their shape.
PHOTOS_AHEAD = 512
_log = logging.getLogger(__name__)


def colorize_folder(colorizer, source, destination, strength=1.0, extension=None):
    """Colorizes all photos below a folder into the same tree of folders.

    A photo is skipped if its result exists, and photo, hints, generator and
    settings are unchanged. A hidden file in the destination, the account, records
    them. A result gets a number if another result or a foreign file has its name.
    Hints are read from `scan.hints.json` beside `scan.jpg`.

    Args:
        colorizer: a `Colorizer`.
        source: a folder; its photos are not changed.
        destination: another folder, created if it is missing. It may lie inside
            the source; its own photos are then left out.
        strength: factor of the predicted color, not of the hints; 0 or more.
        extension: the format of the results, such as ".jpg"; by default each
            result has the format of its photo.

    Returns:
        A `Report`. It names each photo that failed, with the reason.

    Raises:
        FileNotFoundError: the source does not exist, or holds no photo.
        OSError: the destination cannot be created or written to.
        ValueError: the destination is or contains the source, or `extension` or
            `strength` is invalid.
    """
    source, destination = Folder(source), Folder(destination)
    names = list_photos(source, destination, strength, extension)
    destination.make()
    account = Account(source, destination, describe(colorizer, strength))
    lock = threading.Lock()
    with (
        open(destination.path / RECORD, "a", encoding="utf-8") as record,
        Progress(source, destination, names) as progress,
    ):
        record.write("\n")  # ends a partial line that a killed run left

        def note(work, finished):
            with lock:
                record.write(account.line(work.claim, finished))
                record.flush()

        works = (
            Work(
                number,
                source.path / claim.photo,
                destination.path / claim.result,
                claim,
                source.path / claim.hints if claim.hints else None,
                note,
            )
            for number, claim in progress.claim_all(account, extension)
        )
        for work in colorize_works(colorizer, works, strength):
            progress.finish(work.number, work.reason)
    return progress.report


def list_photos(source, destination, strength, extension):
    """Checks the arguments and returns the names of the photos to colorize.

    Args:
        source: the `places.Place` of the photos.
        destination: the `places.Place` of the results.
        strength: as in `colorize_folder`.
        extension: as in `colorize_folder`.

    Raises:
        FileNotFoundError: the source does not exist, or holds no photo.
        ValueError: the destination is or contains the source, or `extension` or
            `strength` is invalid.
    """
    check_destination(source, destination)
    if extension not in (None, *EXTENSIONS):
        raise ValueError(
            f"extension must be one of {', '.join(EXTENSIONS)}. Received: {extension!r}"
        )
    check_strength(strength)
    names = source.find()
    inside = source.find_inside(destination)
    if inside is not None:
        names = [name for name in names if not name.startswith(f"{inside}/")]
    return names


def check_destination(source, destination):
    """Raises `ValueError` if the destination is or contains the source."""
    if destination.find_inside(source) is not None:
        raise ValueError(
            f"The destination {destination} is or contains the source {source}: "
            "results would mix with photos. Name another folder."
        )


@dataclass
class Work:
    """A photo in progress.

    Attributes:
        number: the photo's index.
        photo: the file to read.
        result: the file to write.
        claim: the account's `Claim`.
        hints: the file with its hints, or None.
        note: called as `note(work, False)` just before the result is written, and
            as `note(work, True)` after.
        size: (height, width) in pixels.
        pixels: the photo in memory, a `pipeline.Photo`.
        reason: why it failed, or "".
    """

    number: int
    photo: Path
    result: Path
    claim: Claim | None = None
    hints: Path | None = None
    note: Callable = lambda work, finished: None
    size: tuple[int, int] = (1, 1)
    pixels: Photo | None = field(default=None, repr=False)
    reason: str = ""

    def attempt(self, step, *args):
        """Runs a step unless an earlier one failed; keeps the reason of a failure."""
        if not self.reason:
            try:
                step(*args)
            except (PhotoError, HintError, OSError) as error:
                self.reason = str(error)
            except Exception as error:  # cv2 reports lack of memory as its own error
                _log.exception("%s cannot be colorized", self.photo)
                self.reason = str(error) or f"{self.photo}: {type(error).__name__}"

    def measure(self):
        self.size = photo_size(self.photo)

    def read(self, colorizer, strength):
        hints = read_hints(self.hints) if self.hints else ()
        self.pixels = prepare(colorizer, read_gray(self.photo), strength, hints)

    def write(self):
        self.note(self, False)
        self.pixels.write(self.result)
        self.note(self, True)

    def finish(self):
        """Frees the photo's memory."""
        self.pixels = None


def colorize_works(colorizer, works, strength, threads=THREADS):
    """Takes photos through all steps, and yields each finished `Work`.

    Each thread reads a batch, runs the network and writes the results. While one
    thread uses the network, others read and write. At most `threads` batches are in
    memory, and `works` is consumed only as needed.

    Args:
        colorizer: a `Colorizer`.
        works: yields a `Work` for each photo.
        strength: factor of the predicted color.
        threads: how many batches run at the same time.
    """
    pool, stopped = ThreadPoolExecutor(threads), threading.Event()

    def attempt(batch, step, *args):
        for work in batch:
            if stopped.is_set():
                raise CancelledError
            work.attempt(getattr(work, step), *args)

    def colorize(batch):
        attempt(batch, "read", colorizer, strength)
        predict(colorizer, [work.pixels for work in batch if not work.reason])
        attempt(batch, "write")
        for work in batch:
            work.finish()
        return batch

    running = set()
    try:
        for batch in _make_batches(colorizer, works):
            running.add(pool.submit(colorize, batch))
            if len(running) > threads:  # one batch waits, so that no thread idles
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        for future in as_completed(running):
            yield from future.result()
    finally:
        # After an interruption, only the photos in progress are finished.
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _make_batches(colorizer, works):
    """Groups works into batches that share a network shape."""
    waiting, pixels = defaultdict(list), defaultdict(int)
    for work in works:
        work.attempt(work.measure)
        shape = colorizer.network_shape(*colorizer.working_shape(*work.size))
        size = work.size[0] * work.size[1]
        if waiting[shape] and pixels[shape] + size > PHOTO_PIXELS:
            yield waiting.pop(shape)
            del pixels[shape]
        waiting[shape].append(work)
        pixels[shape] += size
        most = max(1, NETWORK_PIXELS // (shape[0] * shape[1]))
        if len(waiting[shape]) >= 2 ** (most.bit_length() - 1):
            fullest = shape
        elif sum(map(len, waiting.values())) >= PHOTOS_AHEAD:
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        else:
            continue
        yield waiting.pop(fullest)
        del pixels[fullest]
    yield from waiting.values()


def describe(colorizer, strength):
    """Returns a digest of generator, working size and strength."""
    facts = colorizer.working_size, float(strength), colorizer.network.digest
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
