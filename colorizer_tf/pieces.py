"""Keeps the finished pieces of a film until they are joined."""

import json
import shutil

import numpy as np

from colorizer_tf.files import atomic_write

# The fewest frames of a piece; the last one may be shorter.
PIECE = 240
# Answers of the same network differ by less than this.
_SAME_NETWORK = 1e-3


class Pieces:
    """The finished pieces of a result, in a hidden folder beside it.

    Args:
        destination: the file of the result.
        settings: what the result depends on, as JSON takes it, and the network's
            answer to a test input, a list of floats. Pieces made with others are
            removed.
    """

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
        """Returns the last piece without its encoded data, a dictionary; else None."""
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
        """Yields (data, pts, is_keyframe) of all frames, in the order of encoding."""
        for piece in self:
            data, start = piece["data"], 0
            for size, pts, key in zip(
                piece["sizes"], piece["pts"], piece["keys"], strict=True
            ):
                yield data[start : start + size].tobytes(), pts, key
                start += size

    def remove(self):
        """Removes all pieces."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PieceWriter:
    """Encodes frames, and writes a piece when it has enough.

    Args:
        pieces: the `Pieces`.
        encoder: the `Encoder`.
        last: the last piece already written, as `Pieces.last` returns it.
        bar: the progress bar, a `tqdm`.
    """

    def __init__(self, pieces, encoder, last, bar):
        self._pieces, self._encoder, self._bar = pieces, encoder, bar
        self._packets, self._count, self._state = [], 0, None
        self._frames, self._last, self._context = 0, (0, 0), None
        if last:
            self._frames = int(last["frames"])
            self._last = int(last["pts"].max()), int(last["tail"])

    def write(self, frame, planes):
        """Encodes a `Frame` with its chroma planes, (Cb, Cr)."""
        if self._context is None:
            self._context = self._encoder.start()
        self._packets += self._context.encode(
            self._encoder.fill(frame.pts, (frame.luma, *planes))
        )
        self._last = frame.pts, frame.duration
        self._count += 1
        self._bar.update()

    def end_chunk(self, *state):
        """Ends a chunk.

        Args:
            *state: what the next chunk needs: luma and sums of the last `Look`, and
                the number of broken packets.
        """
        self._state = state
        if self._count >= PIECE:
            self._close(end=False)

    def finish(self, film):
        """Writes the last piece, and marks it as the end of the film."""
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
        notes.append(f"{film.broken} damaged packets are left out")
    if film.seconds:
        seconds = float(film.seconds)
        ends = float((pts + duration) * film.time_base - film.start)
        # The stated length may be that of the sound, which may outlast the pictures.
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
