"""Reads films frame by frame, with PyAV."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from colorizer_tf.color import BT601, BT709, LUMA_WEIGHTS, Levels

try:
    import av
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Films need PyAV, which is not installed: "
        'pip install "colorizer_tf[film]", or pip install av',
        name=error.name,
    ) from error

# Seconds before the sought frame at which decoding starts.
RUN_UP = 2
# Frames that are decoded to see whether a film is interlaced.
PROBED = 24
_LUMA_FIRST = re.compile(r"(yuvj?a?4\d\dp|gray|nv12|nv16|nv21|nv24)(9|1\d)?(le)?")
# FFmpeg's codes of level ranges; `UNKNOWN` also stands for an unnamed matrix.
UNKNOWN, LIMITED, FULL = 0, 1, 2


class FilmError(ValueError):
    """A film cannot be read or written; the message names the file."""


@dataclass
class Frame:
    """A frame of a film.

    Attributes:
        pts: the time at which it is shown, in units of the film's time base.
        luma: uint8 or uint16, (H, W), as it was decoded.
        duration: in units of the film's time base; 0 if the film does not say.
        broken: the number of packets before it that could not be decoded.
    """

    pts: int
    luma: np.ndarray = field(repr=False)
    duration: int = 0
    broken: int = 0


class Film:
    """An opened film; a context manager.

    Args:
        path: the file.

    Attributes:
        height, width: in pixels, as stored.
        levels: the `Levels` of its luma, with 8 or 10 bits.
        primaries, transfer: FFmpeg's codes of its color primaries and transfer
            function.
        aspect: width of a pixel divided by its height.
        rotation: degrees by which players turn it counterclockwise to be upright.
        display_matrix: the rotation as FFmpeg's nine numbers, or None.
        interlaced: whether it is interlaced; `frames` deinterlaces it.
        time_base: the unit of time stamps, in seconds.
        rate: average number of frames per second.
        start: the time stamp of its start, in seconds.
        expected: the number of frames that the file states, or an estimate from its
            length; None without either.
        seconds: the length that the file states; None if it states a number of frames.
        broken: the number of packets that could not be decoded so far.
        breaks_off: why reading ended before the film did, or "".

    Raises:
        FilmError: the file cannot be opened or holds no film, or it has 9 or more than
            10 bits a channel.
    """

    def __init__(self, path):
        self.path = path
        self.broken, self.breaks_off = 0, ""
        self._open()
        try:
            self._probe()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the file."""
        self.container.close()

    def _open(self):
        try:
            self.container = av.open(str(self.path), metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FilmError(
                f"{self.path} cannot be read as a film: {reason}"
            ) from error
        pictures = av.stream.Disposition.attached_pic
        streams = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & pictures
        ]
        if not streams:
            self.container.close()
            raise FilmError(f"{self.path} holds no film.")
        self.stream = streams[0]
        self.stream.thread_type = "AUTO"

    def reopen(self):
        """Goes back to the start."""
        self.close()
        self._open()

    def _probe(self):
        stream = self.stream
        self.time_base = stream.time_base
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.interlaced, first = False, None
        for number, frame in enumerate(self._decode()):
            first = first or frame
            self.interlaced = self.interlaced or frame.interlaced_frame
            if number >= PROBED:
                break
        if first is None:
            raise FilmError(
                f"{self.path} cannot be read as a film: no frame can be decoded."
            )
        self.broken, self.breaks_off = 0, ""
        self.height, self.width = first.height, first.width
        self.levels = self._find_levels(first)
        self.primaries, self.transfer = first.color_primaries, first.color_trc
        self.aspect = stream.sample_aspect_ratio or Fraction(1)
        self.rotation = first.rotation % 360
        matrix = first.side_data.get("DISPLAYMATRIX")
        self.display_matrix = matrix and np.frombuffer(matrix, np.int32).tolist()
        start = stream.start_time or 0
        self.start = start * self.time_base
        self.seconds = None if stream.frames else self._find_length()
        self.expected = stream.frames or round((self.seconds or 0) * self.rate) or None
        self.reopen()

    def _find_length(self):
        if self.stream.duration:
            return self.stream.duration * self.time_base
        length = self.container.duration
        return None if length is None else Fraction(length, av.time_base)

    def _find_bits(self, frame):
        bits = max(component.bits for component in frame.format.components)
        if bits <= 8:
            return 8
        if bits == 10:
            return 10
        raise FilmError(
            f"{self.path} has {bits} bits a channel ({frame.format.name}): 8 and 10 "
            "can be kept. Convert it first."
        )

    def _find_levels(self, frame):
        name = frame.format.name
        implied_full = name.startswith(("yuvj", "gray"))
        full_range = frame.color_range == FULL or (
            implied_full and frame.color_range == UNKNOWN
        )
        matrix = int(frame.colorspace)
        if _is_rgb(frame.format):
            full_range, matrix = False, UNKNOWN
        if matrix not in LUMA_WEIGHTS:
            # The guess of players; the result names the matrix.
            large = self.width >= 1280 or self.height > 576
            matrix = BT709 if large else BT601
        return Levels(matrix, full_range, self._find_bits(frame))

    def frames(self, after=None, skip=0, broken=0):
        """Yields the film's frames as `Frame`, deinterlaced but not rotated.

        Args:
            after: the time stamp of a frame; iteration starts after it.
            skip: how many frames to skip if that time stamp cannot be sought.
            broken: the number of packets up to there that could not be decoded.
        """
        if after is None:
            yield from self._read()
            return
        start = after - int(RUN_UP / self.time_base)
        try:
            self.container.seek(start, stream=self.stream)
        except av.FFmpegError:
            self.reopen()
        frames = self._read()
        first = next(frames, None)
        if first is not None and first.pts <= after:
            frames = _chain(first, frames)
            if any(frame.pts == after for frame in _until(frames, after)):
                self.broken = broken
                yield from frames
                return
        # Seeking failed: decode from the start.
        self.reopen()
        self.broken = 0
        for number, frame in enumerate(self._read()):
            if number >= skip:
                yield frame

    def _read(self):
        """Decodes and deinterlaces; gives each frame an increasing time stamp."""
        step, last = max(1, round(1 / (self.rate * self.time_base))), None
        for frame in self._deinterlace() if self.interlaced else self._decode():
            if (frame.height, frame.width) != (self.height, self.width):
                raise FilmError(
                    f"{self.path} cannot be colorized: its frames change in size, from "
                    f"{self.width}x{self.height} to {frame.width}x{frame.height}."
                )
            pts = frame.pts if frame.pts is not None else frame.dts
            scale = (frame.time_base or self.time_base) / self.time_base
            if pts is not None:
                pts = round(pts * scale)
            else:
                pts = 0 if last is None else last + step
            if last is not None and pts <= last:
                pts = last + 1
            last = pts
            duration = round(frame.duration * scale)
            yield Frame(pts, self._luma(frame), duration, self.broken)

    def _decode(self):
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self.breaks_off = str(error)
                return
            try:
                frames = packet.decode()
            except av.EOFError:
                return
            except av.FFmpegError:
                self.broken += 1
                continue
            yield from frames

    def _deinterlace(self):
        graph = av.filter.Graph()
        source = graph.add_buffer(template=self.stream)
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        for frame in self._decode():
            graph.push(frame)
            yield from _pull(graph)
        graph.push(None)
        yield from _pull(graph)

    def _luma(self, frame):
        """Returns a copy of a frame's luma, (H, W)."""
        if not _LUMA_FIRST.fullmatch(frame.format.name):
            full = "JPEG" if self.levels.full_range else "MPEG"
            space = "ITU709" if self.levels.matrix == BT709 else "ITU601"
            wanted = "yuv444p" if self.levels.bits == 8 else "yuv444p10le"
            options = {}
            if _is_rgb(frame.format):
                options = {"dst_colorspace": space, "dst_color_range": full}
            frame = frame.reformat(format=wanted, **options)
        plane = frame.planes[0]
        dtype = np.uint8 if self.levels.bits == 8 else np.uint16
        lines = np.frombuffer(plane, dtype).reshape(self.height, -1)
        return lines[:, : self.width].copy()


def _is_rgb(video_format):
    return video_format.is_rgb or video_format.has_palette


def _chain(first, rest):
    yield first
    yield from rest


def _until(frames, pts):
    """Yields frames up to the one with this time stamp, or the first after it."""
    for frame in frames:
        yield frame
        if frame.pts >= pts:
            return


def _pull(graph):
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
