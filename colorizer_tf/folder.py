"""A folder of photos colorized: reading, network and writing at the same time."""

import hashlib
import sys
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
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from colorizer_tf.account import RECORD, Account, Claim, Folder
from colorizer_tf.hints import read_hints
from colorizer_tf.photos import (
    EXTENSIONS,
    GrayPhoto,
    PhotoError,
    photo_size,
    read_gray,
    write_photo,
)
from colorizer_tf.upsampling import check_strength, paint_chroma

# So many batches are under way at a time.
THREADS = 3
# A batch holds so many pixels at most, at the network's size and at full size.
NETWORK_PIXELS = 2**19
PHOTO_PIXELS = 2**25
# So many photos at most have been looked at, and wait for others of their shape.
PHOTOS_AHEAD = 512


@dataclass
class Outcome:
    """What became of one photo.

    Attributes:
        photo: the source, a `Path`; of a bucket, its address.
        result: what it gave, or was to give, likewise.
        status: "done", "skipped" (its result was there already) or "failed".
        reason: why it failed.
    """

    photo: Path | str
    result: Path | str
    status: str
    reason: str = ""

    @property
    def is_here(self):
        """Whether photo and result are files, and not in a bucket."""
        return isinstance(self.photo, Path) and isinstance(self.result, Path)


class Report:
    """What became of all photos: an `Outcome` for each, in order of names.

    Args:
        source: where the photos are, such as an `account.Folder`.
        destination: where the results are, likewise.
        names: those of the photos.
    """

    def __init__(self, source, destination, names):
        # Of a million photos, this is what stays in memory.
        self._source = source
        self._destination = destination
        self._names = names
        self._results = list(names)
        self._statuses = ["failed"] * len(names)
        self._reasons = {}

    def __iter__(self):
        return map(self._outcome, range(len(self)))

    def __len__(self):
        return len(self._names)

    def __str__(self):
        counts = ", ".join(
            f"{self.count(status)} {status}" for status in ("done", "skipped", "failed")
        )
        reasons = [f"  {outcome.reason}" for outcome in self.with_status("failed")]
        return "\n".join([f"{len(self)} photos: {counts}", *reasons])

    def count(self, status):
        """Returns how many photos are "done", "skipped" or "failed"."""
        return self._statuses.count(status)

    def with_status(self, status):
        """Returns the outcomes that are "done", "skipped" or "failed"."""
        return [
            self._outcome(number)
            for number, has in enumerate(self._statuses)
            if has == status
        ]

    def set(self, number, status, reason="", result=None):
        """Notes what became of a photo, and under which name."""
        self._statuses[number] = status
        if result:
            self._results[number] = result
        if reason:
            self._reasons[number] = reason

    def _outcome(self, number):
        return Outcome(
            self._source.locate(self._names[number]),
            self._destination.locate(self._results[number]),
            self._statuses[number],
            self._reasons.get(number, ""),
        )


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
        strength: scales the colour; 0 gives gray photos.
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
        source: where photos are, such as an `account.Folder`.
        destination: where results go, likewise.
        strength: as in `colorize_folder`.
        extension: as in `colorize_folder`.

    Raises:
        FileNotFoundError: there is no such place, or no photo in it.
        ValueError: the destination is the source, or contains it; or there is no
            such format.
    """
    if destination.find_inside(source) is not None:
        raise ValueError(
            f"The destination {destination} is or contains the source {source}: "
            "results would mix with photos. Name another folder."
        )
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


class Progress:
    """A bar for people, and a `Report` that comes together; a `with` statement.

    Args:
        source: where photos are, such as an `account.Folder`.
        destination: where results go, likewise.
        names: those of all photos.
    """

    def __init__(self, source, destination, names):
        self.report = Report(source, destination, names)
        self._names = names
        self._bar = tqdm(
            desc="colorizing", total=len(names), unit="photo", **_bar_options()
        )
        self._failed = 0
        self._waiting = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def claim_all(self, account, extension):
        """Yields the number and the `Claim` of each photo that is to be done."""
        for number, name in enumerate(self._names):
            try:
                claim = account.claim(name, extension)
                done = account.is_done(claim)
            except (OSError, PhotoError) as error:  # the photo has just gone, say
                self.finish(number, str(error))
                continue
            self.report.set(number, "skipped" if done else "failed", "", claim.result)
            if done:
                self._bar.update()
            else:
                yield number, claim

    def announce(self, text):
        """Shows what has to be waited for until the first photo is through."""
        self._bar.set_description(text)
        self._waiting = True

    def finish(self, number, reason=""):
        """Notes that a photo is done, or why it failed."""
        if self._waiting:
            self._bar.set_description("colorizing", refresh=False)
            self._bar.unpause()
            self._waiting = False
        self.report.set(number, "failed" if reason else "done", reason)
        if reason:
            self._failed += 1
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update()


def _bar_options():
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return {"mininterval": 1}
    return {"mininterval": 30, "file": _Lines(), "ncols": 80}


class _Lines:
    """What `tqdm` writes, as lines of a log."""

    def write(self, text):
        if text := text.strip():
            sys.stderr.write(f"{text}\n")

    def flush(self):
        sys.stderr.flush()


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
    source: GrayPhoto | None = field(default=None, repr=False)
    luma: np.ndarray | None = field(default=None, repr=False)
    cells: np.ndarray | None = field(default=None, repr=False)
    chroma: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""

    def attempt(self, step, *args):
        """Does a step, unless one before it failed."""
        if not self.reason:
            try:
                step(*args)
            except Exception as error:  # cv2 has its own for a lack of memory
                self.reason = str(error) or f"{self.photo}: {type(error).__name__}"

    def measure(self):
        self.size = photo_size(self.photo)

    def read(self, colorizer, strength):
        hints = read_hints(self.hints) if self.hints else ()
        self.source = read_gray(self.photo)
        self.luma = colorizer.shrink(self.source.gray)
        self.cells = colorizer.encode_hints(hints, self.luma)

    def write(self, strength):
        rgb = paint_chroma(self.source.gray, self.luma, self.chroma, strength)
        self.note(self, False)
        write_photo(self.result, rgb, self.source)
        self.note(self, True)

    def finish(self):
        """Frees the photo's memory."""
        self.source = self.luma = self.cells = self.chroma = None


def colorize_works(colorizer, works, strength, threads=THREADS):
    """Takes photos through all steps, and yields each `Work` that is finished.

    Each thread takes a batch from its files to its files: while one is at the
    network, others read and write. So many batches are in memory, no more; and
    no more of `works` is asked for than is needed to fill them.

    Args:
        colorizer: a `Colorizer`.
        works: yields a `Work` for each photo.
        strength: scales the colour.
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
        _predict([work for work in batch if not work.reason], colorizer)
        attempt(batch, "write", strength)
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
        if len(waiting[shape]) >= 2 ** (most.bit_length() - 1):  # see _predict
            fullest = shape
        elif sum(map(len, waiting.values())) >= PHOTOS_AHEAD:
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        else:
            continue
        yield waiting.pop(fullest)
        del pixels[fullest]
    yield from waiting.values()


def _predict(works, colorizer):
    # A batch was made by the sizes in the files: EXIF has turned some since.
    def shape(work):
        return colorizer.network_shape(*work.luma.shape)

    for _, group in groupby(sorted(works, key=shape), shape):
        group = list(group)
        # TensorFlow rounds differently for one photo than for several, and for
        # numbers that its threads do not divide: a photo's result would depend
        # on which others happen to be beside it.
        most = max(2, 2 ** (len(group) - 1).bit_length())
        inputs = [(work.luma, work.cells) for work in group]
        inputs += [(group[-1].luma, None)] * (most - len(group))
        chromas = colorizer.predict_chroma(*map(list, zip(*inputs, strict=True)))
        for work, chroma in zip(group, chromas, strict=False):
            work.chroma = chroma


def describe(colorizer, strength):
    """Returns a digest of all that a result depends on but the photo."""
    digest = hashlib.sha256(repr((colorizer.working_size, float(strength))).encode())
    for weights in colorizer.generator.get_weights():
        digest.update(np.ascontiguousarray(weights))
    return digest.hexdigest()[:16]
