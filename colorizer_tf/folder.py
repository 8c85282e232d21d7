"""A folder of photos colorized: reading, network and writing at the same time."""

import hashlib
import json
import threading
import unicodedata
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from colorizer_tf.photos import (
    EXTENSIONS,
    GrayPhoto,
    find_photos,
    photo_size,
    read_gray,
    write_photo,
)
from colorizer_tf.upsampling import check_strength, paint_chroma

RECORD = ".colorizer_tf.jsonl"
# So many batches are under way at a time.
THREADS = 3
# A batch holds so many pixels at most, at the network's size and at full size.
NETWORK_PIXELS = 2**19
PHOTO_PIXELS = 2**25


@dataclass
class Outcome:
    """What became of one photo.

    Attributes:
        photo: the source.
        result: the file that it gave, or was to give.
        status: "done", "skipped" (its result was there already) or "failed".
        reason: why it failed.
    """

    photo: Path
    result: Path
    status: str
    reason: str = ""


@dataclass
class Report:
    """What became of a folder: an `Outcome` for each photo, in order of names."""

    outcomes: list[Outcome]

    def __iter__(self):
        return iter(self.outcomes)

    def __len__(self):
        return len(self.outcomes)

    def __str__(self):
        counts = ", ".join(
            f"{len(self.with_status(status))} {status}"
            for status in ("done", "skipped", "failed")
        )
        reasons = [f"  {outcome.reason}" for outcome in self.with_status("failed")]
        return "\n".join([f"{len(self)} photos: {counts}", *reasons])

    def with_status(self, status):
        """Returns the outcomes that are "done", "skipped" or "failed"."""
        return [outcome for outcome in self.outcomes if outcome.status == status]


def colorize_folder(colorizer, source, destination, strength=1.0, extension=None):
    """Colorizes all photos below a folder into the same tree of folders.

    A photo is skipped if its result is there, and the photo, the generator and
    the settings are what they were; a hidden file in the destination keeps
    account. A result whose name is taken, by another photo's result or by a
    file from elsewhere, gets a number.

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
    source, destination = Path(source).resolve(), Path(destination).resolve()
    if source.is_relative_to(destination):
        raise ValueError(
            f"The destination {destination} is or contains the source {source}: "
            "results would mix with photos. Name another folder."
        )
    if extension not in (None, *EXTENSIONS):
        raise ValueError(
            f"extension must be one of {', '.join(EXTENSIONS)}. Received: {extension!r}"
        )
    photos = [p for p in find_photos(source) if not p.is_relative_to(destination)]
    check_strength(strength)
    if destination.is_file():
        raise NotADirectoryError(f"{destination} is a file: name a folder.")
    destination.mkdir(parents=True, exist_ok=True)
    with (
        _Record(destination, _describe(colorizer, strength)) as record,
        tqdm(desc="colorizing", total=len(photos), unit="photo", mininterval=1) as bar,
    ):
        outcomes, todo = {}, {}
        for photo in photos:
            name = photo.relative_to(source).with_suffix(extension or photo.suffix)
            try:
                result = record.claim(photo, name)
                done = record.is_done(photo, result)
            except OSError as error:  # the photo has just gone
                outcomes[photo] = Outcome(
                    photo, destination / name, "failed", str(error)
                )
                bar.update()
                continue
            if done:
                outcomes[photo] = Outcome(photo, result, "skipped")
                bar.update()
            else:
                todo[photo] = result
        for outcome in _colorize_all(colorizer, strength, todo, record):
            outcomes[outcome.photo] = outcome
            bar.update()
    return Report([outcomes[photo] for photo in photos])


@dataclass
class _Work:
    """A photo on its way: what the steps have found so far."""

    photo: Path
    result: Path
    size: tuple[int, int] | None = None
    source: GrayPhoto | None = None
    luma: np.ndarray | None = None
    chroma: np.ndarray | None = None
    reason: str = ""

    def attempt(self, step, *args):
        """Does a step, unless one before it failed."""
        if not self.reason:
            try:
                step(self, *args)
            except Exception as error:  # cv2 has its own for a lack of memory
                self.reason = str(error) or f"{self.photo}: {type(error).__name__}"
        return self

    def finish(self):
        """Returns what became of the photo, and frees its memory."""
        self.source = self.luma = self.chroma = None
        status = "failed" if self.reason else "done"
        return Outcome(self.photo, self.result, status, self.reason)


def _colorize_all(colorizer, strength, todo, record):
    """Yields an `Outcome` for each photo of `todo`, a dictionary photo -> result.

    Each thread takes a batch from its files to its files: while one is at the
    network, others read and write. So many batches are in memory, no more.
    """
    pool, stopped = ThreadPoolExecutor(THREADS), threading.Event()

    def attempt(step, works, *args):
        for work in works:
            if stopped.is_set():
                raise CancelledError
            work.attempt(step, *args)
        return works

    def colorize(batch):
        attempt(_read, batch, colorizer)
        _predict([work for work in batch if not work.reason], colorizer)
        attempt(_write, batch, strength, record)
        return [work.finish() for work in batch]

    try:
        works = pool.submit(attempt, _measure, [_Work(*pair) for pair in todo.items()])
        batches = _make_batches(colorizer, works.result())
        for future in [pool.submit(colorize, batch) for batch in batches]:
            yield from future.result()
    finally:
        # After an interruption, what is being written is finished, all else not.
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _make_batches(colorizer, works):
    """Cuts the work into batches of one network shape each."""

    def shape(work):
        return colorizer.network_shape(*colorizer.working_shape(*work.size or (1, 1)))

    batches = []
    for (height, width), group in groupby(sorted(works, key=shape), shape):
        most = max(1, NETWORK_PIXELS // (height * width))
        pixels = PHOTO_PIXELS
        for work in group:
            pixels += np.prod(work.size or (1, 1))
            if pixels > PHOTO_PIXELS or len(batches[-1]) == most:
                batches.append([])
                pixels = np.prod(work.size or (1, 1))
            batches[-1].append(work)
    return batches


def _measure(work):
    work.size = photo_size(work.photo)


def _read(work, colorizer):
    work.source = read_gray(work.photo)
    work.luma = colorizer.shrink(work.source.gray)


def _predict(works, colorizer):
    # A batch was made by the sizes in the files: EXIF has turned some since.
    def shape(work):
        return colorizer.network_shape(*work.luma.shape)

    for _, group in groupby(sorted(works, key=shape), shape):
        group = list(group)
        chromas = colorizer.predict_chroma([work.luma for work in group])
        for work, chroma in zip(group, chromas, strict=True):
            work.chroma = chroma


def _write(work, strength, record):
    rgb = paint_chroma(work.source.gray, work.luma, work.chroma, strength)
    record.add(work.photo, work.result, finished=False)
    write_photo(work.result, rgb, work.source)
    record.add(work.photo, work.result, finished=True)


def _describe(colorizer, strength):
    """A digest of all that a result depends on but the photo."""
    digest = hashlib.sha256(repr((colorizer.working_size, float(strength))).encode())
    for weights in colorizer.generator.get_weights():
        digest.update(np.ascontiguousarray(weights))
    return digest.hexdigest()[:16]


class _Record:
    """The account of which photo gave which result, in the destination folder.

    A line of JSON before a result is written, and another after it: whenever a
    run is killed, the next one knows which files are its own, and which of them
    are finished.
    """

    def __init__(self, folder, settings):
        self.folder = folder
        self.settings = settings
        self.entries = {}
        self.claimed = set()
        self.lock = threading.Lock()
        path = folder / RECORD
        if path.is_file():
            for line in path.read_text("utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # half a line, left by a kill
                    continue
                self.entries[entry["result"]] = entry
        self.file = open(path, "a", encoding="utf-8")
        self.file.write("\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def claim(self, photo, name):
        """Returns a path for a photo's result that nothing else has taken."""
        state = _state(photo)
        number, numbered = 1, name
        while not self._is_free(numbered, photo, state):
            number += 1
            numbered = name.with_stem(f"{name.stem} ({number})")
        self.claimed.add(_fold(numbered))
        return self.folder / numbered

    def is_done(self, photo, result):
        """Whether the result is there, finished, and would be the same again."""
        entry = self.entries.get(_fold(result.relative_to(self.folder)))
        return (
            entry is not None
            and entry["finished"]
            and entry["settings"] == self.settings
            and entry["state"] == _state(photo)
            and result.is_file()
            and result.stat().st_size > 0  # a power cut can leave an empty file
        )

    def add(self, photo, result, finished):
        """Notes that a result is about to be written, or finished."""
        entry = {
            "result": _fold(result.relative_to(self.folder)),
            "photo": str(photo),
            "state": _state(photo),
            "settings": self.settings,
            "finished": finished,
        }
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()

    def _is_free(self, name, photo, state):
        if _fold(name) in self.claimed:
            return False
        entry = self.entries.get(_fold(name))
        if entry is None:
            return not (self.folder / name).exists()
        # The same photo may have changed since, or moved.
        return entry["photo"] == str(photo) or (
            entry["state"] == state and not Path(entry["photo"]).exists()
        )


def _state(photo):
    facts = photo.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _fold(name):
    # Names that differ in this alone are one name to some file systems.
    return unicodedata.normalize("NFC", name.as_posix()).casefold()
