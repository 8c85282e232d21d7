"""A film colorized: its luma untouched, in colours that are steady, in pieces.

Two threads work at a time: one decodes, asks the network and steadies the colours,
the other paints and encodes. What is encoded is kept in a hidden folder beside the
result, a file for each piece of some seconds, until all pieces are joined: a run that
was killed goes on after the last of them.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from colorizer_tf.folder import _bar_options
from colorizer_tf.hints import Hint, HintError, parse_hints
from colorizer_tf.photos import whole_file
from colorizer_tf.reel import (
    EXTENSIONS,
    LUMA_WEIGHTS,
    Encoder,
    Film,
    FilmError,
    check_container,
    join,
)
from colorizer_tf.steady import Look, follow_hints, steady
from colorizer_tf.upsampling import check_strength, fit_chroma

__all__ = ["EXTENSIONS", "FilmError", "FilmHint", "FilmReport", "colorize_film"]

# Frames that go through the network together; a chunk is looked at as a whole, and
# three are in memory at a time.
BATCH = 8
CHUNK = 24
LARGE_CHUNK, LARGE_PIXELS = 16, 2**22
PIECE = 240
# The network's chroma is that of BT.601.
_NETWORK_WEIGHTS = LUMA_WEIGHTS[6]
# What tells one network from another: its answer, to within this.
_SAME_NETWORK = 1e-3


@dataclass(frozen=True)
class FilmHint(Hint):
    """A colour that a place of a film has, from the cut before to the cut after.

    Args:
        x, y: the place, as fractions of the upright picture's width and height.
        color: "#rrggbb", or three levels in 0..255.
        time: when it is there, in seconds from the film's start.

    Raises:
        HintError: the place is outside the picture, there is no such colour, or no
            such time.
    """

    time: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        time = self.time
        if isinstance(time, bool) or not isinstance(time, int | float):
            time = np.nan
        if not 0 <= time < np.inf:
            raise HintError(
                f"time must be seconds from the start. Received: {self.time!r:.80}"
            )


def read_film_hints(path):
    """Reads a JSON file of hints for a film.

    Each is `{"x": 0.41, "y": 0.33, "color": "#2e5d34", "time": 12.4}`.

    Returns:
        A list of `FilmHint`.

    Raises:
        HintError: the file cannot be read; the message names it, and the entry.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HintError(f"{path} cannot be read: {error}") from error
    try:
        entries = json.loads(text)
        times = [entry.pop("time") for entry in entries]
    except KeyError as error:
        raise HintError(f'{path}: each hint of a film needs a "time".') from error
    except (ValueError, TypeError, AttributeError, RecursionError):
        times, entries = [], None  # which `parse_hints` has the words for
    hints = parse_hints(text if entries is None else json.dumps(entries), str(path))
    made = []
    for number, (hint, time) in enumerate(zip(hints, times, strict=True), 1):
        try:
            made.append(FilmHint(**asdict(hint), time=time))
        except HintError as error:
            raise HintError(f"{path}, entry {number}: {error}") from error
    return made


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
        strength: scales the colour that is predicted; 0 gives a gray film.
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
        known = source.suffix.lower() in EXTENSIONS
        destination = destination / (source.name if known else f"{source.stem}.mkv")
    if destination.suffix.lower() not in EXTENSIONS:
        raise FilmError(
            f"{destination} cannot be written: a film's ending must be one of "
            f"{', '.join(EXTENSIONS)}."
        )
    if destination.exists():
        raise FileExistsError(
            f"{destination} is there already: name another file, or remove it."
        )
    return destination


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
        if hints:  # a generator that takes none says so before any work
            colorizer.encode_hints(list(hints), np.zeros(self.view.shape, np.float32))
        large = film.height * film.width > LARGE_PIXELS
        self.chunk = LARGE_CHUNK if large else CHUNK
        self.pieces = _Pieces(destination, self._settings(hints))
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
            "piece": [self.chunk, PIECE],
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
                **_bar_options(),
            ) as bar,
            ThreadPoolExecutor(1, "painting") as painting,
        ):
            last = piece and Look(None, piece["luma"], sums=piece["sums"])
            looks = self._look(piece, done, hints)
            writer = _PieceWriter(self.pieces, self.encoder, done, bar)
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
                self.colorizer.encode_hints(
                    hints.get(done + number, ()), look.luma, self.strength
                )
                for number, look in enumerate(chunk)
            ]
            for start in range(0, len(chunk), BATCH):
                batch = slice(start, start + BATCH)
                lumas = [look.luma for look in chunk[batch]]
                chromas = self.colorizer.predict_chroma(lumas, cells[batch])
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
                self.strength * slope,
                self.strength * offset,
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
        options = {"desc": "following hints", "unit": "frame"} | _bar_options()
        wanted = sorted(self.hints, key=lambda hint: getattr(hint, "time", 0))
        with Film(self.film.path) as film, tqdm(**options) as bar:
            starts = _find_frames(film, wanted)

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
            with whole_file(self.destination) as temporary:
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


def _find_frames(film, hints):
    """The hints by the number of the frame that is shown at their time."""
    starts, number = {}, 0
    waiting = list(hints)
    with Film(film.path) as looked_at:
        times = ((n, f.pts * film.time_base) for n, f in enumerate(looked_at.frames()))
        for number, time in times:
            while waiting and waiting[0].time + film.start < time:
                hint = waiting.pop(0)
                place = hint.x, hint.y, hint.color
                starts.setdefault(max(0, number - 1), []).append(place)
            if not waiting:
                break
    for hint in waiting:
        starts.setdefault(number, []).append((hint.x, hint.y, hint.color))
    return starts


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


class _Pieces:
    """The pieces of a result that are done, in a hidden folder beside it."""

    def __init__(self, destination, settings):
        self.folder = destination.with_name(f".{destination.name}.pieces")
        settings, answer = settings
        path = self.folder / "settings.json"
        try:
            before = json.loads(path.read_text("utf-8"))
            same = before["settings"] == json.loads(json.dumps(settings))
            same = same and np.allclose(before["answer"], answer, atol=_SAME_NETWORK)
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                facts = {"settings": settings, "answer": answer}
                temporary.write_text(json.dumps(facts), "utf-8")

    def _paths(self):
        paths, number = [], 0
        while (path := self.folder / f"{number:06}.npz").exists():
            paths.append(path)
            number += 1
        return paths

    def __iter__(self):
        for path in self._paths():
            with np.load(path) as piece:
                yield piece

    def last(self):
        """Returns the last piece, but its film, as a dictionary; None without any."""
        paths = self._paths()
        if not paths:
            return None
        with np.load(paths[-1]) as piece:
            return {name: piece[name] for name in piece.files if name != "data"}

    def add(self, **facts):
        """Writes a piece, whole or not at all."""
        path = self.folder / f"{len(self._paths()):06}.npz"
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **facts)

    def packets(self):
        """Yields (data, pts, is_keyframe) of all encoded frames, in their order."""
        for piece in self:
            data, start = piece["data"], 0
            for size, pts, key in zip(
                piece["sizes"], piece["pts"], piece["keys"], strict=True
            ):
                yield data[start : start + size].tobytes(), pts, key
                start += size

    def remove(self):
        """Removes them all."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _PieceWriter:
    """Encodes frames, and writes a piece whenever one is full."""

    def __init__(self, pieces, encoder, frames, bar):
        self._pieces, self._encoder, self._bar = pieces, encoder, bar
        self._frames, self._context = frames, None
        self._packets, self._count, self._state = [], 0, None
        self._last = 0, 0

    def write(self, frame, planes):
        """Encodes a `Frame` in its colours, (Cb, Cr)."""
        if self._context is None:
            self._context = self._encoder.start()
        self._packets += self._context.encode(
            self._encoder.fill(frame.pts, (frame.luma, *planes))
        )
        self._last = frame.pts, frame.duration
        self._count += 1
        self._bar.update()

    def end_chunk(self, state):
        """Notes what the next chunk goes on from: luma, sums, broken packets."""
        self._state = state
        if self._count >= PIECE:
            self._close(end=False)

    def finish(self, film):
        """Writes what is left, and that it is the end."""
        self._close(
            end=True, notes=_describe_end(film, self._frames + self._count, *self._last)
        )

    def _close(self, end, notes=()):
        packets = self._packets
        if self._context is not None:
            packets += self._context.encode(None)
        self._frames += self._count
        luma, sums, broken = self._state or (0, 0, 0)
        self._pieces.add(
            data=np.frombuffer(b"".join(map(bytes, packets)), np.uint8),
            sizes=np.array([packet.size for packet in packets], np.int64),
            pts=np.array([packet.pts for packet in packets], np.int64),
            keys=np.array([packet.is_keyframe for packet in packets], bool),
            luma=luma,
            sums=sums,
            broken=broken,
            frames=self._frames,
            tail=self._last[1],
            end=end,
            notes=json.dumps(list(notes)),
        )
        self._packets, self._count, self._context = [], 0, None


def _describe_end(film, frames, pts, duration):
    notes = []
    if film.broken:
        notes.append(f"{film.broken} packets of it are damaged, and left out")
    if film.seconds:
        seconds = float(film.seconds)
        ends = float((pts + duration) * film.time_base - film.start)
        # Sound may be longer than the pictures.
        short = ends < seconds - max(2, seconds / 50)
        rest = f", at {ends:.1f} of {seconds:.1f} seconds"
    else:
        expected = film.expected or 0
        short = frames < expected - max(2, expected // 100)
        rest = f" of {expected:,} frames"
    if film.breaks_off or short:
        notes.append(
            f"{film.path} breaks off after {frames:,}{rest}: it is done as far as it "
            "can be read"
        )
    return notes
