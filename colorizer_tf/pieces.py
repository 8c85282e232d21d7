"""The pieces of a film that are done, kept until they can be joined."""

import json
import shutil

import numpy as np

from colorizer_tf.files import atomic_write

# Frames of a piece, at least.
PIECE = 240
# What tells one network from another: its answer, to within this.
_SAME_NETWORK = 1e-3


class Pieces:
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
            with atomic_write(path) as temporary:
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
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
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


class PieceWriter:
    """Encodes frames, and writes a piece whenever one is full."""

    def __init__(self, pieces, encoder, frames, bar):
        self._pieces, self._encoder, self._bar = pieces, encoder, bar
        self._frames, self._context = frames, None
        self._packets, self._count, self._state = [], 0, None
        self._last = 0, 0

    def write(self, frame, planes):
        """Encodes a `Frame` in its colors, (Cb, Cr)."""
        if self._context is None:
            self._context = self._encoder.start()
        self._packets += self._context.encode(
            self._encoder.fill(frame.pts, (frame.luma, *planes))
        )
        self._last = frame.pts, frame.duration
        self._count += 1
        self._bar.update()

    def end_chunk(self, *state):
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
            data=np.frombuffer(b"".join(packets), np.uint8),
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
        rest = f" frames, at {ends:.1f} of {seconds:.1f} seconds"
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
