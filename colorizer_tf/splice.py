"""Encodes frames, and joins them with the film's other streams, with PyAV."""

import heapq

import av
import cv2
import numpy as np

from colorizer_tf.reel import FULL, LIMITED, FilmError

# Extensions of results.
ENDINGS = (".mp4", ".mkv", ".mov", ".webm")
# Metadata that describes the source's file rather than the film.
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
# OpenCV's number for AVX-512, with which the output of x264 differs from run to run.
_AVX512 = 13


class Encoder:
    """Encodes frames of a `Film`: with x264 at crf 16, in WebM with VP9 at crf 18.

    Args:
        film: the `Film`.
        extension: of the result, such as ".mp4".

    Attributes:
        halved: whether the chroma planes have half the size; with H.264, an odd height
            or width needs them at full size.

    Raises:
        FilmError: the film has more than 8 bits a channel, and the result is WebM.
    """

    def __init__(self, film, extension):
        self.film = film
        self.name = "libvpx-vp9" if extension == ".webm" else "libx264"
        if self.name == "libvpx-vp9" and film.levels.bits > 8:
            raise FilmError(
                f"{film.path} has {film.levels.bits} bits a channel, and a .webm is "
                "written with 8: name a .mp4, .mkv or .mov."
            )
        odd = self.name == "libx264" and (film.height % 2 or film.width % 2)
        self.halved = not odd
        deep = "" if film.levels.bits == 8 else "10le"
        self.format = f"yuv4{'44' if odd else '20'}p{deep}"

    @property
    def options(self):
        """The encoder's options."""
        if self.name == "libx264":
            # A shorter lookahead saves a third of its memory.
            options = {"crf": "16", "preset": "medium", "rc-lookahead": "20"}
            if cv2.checkHardwareSupport(_AVX512):
                options["x264-params"] = "asm=avx2"
            return options
        return {
            "crf": "18",
            "b": "0",
            "deadline": "good",
            "cpu-used": "4",
            "row-mt": "1",
        }

    def set_up(self, context):
        """Sets up a codec context for a piece or for the result."""
        film = self.film
        context.width, context.height = film.width, film.height
        context.pix_fmt = self.format
        context.time_base = film.time_base
        context.framerate = film.rate
        context.sample_aspect_ratio = film.aspect
        context.color_range = FULL if film.levels.full_range else LIMITED
        context.colorspace = film.levels.matrix
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
        """Returns a frame to encode, from its time stamp and its planes (Y, Cb, Cr)."""
        film = self.film
        frame = av.VideoFrame(film.width, film.height, self.format)
        frame.pts, frame.time_base = pts, film.time_base
        frame.color_range = FULL if film.levels.full_range else LIMITED
        frame.colorspace = film.levels.matrix
        for plane, values in zip(frame.planes, planes, strict=True):
            lines = np.frombuffer(plane, values.dtype).reshape(len(values), -1)
            lines[:, : values.shape[1]] = values
        return frame


def check_container(film, extension):
    """Returns notes on the tracks that the result leaves out, as a list of texts.

    Args:
        film: the `Film`.
        extension: of the result, such as ".mp4".

    Raises:
        FilmError: the result's container cannot hold the film's sound or subtitles.
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
    others = len(film.container.streams) - len(list(_copied(film))) - 1
    if film.container.chapters() and film.container.streams.data:
        others -= 1  # QuickTime keeps chapters in a track; `join` writes them anew
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
    """Yields the streams that are copied unchanged: sound and subtitles."""
    for stream in film.container.streams:
        if stream.type in ("audio", "subtitle") and stream.codec_context:
            yield stream


def join(path, film, encoder, packets, pts, tail=0):
    """Writes a film from encoded frames; copies sound, subtitles and metadata.

    Args:
        path: the file.
        film: the source, a `Film`.
        encoder: the `Encoder` of the frames.
        packets: yields (data, pts, is_keyframe) in the order of encoding.
        pts: the time stamps of all packets in that order.
        tail: the duration of the last frame, in the film's time base; 0 if unknown.
    """
    options = {"avoid_negative_ts": "disabled"}
    if path.suffix.lower() in (".mp4", ".mov"):
        # A start other than 0 is stored in this unit; by default, it is a millisecond.
        unit = film.time_base.denominator
        options["movie_timescale"] = str(unit * -(-1000 // unit))
    with av.open(str(path), "w", container_options=options) as output:
        video = output.add_stream(encoder.name, rate=film.rate)
        encoder.set_up(video.codec_context)
        video.time_base = film.time_base
        _describe(video, film.stream)
        if film.display_matrix:
            video.set_display_matrix(film.display_matrix)
        source = film.container
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
        # Each piece has its own encoder: the whole film's delay is known only here.
        behind = number - delay
        packet.dts = int(shown[max(0, behind)]) + min(0, behind) * step
        packet.duration = int(durations[np.searchsorted(shown, time)])
        packet.is_keyframe = bool(is_keyframe)
        yield packet


def _other_packets(film, others):
    if not others:
        return
    film.reopen()
    streams = [film.container.streams[index] for index in others]
    packets, last = film.container.demux(streams), dict.fromkeys(others)
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
