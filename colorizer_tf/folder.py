"""A folder of photos colorized: reading, network and writing at the same time."""

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

# So many batches are under way at a time.
THREADS = 3
# A batch holds so many pixels at most, at the network's size and at full size.
NETWORK_PIXELS = 2**19
PHOTO_PIXELS = 2**25
# So many photos at most have been looked at, and wait for others of their shape.
PHOTOS_AHEAD = 512
_log = logging.getLogger(__name__)


def colorize_folder(colorizer, source, destination, strength=1.0, extension=None):
    """Colorizes all photos below a folder into the same tree of folders.

    A photo is skipped if its result is there, and the photo, the generator and
    the settings are what they were; a hidden file in the destination keeps
    account. A result whose name is taken, by another photo's result or by a
    file from elsewhere, gets a number. The hints in `scan.hints.json` beside
    `scan.jpg` are taken along, and belong to what the photo is.

    Args:
        colorizer: a `Colorizer`.
        source: a folder; nothing in it is touched.
        destination: another folder, made if need be. It may lie inside the
            source: photos in it are left out.
        strength: scales the color; 0 gives gray photos.
        extension: the format of the results, such as ".jpg"; by default each
            has the format of its photo.

    Returns:
        A `Report`. What could not be read or written is in it with the reason;
        all others are done.

    Raises:
        FileNotFoundError: no such folder, or no photo in it.
        OSError: the destination cannot be made, or not written to.
        ValueError: the destination is the source, or contains it; or there is no
            such format.
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
        record.write("\n")  # ends half a line, left by a kill

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
    """Returns the names of the photos to be colorized, when all arguments are fit.

    Args:
        source: where photos are, such as an `places.Folder`.
        destination: where results go, likewise.
        strength: as in `colorize_folder`.
        extension: as in `colorize_folder`.

    Raises:
        FileNotFoundError: there is no such place, or no photo in it.
        ValueError: the destination is the source, or contains it; or there is no
            such format.
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
    """Raises `ValueError` where results would mix with what they are made of."""
    if destination.find_inside(source) is not None:
        raise ValueError(
            f"The destination {destination} is or contains the source {source}: "
            "results would mix with photos. Name another folder."
        )


@dataclass
class Work:
    """A photo on its way: where it is, and what the steps have found so far.

    Attributes:
        number: which photo it is.
        photo: the file to read.
        result: the file to write.
        claim: what the account says of it.
        hints: the file with its hints, if there is one.
        note: called with the work itself and `False` just before the result is
            written, and with `True` after.
        reason: why it failed.
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
        """Does a step, unless one before it failed."""
        if not self.reason:
            try:
                step(*args)
            except (PhotoError, HintError, OSError) as error:
                self.reason = str(error)
            except Exception as error:  # cv2 has its own for a lack of memory
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
    """Takes photos through all steps, and yields each `Work` that is finished.

    Each thread takes a batch from its files to its files: while one is at the
    network, others read and write. So many batches are in memory, no more; and
    no more of `works` is asked for than is needed to fill them.

    Args:
        colorizer: a `Colorizer`.
        works: yields a `Work` for each photo.
        strength: scales the color.
        threads: so many batches are under way at a time.
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
            if len(running) > threads:  # one waits, so that no thread has to
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        for future in as_completed(running):
            yield from future.result()
    finally:
        # After an interruption, what is being written is finished, all else not.
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _make_batches(colorizer, works):
    """Cuts the work, as it comes, into batches of one network shape each."""
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
    """Returns a digest of all that a result depends on but the photo."""
    facts = colorizer.working_size, float(strength), colorizer.network.digest
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
