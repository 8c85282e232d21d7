"""A film colorized: its luma untouched, in colours that are steady, in pieces.

Two threads work at a time: one decodes, asks the network and steadies the colours,
the other paints and encodes. What is encoded is kept in a hidden folder beside the
result, a file for each piece of some seconds, until all pieces are joined: a run that
was killed goes on after the last of them.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from colorizer_tf.files import atomic_write
from colorizer_tf.film_hints import FilmHint, find_frames, is_film_name, read_film_hints
from colorizer_tf.hints import Hint, HintError
from colorizer_tf.painting import check_strength, fit_chroma
from colorizer_tf.pieces import Pieces, PieceWriter
from colorizer_tf.reel import (
    ENDINGS,
    LUMA_WEIGHTS,
    Encoder,
    Film,
    FilmError,
    check_container,
    join,
)
from colorizer_tf.report import bar_options
from colorizer_tf.steady import Look, follow_hints, steady

# Frames that go through the network together; a chunk is looked at as a whole, and
# three are in memory at a time.
BATCH = 8
CHUNK = 24
LARGE_CHUNK, LARGE_PIXELS = 16, 2**22
# The network's chroma is that of BT.601.
_NETWORK_WEIGHTS = LUMA_WEIGHTS[6]


@dataclass
class FilmReport:
    """What became of a film.

    Attributes:
        result: the file.
        frames: how many it has.
        notes: what a person should know: that it breaks off, was interlaced, ...
    """

    result: Path
    frames: int
    notes: list = field(default_factory=list)

    def __str__(self):
        return "\n  ".join([f"{self.result}: {self.frames:,} frames", *self.notes])


def colorize_film(colorizer, source, destination, strength=1.0, hints=()):
    """Colorizes a film.

    Args:
        colorizer: a `Colorizer`.
        source: the film; it is not touched.
        destination: the result, a .mp4, .mkv, .mov or .webm; or a folder, which is
            there or whose name has no ending. What is there already is not replaced.
        strength: scales the colour that is predicted, not that of the hints.
        hints: a list of `FilmHint`.

    Returns:
        A `FilmReport`.

    Raises:
        FilmError: the film cannot be read, or the result not written.
        FileExistsError: there is such a file.
        ValueError: a strength below 0; or hints, for a generator that takes none.
    """
    source, destination = Path(source), _result(Path(source), Path(destination))
    check_strength(strength)
    with Film(source) as film:
        work = _Work(colorizer, film, destination, strength, hints)
        work.colorize()
        return work.join()


def _result(source, destination):
    if destination.is_dir() or not destination.suffix:
        known = source.suffix.lower() in ENDINGS
        destination = destination / (source.name if known else f"{source.name}.mkv")
    if destination.suffix.lower() not in ENDINGS:
        raise FilmError(
            f"{destination} cannot be written: a film's ending must be one of "
            f"{', '.join(ENDINGS)}."
        )
    if destination.exists():
        raise FileExistsError(
            f"{destination} is there already: name another file, or remove it."
        )
    return destination


def find_films(folder):
    """Returns the films below a folder, as a sorted list of paths."""
    paths = (path for path in Path(folder).rglob("*") if is_film_name(path))
    return sorted(path for path in paths if path.is_file())


def colorize_films(colorizer, source, destination, strength=1.0):
    """Colorizes all films below a folder into the same tree of folders.

    A film whose result is there is left out. `reel.hints.json` beside `reel.mp4`
    holds its hints.

    Args:
        colorizer: a `Colorizer`.
        source, destination: folders.
        strength: scales the colour.

    Returns:
        A list of texts: what became of each film that was to be done; and how many
        have failed.
    """
    source, destination = Path(source).resolve(), Path(destination).resolve()
    told, failed = [], 0
    for film in find_films(source):
        if film.is_relative_to(destination) and destination != source:
            continue
        folder = destination / film.relative_to(source).parent
        folder.mkdir(parents=True, exist_ok=True)
        hints = film.with_suffix(".hints.json")
        try:
            told.append(
                str(
                    colorize_film(
                        colorizer,
                        film,
                        folder,
                        strength,
                        read_film_hints(hints) if hints.exists() else (),
                    )
                )
            )
        except FileExistsError:
            continue
        except (OSError, ValueError) as error:
            told.append(f"failed: {error}")
            failed += 1
    return told, failed


class _Work:
    """A film on its way, with the pieces that are done."""

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
        if hints:  # a generator that takes none says so before any work
            colorizer.encode_hints(list(hints), np.zeros(self.view.shape, np.float32))
        large = film.height * film.width > LARGE_PIXELS
        self.chunk = LARGE_CHUNK if large else CHUNK
        self.pieces = Pieces(destination, self._settings(hints))
        self.hints = hints

    def _settings(self, hints):
        """All that the result depends on, and the network's answer to a ramp."""
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
        """Makes all pieces that are not there yet."""
        piece = self.pieces.last()
        if piece and piece["end"]:
            return
        hints = self._follow_hints()
        film, done = self.film, int(piece["frames"]) if piece else 0
        total = max(film.expected or 0, done) or None
        with (
            tqdm(
                desc="colorizing",
                total=total,
                initial=done,
                unit="frame",
                **bar_options(),
            ) as bar,
            ThreadPoolExecutor(1, "painting") as painting,
        ):
            last = piece and Look(None, piece["luma"], sums=piece["sums"])
            looks = self._look(piece, done, hints)
            writer = PieceWriter(self.pieces, self.encoder, done, bar)
            under_way = None
            for chunk in steady(looks, last):
                if under_way:
                    under_way.result()
                state = chunk[-1].luma, chunk[-1].sums, film.broken
                under_way = painting.submit(self._paint, writer, chunk, state)
            if under_way:
                under_way.result()
            writer.finish(film)

    def _look(self, piece, done, hints):
        """Yields chunks of frames, with the luma and chroma of the network."""
        after = int(piece["pts"].max()) if piece else None
        self.film.broken = int(piece["broken"]) if piece else 0
        frames = self.film.frames(after, done)
        while chunk := [
            Look(frame, self.view.shrink(frame.luma))
            for frame in islice(frames, self.chunk)
        ]:
            cells = [
                self.colorizer.encode_hints(hints.get(done + number, ()), look.luma)
                for number, look in enumerate(chunk)
            ]
            for start in range(0, len(chunk), BATCH):
                batch = slice(start, start + BATCH)
                lumas = [look.luma for look in chunk[batch]]
                chromas = self.colorizer.predict_chroma(
                    lumas, cells[batch], [self.strength] * len(lumas)
                )
                for look, chroma in zip(chunk[batch], chromas, strict=True):
                    look.chroma = chroma
            done += len(chunk)
            yield chunk

    def _paint(self, writer, chunk, state):
        film = self.film
        for look in chunk:
            luma, chroma = self.view.turn_back(look.luma), look.chroma
            slope, offset = fit_chroma(luma, self.view.turn_back(chroma))
            planes = paint_planes(
                look.frame.luma,
                slope,
                offset,
                film.matrix,
                film.full_range,
                film.bits,
                self.encoder.subsampling,
            )
            writer.write(look.frame, planes)
        writer.end_chunk(state)

    def _follow_hints(self):
        """Returns the hints of each frame that has some, as lists of `Hint`."""
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
        """Writes the result from all pieces, and removes them."""
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
        except (OSError, ValueError) as error:  # av's errors are both
            raise FilmError(f"{self.destination} cannot be written: {error}") from error
        pieces.remove()
        return FilmReport(self.destination, len(pts), notes)


class _View:
    """A film's picture as the network sees it: small, upright, in square pixels."""

    def __init__(self, colorizer, film):
        width = max(1, round(film.width * film.aspect))
        self._turns = round(film.rotation / 90) % 4
        sideways = self._turns % 2
        size = (width, film.height) if sideways else (film.height, width)
        self.shape = colorizer.working_shape(*size)
        self._stored = self.shape[::-1] if sideways else self.shape
        self._black, self._span = _luma_levels(film.full_range, film.bits)

    def shrink(self, luma):
        """Returns what the network sees of a luma plane: float32 (h, w), 0 to 1."""
        small = cv2.resize(luma, self._stored[::-1], interpolation=cv2.INTER_AREA)
        small = np.clip((np.float32(small) - self._black) / self._span, 0, 1)
        return np.ascontiguousarray(np.rot90(small, self._turns))

    def turn_back(self, planes):
        """Turns planes of the network, (h, w) or (h, w, 2), as the film is stored."""
        return np.ascontiguousarray(np.rot90(planes, -self._turns))


def _luma_levels(full_range, bits):
    """The level of black, and the levels from there to white (ITU-R BT.709)."""
    return (0, 2**bits - 1) if full_range else (16 << (bits - 8), 219 << (bits - 8))


def paint_planes(
    luma, slope, offset, matrix=6, full_range=True, bits=8, subsampling=(2, 2)
):
    """Returns the chroma planes that a luma plane has in a network's colours.

    Where a pixel of the decoded RGB would leave its range, chroma is scaled back: a
    chroma pixel suits the brightest and the darkest luma pixel under it.

    Args:
        luma: uint8 or uint16, (H, W), in the film's levels.
        slope, offset: of chroma (Cb, Cr) by luma, both as BT.601 in full range has
            them and luma in [0, 1]; float32 (h, w, 2) each, of any size.
        matrix: of the film, as ITU-T H.273 numbers them.
        full_range: whether the film uses all levels.
        bits: of a level.
        subsampling: how many luma pixels a chroma pixel has, (down, across): 2 or 1.

    Returns:
        Cb and Cr, of luma's type, (ceil(H / down), ceil(W / across)) each.
    """
    red_weight, blue_weight = LUMA_WEIGHTS[matrix]
    green_weight = 1 - red_weight - blue_weight
    black, white_span = _luma_levels(full_range, bits)
    span = 2**bits - 1 if full_range else 224 << (bits - 8)
    mean, brightest, darkest = (
        cv2.addWeighted(plane, 1 / white_span, plane, 0, -black / white_span, dtype=5)
        for plane in _pool(luma, subsampling)
    )
    size = mean.shape[::-1]
    change = _change_matrix(red_weight, blue_weight)
    slopes = cv2.split(cv2.resize(cv2.transform(slope, change), size))
    offsets = cv2.split(cv2.resize(cv2.transform(offset, change), size))
    # In units of chroma: (Cb, Cr).
    blue, red = (
        cv2.add(cv2.multiply(rise, mean), start)
        for rise, start in zip(slopes, offsets, strict=True)
    )
    blue_scale, red_scale = 2 * (1 - blue_weight), 2 * (1 - red_weight)
    green = cv2.addWeighted(
        red,
        -red_scale * red_weight / green_weight,
        blue,
        -blue_scale * blue_weight / green_weight,
        0,
    )
    factor = _fit(
        blue_scale * blue,
        green,
        red_scale * red,
        brightest,
        darkest,
        blue_scale / 2 / span,
    )
    depth = cv2.CV_8U if luma.dtype == np.uint8 else cv2.CV_16U
    neutral = np.full_like(factor, 1 << (bits - 1))
    planes = []
    for chroma in (blue, red):
        scaled = cv2.multiply(factor, chroma, scale=span)
        plane = cv2.add(neutral, scaled, dtype=depth)
        planes.append(cv2.min(plane, 2**bits - 1) if bits > 8 else plane)
    return planes


def _fit(blue, green, red, brightest, darkest, rounding):
    """The factor by which colours have to be scaled to stay in [0, 1], (h, w)."""
    highest = cv2.max(cv2.max(red, green), blue) + np.float32(1e-6)
    lowest = cv2.min(cv2.min(red, green), blue) - np.float32(1e-6)
    # A rounded level of chroma may add as much to a channel.
    room = np.float32(1 - rounding)
    above = cv2.divide(room - brightest, highest)
    below = cv2.divide(np.float32(rounding) - darkest, lowest)
    return cv2.max(cv2.min(cv2.min(above, below), 1), 0)


def _pool(luma, subsampling):
    """The mean, highest and lowest of the luma pixels under each chroma pixel."""
    if subsampling == (1, 1):
        return luma, luma, luma
    height, width = luma.shape
    luma = cv2.copyMakeBorder(luma, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = luma.shape[1] // 2, luma.shape[0] // 2
    pooled = [cv2.resize(luma, size, interpolation=cv2.INTER_AREA)]
    for choose in (np.maximum, np.minimum):
        rows = choose(luma[::2], luma[1::2])
        pooled.append(choose(rows[:, ::2], rows[:, 1::2]))
    return pooled


def _change_matrix(red_weight, blue_weight):
    """The matrix (2, 2) from (Cb, Cr) of BT.601 to that of other weights of luma."""
    red, blue = _NETWORK_WEIGHTS
    green = 1 - red - blue
    # RGB less the luma of BT.601, from (Cb, Cr).
    rgb = np.array(
        [
            [0, 2 * (1 - red)],
            [-2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [2 * (1 - blue), 0],
        ]
    )
    weights = np.array([red_weight, 1 - red_weight - blue_weight, blue_weight])
    rgb -= weights @ rgb
    return np.stack([rgb[2] / 2 / (1 - blue_weight), rgb[0] / 2 / (1 - red_weight)])
