"""Colorizes a film: its luma stays unchanged, and its colors are steady.

Decoding, network and steadying have a thread each; painting and encoding share one.
A hidden folder beside the result keeps the encoded film in pieces of some seconds,
until they are joined. After a kill, the next run continues after the last piece.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from colorizer_tf.files import atomic_write, check_free
from colorizer_tf.film_hints import FilmHint, find_frames
from colorizer_tf.hints import Hint, HintError
from colorizer_tf.painting import check_strength, fit_chroma, paint_planes
from colorizer_tf.pieces import Pieces, PieceWriter
from colorizer_tf.reel import Film, FilmError
from colorizer_tf.report import bar_options
from colorizer_tf.splice import ENDINGS, Encoder, check_container, join
from colorizer_tf.steady import Look, follow_hints, steady

# Frames that pass through the network together, and frames that are steadied together.
# Four chunks are in memory at a time; those of large frames are shorter.
BATCH = 4
CHUNK = 24
LARGE_CHUNK, LARGE_PIXELS = 12, 3 * 2**19


@dataclass
class FilmReport:
    """The outcome of a film.

    Attributes:
        result: the file.
        frames: the number of its frames.
        notes: remarks as texts, such as that the film was interlaced or breaks off.
    """

    result: Path
    frames: int
    notes: list[str] = field(default_factory=list)

    def __str__(self):
        return "\n  ".join([f"{self.result}: {self.frames:,} frames", *self.notes])


def colorize_film(colorizer, source, destination, strength=1.0, hints=()):
    """Colorizes a film.

    Args:
        colorizer: a `Colorizer`.
        source: the film; it is not changed.
        destination: the result, a .mp4, .mkv, .mov or .webm; or a folder, which
            exists or whose name has no extension. Existing files are not replaced.
        strength: factor of the predicted color, not of the hints; 0 or more.
        hints: a list of `FilmHint`.

    Returns:
        A `FilmReport`.

    Raises:
        FilmError: the film cannot be read, or the result cannot be written.
        FileExistsError: the result exists already.
        HintError: a hint is not a `FilmHint`.
        ValueError: the strength is below 0, or the generator takes no hints.
    """
    source, destination = Path(source), Path(destination)
    if destination.is_dir() or not destination.suffix:
        destination = destination / source.with_suffix(ending_for(source)).name
    if destination.suffix.lower() not in ENDINGS:
        raise FilmError(
            f"{destination} cannot be written: a film's ending must be one of "
            f"{', '.join(ENDINGS)}."
        )
    check_free(destination)
    return replace_film(colorizer, source, destination, strength, hints)


def ending_for(film):
    """Returns the default extension for the result of a film."""
    ending = Path(film).suffix
    return ending if ending.lower() in ENDINGS else ".mkv"


def replace_film(colorizer, source, destination, strength=1.0, hints=()):
    """Colorizes a film as `colorize_film` does, and replaces an existing file."""
    check_strength(strength)
    with Film(source) as film:
        work = _Work(colorizer, film, destination, strength, hints)
        work.colorize()
        return work.join()


class _Work:
    """A film in progress, with its finished pieces."""

    def __init__(self, colorizer, film, destination, strength, hints):
        self.colorizer, self.film = colorizer, film
        self.destination, self.strength = destination, strength
        self.encoder = Encoder(film, destination.suffix.lower())
        self.notes = check_container(film, destination.suffix.lower())
        if film.interlaced:
            self.notes.insert(0, "it was interlaced, and is deinterlaced")
        self.view = _View(colorizer, film)
        for hint in hints:
            if not isinstance(hint, FilmHint):
                raise HintError(f"A film's hints are of FilmHint. Received: {hint!r}")
        if hints:  # raises early for a generator that takes none
            colorizer.encode_hints(list(hints), np.zeros(self.view.shape, np.float32))
        large = film.height * film.width > LARGE_PIXELS
        self.chunk = LARGE_CHUNK if large else CHUNK
        self.pieces = Pieces(destination, self._settings(hints))
        self.hints = hints

    def _settings(self, hints):
        """Returns what the result depends on, and the network's answer to a ramp."""
        facts = self.film.path.stat()
        height, width = self.view.shape
        ramp = np.float32(np.linspace(0, 1, height * width)).reshape(height, width)
        (answer,) = self.colorizer.predict_chroma([ramp], [None])
        settings = {
            "film": [str(self.film.path.resolve()), facts.st_size, facts.st_mtime_ns],
            "strength": float(self.strength),
            "hints": [asdict(hint) for hint in hints],
            "shape": [height, width],
            "encoder": [self.encoder.name, self.encoder.options],
            "chunk": self.chunk,
        }
        return settings, answer[::8, ::8].ravel().tolist()

    def colorize(self):
        """Makes all missing pieces."""
        piece = self.pieces.last()
        if piece and piece["end"]:
            return
        hints = self._follow_hints()
        film, done = self.film, int(piece["frames"]) if piece else 0
        total = max(film.expected or 0, done) or None
        bar = tqdm(
            desc="colorizing",
            total=total,
            initial=done,
            unit="frame",
            **bar_options(),
        )
        last = piece and Look(None, piece["luma"], sums=piece["sums"])
        with bar, ExitStack() as threads:
            batches = _ahead(threads, self._see(piece, done))
            guessed = _ahead(threads, self._guess(batches, done, hints))
            looks = _cut(chain.from_iterable(guessed), self.chunk)
            chunks = _ahead(threads, steady(looks, last))
            writer = PieceWriter(self.pieces, self.encoder, piece, bar)
            for chunk in chunks:
                for look in chunk:
                    writer.write(look.frame, self._paint(look))
                    look.frame.luma = None  # it takes most of the memory
                writer.end_chunk(look.luma, look.sums, look.frame.broken)
            writer.finish(film)

    def _see(self, piece, done):
        """Returns the frames after a piece, in batches of `Look`."""
        place = ()
        if piece:
            place = int(piece["pts"].max()), done, int(piece["broken"])
        frames = self.film.frames(*place)
        looks = (Look(frame, self.view.shrink(frame.luma)) for frame in frames)
        return _cut(looks, BATCH)

    def _guess(self, batches, number, hints):
        """Yields the batches with the network's chroma in each `Look`."""
        for batch in batches:
            cells = [
                self.colorizer.encode_hints(hints.get(number + place, ()), look.luma)
                for place, look in enumerate(batch)
            ]
            lumas = [look.luma for look in batch]
            strengths = [self.strength] * len(batch)
            chromas = self.colorizer.predict_chroma(lumas, cells, strengths)
            for look, chroma in zip(batch, chromas, strict=True):
                look.chroma = chroma
            number += len(batch)
            yield batch

    def _paint(self, look):
        """Returns a frame's chroma planes, (Cb, Cr)."""
        luma, chroma = map(self.view.turn_back, (look.luma, look.chroma))
        lines, halved = fit_chroma(luma, chroma), self.encoder.halved
        return paint_planes(look.frame.luma, *lines, self.film.levels, halved)

    def _follow_hints(self):
        """Returns the hints of frames: number -> list of `Hint`."""
        if not self.hints:
            return {}
        options = {"desc": "following hints", "unit": "frame"} | bar_options()
        with Film(self.film.path) as film:
            times = (
                float(frame.pts * film.time_base - film.start)
                for frame in film.frames()
            )
            starts = find_frames(times, self.hints)
        with Film(self.film.path) as film, tqdm(**options) as bar:

            def lumas():
                for frame in film.frames():
                    bar.update()
                    yield self.view.shrink(frame.luma)

            found = follow_hints(lumas(), starts)
        return {
            number: [Hint(x, y, color) for x, y, color in places]
            for number, places in found.items()
        }

    def join(self):
        """Joins all pieces into the result, and removes them."""
        pieces, film = self.pieces, self.film
        last = pieces.last()
        notes = [*self.notes, *json.loads(str(last["notes"]))]
        pts = np.concatenate([piece["pts"] for piece in pieces])
        try:
            with atomic_write(self.destination) as temporary:
                join(
                    temporary,
                    film,
                    self.encoder,
                    pieces.packets(),
                    pts,
                    int(last["tail"]),
                )
        except (OSError, ValueError) as error:  # PyAV's errors are of either class
            raise FilmError(f"{self.destination} cannot be written: {error}") from error
        pieces.remove()
        return FilmReport(self.destination, len(pts), notes)


class _View:
    """Scales a film's frames for the network: small, upright, with square pixels."""

    def __init__(self, colorizer, film):
        width = max(1, round(film.width * film.aspect))
        self._turns = round(film.rotation / 90) % 4
        sideways = self._turns % 2
        size = (width, film.height) if sideways else (film.height, width)
        self.shape = colorizer.working_shape(*size)
        self._stored = self.shape[::-1] if sideways else self.shape
        self._levels = film.levels

    def shrink(self, luma):
        """Returns a luma plane as the network's input: float32 (h, w), in [0, 1]."""
        small = cv2.resize(luma, self._stored[::-1], interpolation=cv2.INTER_AREA)
        levels = self._levels
        small = np.clip((np.float32(small) - levels.black) / levels.luma_span, 0, 1)
        return np.ascontiguousarray(np.rot90(small, self._turns))

    def turn_back(self, planes):
        """Rotates planes of the network, (h, w) or (h, w, 2), as the film is stored."""
        return np.ascontiguousarray(np.rot90(planes, -self._turns))


def _cut(items, size):
    """Yields an iterator's items in lists of a size; the last may be shorter."""
    while part := list(islice(items, size)):
        yield part


def _ahead(threads, items):
    """Yields an iterator's items; a thread computes each one ahead of its use.

    Args:
        threads: an `ExitStack`, which waits for the thread when it closes.
        items: an iterator.
    """
    thread = threads.enter_context(ThreadPoolExecutor(1))

    def make():
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item

    return make()
