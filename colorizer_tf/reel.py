"""Films read frame by frame, and written, with all that belongs to them (PyAV)."""

import heapq
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

try:
    import av
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Films need PyAV, which is not installed: "
        'pip install "colorizer_tf[film]", or pip install av',
        name=error.name,
    ) from error

# Of results.
ENDINGS = (".mp4", ".mkv", ".mov", ".webm")
# So much before the place that is sought, decoding starts: seconds.
RUN_UP = 2
# Frames that are looked at to see whether a film is interlaced.
PROBED = 24
_LUMA_FIRST = re.compile(r"(yuvj?a?4\d\dp|gray|nv12|nv16|nv21|nv24)(9|1\d)?(le)?")
# What describes the source's file rather than the film.
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_UNKNOWN, _LIMITED, _FULL = 0, 1, 2
_BT709, _BT601_PAL, _BT601 = 1, 5, 6


class FilmError(ValueError):
    """A film that cannot be read, or written; the message names the file."""


@dataclass
class Frame:
    """A frame of a film.

    Attributes:
        pts: when it is shown, in units of the film's time base.
        luma: uint8 or uint16, (H, W), as it was decoded.
        duration: how long, likewise, or 0 if the film does not say.
    """

    pts: int
    luma: np.ndarray
    duration: int = 0


class Film:
    """An opened film; a `with` statement.

    Args:
        path: the file.

    Attributes:
        height, width: in pixels, as they are stored.
        bits: of the luma: 8 or 10.
        full_range: whether luma uses all levels.
        matrix: the code of its matrix in ITU-T H.273: 1 is BT.709, 6 BT.601.
        primaries, transfer: likewise, of its colours and its gamma.
        aspect: width by height of a pixel.
        rotation: degrees by which it is turned, counterclockwise, to be upright.
        display_matrix: the same as FFmpeg's nine numbers; None if there is none.
        interlaced: whether it is; its frames come deinterlaced.
        time_base: the unit of time stamps, in seconds.
        rate: frames a second, on average.
        expected: the number of frames that it should have, roughly if it counts none
            itself; None if it says nothing.
        seconds: how long its pictures should last; None if it counts frames.
        broken: how many packets could not be decoded so far.
        breaks_off: why reading ended before the film did; "" if it did not.

    Raises:
        FilmError: it cannot be opened, holds no film, or one of a depth that could
            not be kept.
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
        self._container.close()

    def _open(self):
        try:
            self._container = av.open(str(self.path), metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FilmError(
                f"{self.path} cannot be read as a film: {reason}"
            ) from error
        pictures = av.stream.Disposition.attached_pic
        streams = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & pictures
        ]
        if not streams:
            self._container.close()
            raise FilmError(f"{self.path} holds no film.")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"

    def _reopen(self):
        self.close()
        self._open()

    def _probe(self):
        stream = self._stream
        self.time_base = stream.time_base
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.interlaced, first = False, None
        for number, frame in enumerate(self._decode()):
            first = first or frame
            self.interlaced = self.interlaced or frame.interlaced_frame
            if number >= PROBED:
                break
        if first is None:
            raise FilmError(f"{self.path} cannot be read as a film: no frame of it can")
        self.broken, self.breaks_off = 0, ""
        self.height, self.width = first.height, first.width
        self.bits = self._find_bits(first)
        self._set_colours(first)
        self.aspect = stream.sample_aspect_ratio or Fraction(1)
        self.rotation = first.rotation % 360
        matrix = first.side_data.get("DISPLAYMATRIX")
        self.display_matrix = matrix and np.frombuffer(matrix, np.int32).tolist()
        start = stream.start_time or 0
        self.start = start * self.time_base
        self.seconds = None if stream.frames else self._find_length()
        self.expected = stream.frames or round((self.seconds or 0) * self.rate) or None
        self._reopen()

    def _find_length(self):
        if self._stream.duration:
            return self._stream.duration * self.time_base
        length = self._container.duration
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

    def _set_colours(self, frame):
        name = frame.format.name
        implied_full = name.startswith(("yuvj", "gray"))
        self.full_range = frame.color_range == _FULL or (
            implied_full and frame.color_range == _UNKNOWN
        )
        self.matrix = int(frame.colorspace)
        if _is_rgb(frame.format):
            self.full_range, self.matrix = False, _UNKNOWN
        if self.matrix not in LUMA_WEIGHTS:
            # As players guess it; the result says so.
            large = self.width >= 1280 or self.height > 576
            self.matrix = _BT709 if large else _BT601
        self.primaries, self.transfer = frame.color_primaries, frame.color_trc

    def frames(self, after=None, skip=0):
        """Yields the film's frames as `Frame`, upright or not, but never interlaced.

        Args:
            after: the time stamp of a frame: those after it come, if it is found.
            skip: so many frames are left out, if it is not.
        """
        if after is None:
            yield from self._read()
            return
        start = after - int(RUN_UP / self.time_base)
        try:
            self._container.seek(start, stream=self._stream)
        except av.FFmpegError:
            self._reopen()
        frames = self._read()
        first = next(frames, None)
        if first is not None and first.pts <= after:
            frames = _chain(first, frames)
            if any(frame.pts == after for frame in _until(frames, after)):
                yield from frames
                return
        # It cannot be sought in: from the start, then.
        self._reopen()
        for number, frame in enumerate(self._read()):
            if number >= skip:
                yield frame

    def _read(self):
        """Decodes, deinterlaces, and gives each frame a time stamp."""
        step, last = max(1, round(1 / (self.rate * self.time_base))), None
        for frame in self._deinterlace() if self.interlaced else self._decode():
            if (frame.height, frame.width) != (self.height, self.width):
                raise FilmError(
                    f"{self.path} cannot be done: its frames change in size, from "
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
            yield Frame(pts, self._luma(frame), round(frame.duration * scale))

    def _decode(self):
        packets = self._container.demux(self._stream)
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
        source = graph.add_buffer(template=self._stream)
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        for frame in self._decode():
            graph.push(frame)
            yield from _pull(graph)
        graph.push(None)
        yield from _pull(graph)

    def _luma(self, frame):
        """Returns a frame's luma, (H, W), in memory of its own."""
        if not _LUMA_FIRST.fullmatch(frame.format.name):
            full = "JPEG" if self.full_range else "MPEG"
            wanted = "yuv444p" if self.bits == 8 else "yuv444p10le"
            options = {}
            if _is_rgb(frame.format):
                options = {
                    "dst_colorspace": "ITU709" if self.matrix == _BT709 else "ITU601",
                    "dst_color_range": full,
                }
            frame = frame.reformat(format=wanted, **options)
        plane = frame.planes[0]
        dtype = np.uint8 if self.bits == 8 else np.uint16
        lines = np.frombuffer(plane, dtype).reshape(self.height, -1)
        return lines[:, : self.width].copy()


# The weights of red and blue in luma by the matrix's code (ITU-T H.273, table 4).
LUMA_WEIGHTS = {
    _BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    _BT601_PAL: (0.299, 0.114),
    _BT601: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


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


class Encoder:
    """Encodes frames of a `Film` for a container; x264 at crf 16, VP9 in WebM.

    Args:
        film: the `Film`.
        extension: of the result, such as ".mp4".

    Attributes:
        subsampling: of the chroma planes, (down, across): 2 each, or 1 each where
            H.264 could not hold an odd size otherwise.

    Raises:
        FilmError: no encoder can keep what the film has.
    """

    def __init__(self, film, extension):
        self.film = film
        self.name = "libvpx-vp9" if extension == ".webm" else "libx264"
        if self.name == "libvpx-vp9" and film.bits > 8:
            raise FilmError(
                f"{film.path} has {film.bits} bits a channel, and a .webm is written "
                "with 8: name a .mp4, .mkv or .mov."
            )
        odd = self.name == "libx264" and (film.height % 2 or film.width % 2)
        self.subsampling = (1, 1) if odd else (2, 2)
        deep = "" if film.bits == 8 else "10le"
        self.format = f"yuv4{'44' if odd else '20'}p{deep}"

    @property
    def options(self):
        """What the encoder is told beside what the film says."""
        if self.name == "libx264":
            return {"crf": "16", "preset": "medium"}
        return {
            "crf": "18",
            "b": "0",
            "deadline": "good",
            "cpu-used": "4",
            "row-mt": "1",
        }

    def set_up(self, context):
        """Sets the facts of a codec context, of a piece or of the result."""
        film = self.film
        context.width, context.height = film.width, film.height
        context.pix_fmt = self.format
        context.time_base = film.time_base
        context.framerate = film.rate
        context.sample_aspect_ratio = film.aspect
        context.color_range = _FULL if film.full_range else _LIMITED
        context.colorspace = film.matrix
        context.color_primaries, context.color_trc = film.primaries, film.transfer
        context.options = self.options
        context.thread_count = 0
        context.flags |= int(av.codec.context.Flags.global_header)

    def start(self):
        """Returns the codec context for a piece."""
        context = av.CodecContext.create(self.name, "w")
        self.set_up(context)
        return context

    def fill(self, pts, planes):
        """Returns a frame to encode, from its time stamp and (Y, Cb, Cr)."""
        film = self.film
        frame = av.VideoFrame(film.width, film.height, self.format)
        frame.pts, frame.time_base = pts, film.time_base
        frame.color_range = _FULL if film.full_range else _LIMITED
        frame.colorspace = film.matrix
        for plane, values in zip(frame.planes, planes, strict=True):
            lines = np.frombuffer(plane, values.dtype).reshape(len(values), -1)
            lines[:, : values.shape[1]] = values
        return frame


def check_container(film, extension):
    """Returns what of a film its result has to leave out, as a list of texts.

    Raises:
        FilmError: the result's container cannot hold the film's sound, or its
            subtitles.
    """
    known = _known_codecs(extension)
    for stream in _copied(film):
        name = stream.codec_context.name
        if stream.codec.canonical_name not in known and name not in known:
            kind = "sound" if stream.type == "audio" else "subtitles"
            raise FilmError(
                f"{film.path}: a {extension} does not hold its {kind} ({name}): name a "
                ".mkv for the result."
            )
    others = len(film._container.streams) - len(list(_copied(film))) - 1
    return [f"{others} other tracks are left out"] if others else []


def _known_codecs(extension):
    name = {".mkv": "matroska"}.get(extension, extension[1:])
    with av.open("nowhere", "w", format=name) as container:
        names = set(container.supported_codecs)
    return names | {
        av.Codec(name, mode).canonical_name
        for name in names
        for mode in "rw"
        if _exists(name, mode)
    }


def _exists(name, mode):
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


def _copied(film):
    """The streams that are copied as they are."""
    for stream in film._container.streams:
        if stream.type in ("audio", "subtitle") and stream.codec_context:
            yield stream


def join(path, film, encoder, packets, pts, tail=0):
    """Writes a film from encoded frames, with the sound and all else of its source.

    Args:
        path: the file.
        film: the source, a `Film`.
        encoder: the `Encoder` of the frames.
        packets: yields (data, pts, is_keyframe) in the order of encoding.
        pts: the time stamps of all packets in that order.
        tail: how long the last frame is shown, in the film's time base; 0 if that is
            not known.
    """
    options = {"avoid_negative_ts": "disabled"}
    if path.suffix.lower() in (".mp4", ".mov"):
        # The start of a film that does not begin at 0 would be cut to milliseconds.
        unit = film.time_base.denominator
        options["movie_timescale"] = str(unit * -(-1000 // unit))
    with av.open(str(path), "w", container_options=options) as output:
        video = output.add_stream(encoder.name, rate=film.rate)
        encoder.set_up(video.codec_context)
        video.time_base = film.time_base
        _describe(video, film._stream)
        if film.display_matrix:
            video.set_display_matrix(film.display_matrix)
        source = film._container
        others = {}
        for stream in _copied(film):
            others[stream.index] = output.add_stream_from_template(stream, opaque=True)
            _describe(others[stream.index], stream)
        output.metadata.update(
            (name, text)
            for name, text in source.metadata.items()
            if name.lower() not in _OF_THE_FILE
        )
        output.set_chapters(source.chapters())
        merged = heapq.merge(
            _video_packets(packets, pts, tail, video, film.time_base),
            _other_packets(film, others),
            key=lambda packet: packet.dts * packet.time_base,
        )
        for packet in merged:
            output.mux(packet)


def _describe(stream, source):
    stream.metadata.update(source.metadata)
    stream.disposition = source.disposition


def _video_packets(packets, pts, tail, stream, time_base):
    shown = np.sort(pts)
    delay = int(max(np.arange(len(pts)) - np.searchsorted(shown, pts)))
    step = int(shown[1] - shown[0]) if len(pts) > 1 else 1
    durations = np.append(np.diff(shown), tail or step)
    for number, (data, time, is_keyframe) in enumerate(packets):
        packet = av.Packet(data)
        packet.stream, packet.time_base = stream, time_base
        packet.pts = int(time)
        # Each piece has an encoder of its own, which knows nothing of those before.
        behind = number - delay
        packet.dts = int(shown[max(0, behind)]) + min(0, behind) * step
        packet.duration = int(durations[np.searchsorted(shown, time)])
        packet.is_keyframe = bool(is_keyframe)
        yield packet


def _other_packets(film, others):
    if not others:
        return
    film._reopen()
    streams = [film._container.streams[index] for index in others]
    packets, last = film._container.demux(streams), dict.fromkeys(others)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError, OSError):
            return
        index = packet.stream.index
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else last[index]
        if packet.size and packet.dts is not None:
            last[index] = packet.dts
            packet.stream = others[index]
            yield packet
