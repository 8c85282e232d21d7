"""Tests films: what stays unchanged, and which colors they get."""

import json
import shutil
import sys
import threading
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
from tiny_networks import build_obedient_generator, build_tiny_generator

import colorizer_tf as ct
from colorizer_tf import film as film_module
from colorizer_tf import pieces as pieces_module
from colorizer_tf.__main__ import main
from colorizer_tf.color import LUMA_WEIGHTS, Levels
from colorizer_tf.film_hints import find_frames
from colorizer_tf.films import colorize_films
from colorizer_tf.painting import paint_planes
from colorizer_tf.pieces import PieceWriter
from colorizer_tf.reel import Film, FilmError
from colorizer_tf.splice import Encoder
from colorizer_tf.steady import Look, Motion, steady

av = pytest.importorskip("av")

HEIGHT, WIDTH, FRAMES = 72, 128, 30


@pytest.fixture(scope="module")
def colorizer():
    return ct.Colorizer(build_obedient_generator())


@pytest.fixture(scope="module")
def texture():
    """A gray photo in which motion can be found, float32 (200, 400)."""
    noise = np.random.default_rng(0).random((50, 100), np.float32)
    smooth = cv2.GaussianBlur(cv2.resize(noise, (400, 200)), None, 2)
    return cv2.normalize(smooth, None, 0.25, 0.75, cv2.NORM_MINMAX)


@pytest.fixture(scope="module")
def pan(texture):
    """Frames, uint8 (H, W), of a pan across the texture."""
    return pan_across(texture, FRAMES)


def pan_across(texture, frames, top=40):
    return [
        np.uint8(255 * texture[top : top + HEIGHT, 2 * n : 2 * n + WIDTH])
        for n in range(frames)
    ]


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(pieces_module, "PIECE", 10)
    monkeypatch.setattr(film_module, "CHUNK", 8)


def write_film(
    path, frames, codec="libx264", form="yuv420p", pts=None, unit=None, **facts
):
    """Writes a film of gray frames; `facts` are options that the code below reads."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=facts.get("options"))
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = form
        context = stream.codec_context
        for name in ("sample_aspect_ratio", "color_range", "colorspace", "flags"):
            if name in facts:
                setattr(context, name, facts[name])
        if unit:
            context.time_base = unit
        if "rotation" in facts:
            stream.set_display_rotation(facts["rotation"])
        container.metadata.update(facts.get("metadata", {}))
        sound = facts.get("sound") and container.add_stream(
            facts["sound"], rate=48000, layout="stereo"
        )
        texts = facts.get("texts") and container.add_stream(facts["texts"])
        container.set_chapters(facts.get("chapters", []))
        if texts:
            texts.codec_context.subtitle_header = ASS_HEADER
            write_texts(container, texts)
        for number, gray in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(gray, "gray")
            frame = frame.reformat(format=form, dst_color_range=facts.get("levels"))
            frame.pts = pts[number] if pts else number
            frame.time_base = unit or Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            write_sound(container, sound, len(frames) / 25)
    return path


def write_sound(container, stream, seconds):
    wave = np.sin(np.arange(int(48000 * seconds)) / 20)
    wave = np.int16(np.stack([wave, wave]) * 9000)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), "s16p", "stereo")
    frame.rate, frame.pts = 48000, 0
    context = stream.codec_context
    resampler = av.AudioResampler(
        context.format.name, "stereo", 48000, context.frame_size or 1024
    )
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16
[Events]
Format: Layer, Start, End, Style, Text
"""


def write_texts(container, stream):
    for number, text in enumerate((b"Summer 1938", b"By the lake")):
        in_mp4 = stream.codec_context.name == "mov_text"
        packet = av.Packet(len(text).to_bytes(2, "big") + text if in_mp4 else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 100 + 500 * number
        packet.duration = 300
        container.mux(packet)


def duration_of(path):
    with av.open(str(path)) as container:
        return container.duration


def probe(path):
    """Returns a film's frames and time stamps, and the bytes of its other streams."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        facts = {
            "times": [float(frame.pts * frame.time_base) for frame in frames],
            "rgb": [frame.to_ndarray(format="rgb24") for frame in frames],
            "bits": frames[0].format.components[0].bits,
            "rotation": frames[0].rotation,
            "aspect": stream.sample_aspect_ratio or 1,
            "codec": stream.codec_context.name,
            "colours": (int(frames[0].color_range), int(frames[0].colorspace)),
            "title": container.metadata.get("title"),
            "chapters": [
                (float(chapter["start"] * chapter["time_base"]), chapter["metadata"])
                for chapter in container.chapters()
            ],
        }
    with av.open(str(path)) as container:
        others = [
            (round(float(packet.pts * packet.time_base), 3), bytes(packet))
            for packet in container.demux()
            if packet.stream.type in ("audio", "subtitle") and packet.size
        ]
    return facts | {"others": others}


IRREGULAR = np.cumsum(np.random.default_rng(1).integers(200, 1500, FRAMES)).tolist()
CHAPTERS = [
    {
        "id": number,
        "start": 600 * number,
        "end": 600 * (number + 1),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }
    for number, title in enumerate(("Arrival", "The lake"))
]
KINDS = {
    "sound": ("a.mp4", ".mp4", {"sound": "aac", "metadata": {"title": "Reel 3"}}),
    "avi": ("a.avi", ".mkv", {"codec": "mpeg4", "sound": "libmp3lame"}),
    "webm": ("a.webm", ".webm", {"codec": "libvpx-vp9", "sound": "libopus"}),
    "prores": (
        "a.mov",
        ".mov",
        {"codec": "prores_ks", "form": "yuv422p10le", "sound": "pcm_s16le"},
    ),
    "anamorphic": ("a.mp4", ".mkv", {"sample_aspect_ratio": Fraction(16, 11)}),
    "varying": ("a.mp4", ".mp4", {"pts": IRREGULAR, "unit": Fraction(1, 12800)}),
    "turned": ("a.mp4", ".mov", {"rotation": -90}),
    "subtitles": (
        "a.mkv",
        ".mkv",
        {"sound": "aac", "texts": "srt", "chapters": CHAPTERS},
    ),
    "subtitles in MP4": ("a.mp4", ".mov", {"texts": "mov_text", "chapters": CHAPTERS}),
    "10 bits": ("a.mkv", ".mp4", {"form": "yuv420p10le"}),
    "422": ("a.mkv", ".mp4", {"codec": "ffv1", "form": "yuv422p"}),
    "444": ("a.mkv", ".mp4", {"form": "yuv444p"}),
    "gray": ("a.mkv", ".mkv", {"codec": "ffv1", "form": "gray"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_stays_the_film_it_was(
    kind, colorizer, pan, tmp_path, short_pieces, monkeypatch
):
    name, extension, facts = KINDS[kind]
    source = write_film(tmp_path / name, pan, **facts)
    with Film(source) as film:
        lumas = [frame.luma for frame in film.frames()]
    encoded, fill = [], Encoder.fill
    monkeypatch.setattr(
        Encoder,
        "fill",
        lambda self, pts, planes: encoded.append(planes) or fill(self, pts, planes),
    )

    report = colorizer.colorize_film(source, tmp_path / f"out{extension}")

    before, after = probe(source), probe(report.result)
    assert (report.frames, report.notes) == (FRAMES, [])
    np.testing.assert_array_equal([planes[0] for planes in encoded], lumas)
    assert all(planes[1].shape == (HEIGHT / 2, WIDTH / 2) for planes in encoded)
    assert after["codec"] == ("vp9" if extension == ".webm" else "h264")
    np.testing.assert_allclose(after["times"], before["times"], atol=1e-4)
    for fact in ("bits", "rotation", "aspect", "title", "chapters", "others"):
        assert after[fact] == before[fact], fact
    assert len(after["others"]) >= 2 * ("texts" in facts) + 30 * ("sound" in facts)
    assert len(after["chapters"]) == len(facts.get("chapters", ()))
    for was, now in zip(before["rgb"], after["rgb"], strict=True):
        assert np.abs(ct.to_gray(was) - np.float32(ct.to_gray(now))).mean() < 2.5
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("matrix", [1, 6])
def test_colors_are_those_of_a_photo_in_every_matrix_and_range(
    matrix, full, colorizer, pan, tmp_path
):
    levels = 2 if full else 1
    source = write_film(
        tmp_path / "a.mp4",
        pan[:3],
        colorspace=matrix,
        color_range=levels,
        levels=levels,
    )

    report = colorizer.colorize_film(source, tmp_path / "b.mp4")

    found = probe(report.result)
    assert found["colours"] == (levels, matrix)
    gray, rgb = (first_rgb(path, matrix, levels) for path in (source, report.result))
    photo = colorizer.colorize(ct.to_gray(gray))
    differences = np.float32(rgb) - photo
    assert np.abs(differences.mean(axis=(0, 1))).max() < 1.5
    assert np.abs(differences).mean() < 3


def first_rgb(path, matrix, levels):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        options = {"src_colorspace": matrix, "src_color_range": levels}
        return frame.reformat(format="rgb24", **options).to_ndarray()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("matrix", LUMA_WEIGHTS)
def test_no_pixel_of_the_decoded_colors_is_clipped(matrix, full, bits, halved):
    rng = np.random.default_rng(0)
    black, span = (0, 2**bits - 1) if full else (16 << bits - 8, 219 << bits - 8)
    dtype = np.uint8 if bits == 8 else np.uint16
    luma = np.where(
        rng.random((31, 45)) < 0.1,
        rng.choice([black, black + span], (31, 45)),
        rng.integers(black, black + span, (31, 45), endpoint=True),
    ).astype(dtype)
    slope, offset = np.float32(rng.normal(0, 0.3, (2, 8, 12, 2)))

    cb, cr = paint_planes(luma, slope, offset, Levels(matrix, full, bits), halved)

    assert cb.dtype == cr.dtype == dtype
    assert cb.shape == ((16, 23) if halved else (31, 45))
    for siting in (None, 0, 0.5) if halved else (None,):
        rgb = decode(luma, cb, cr, matrix, full, bits, halved, siting)
        assert rgb.min() > -1e-3 / 255
        assert rgb.max() < 1 + 1e-3 / 255


def decode(luma, cb, cr, matrix, full, bits, halved, siting=None):
    """Returns planes as RGB by the formulas of ITU-T H.273, float (H, W, 3).

    Chroma is repeated, or interpolated linearly from its place: 0 is the left column of
    its pixels, as in films; 0.5 is between both columns, as in JPEG.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    black, span = (0, 2**bits - 1) if full else (16 << bits - 8, 219 << bits - 8)
    chroma_span = 2**bits - 1 if full else 224 << bits - 8
    y = (np.float64(luma) - black) / span
    height, width = luma.shape
    rows, columns = (np.arange(size, dtype=np.float32) for size in (height, width))
    if siting is None:
        rows, columns = rows // (1 + halved), columns // (1 + halved)
    else:
        rows, columns = (rows - 0.5) / 2, (columns - siting) / 2
    places = np.broadcast_to(columns, y.shape), np.broadcast_to(rows[:, None], y.shape)
    cb, cr = (
        cv2.remap(
            (np.float64(plane) - 2 ** (bits - 1)) / chroma_span,
            *map(np.ascontiguousarray, places),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for plane in (cb, cr)
    )
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.dstack([r, g, b])


@pytest.mark.parametrize("matrix", LUMA_WEIGHTS)
def test_planes_have_the_colors_that_the_network_means(matrix):
    luma = np.full((8, 8), 128, np.uint8)
    rgb = np.array([0.62, 0.47, 0.42])
    y = rgb @ [0.299, 0.587, 0.114]
    chroma = np.float32([(rgb[2] - y) / 1.772, (rgb[0] - y) / 1.402])
    offset = np.broadcast_to(chroma, (4, 4, 2)).copy()

    cb, cr = paint_planes(luma, np.zeros_like(offset), offset, Levels(matrix))

    found = decode(luma, cb, cr, matrix, True, 8, True)[0, 0]
    # The luma is the film's: only what is left beside it can be that of the color.
    red, blue = LUMA_WEIGHTS[matrix]
    wanted = rgb - rgb @ [red, 1 - red - blue, blue] + 128 / 255
    np.testing.assert_allclose(found, wanted, atol=1.2 / 255)


def one_of_two_colors(luma):
    """Chroma of one color for bright pixels and of another for dark ones."""
    return np.float32(np.dstack([0.3 * (luma - 0.5), 0.05 + 0.2 * (0.5 - luma)]))


def looks_of(lumas, guess):
    return [Look(None, luma, guess(n, luma)) for n, luma in enumerate(lumas)]


def steady_all(looks, size=8):
    chunks = (looks[start : start + size] for start in range(0, len(looks), size))
    return [look.chroma for chunk in steady(chunks) for look in chunk]


def guess_anew(n, luma):
    """Returns the true colors plus an error that differs from frame to frame."""
    rng = np.random.default_rng(n)
    off = cv2.resize(np.float32(rng.normal(0, 0.03, (9, 16, 2))), luma.shape[::-1])
    return one_of_two_colors(luma) + off


def test_colors_swim_a_quarter_as_much_and_are_as_vivid(pan):
    lumas = [np.float32(gray) / 255 for gray in pan]
    alone = [guess_anew(n, luma) for n, luma in enumerate(lumas)]

    made = steady_all(looks_of(lumas, guess_anew))

    def flicker(chromas):
        pairs = pairwise(chromas)
        return np.mean([np.abs(b[:, :-2] - a[:, 2:]).mean() for a, b in pairs])

    def vividness(chromas):
        return np.linalg.norm(chromas, axis=-1).mean()

    real = [one_of_two_colors(luma) for luma in lumas]
    assert flicker(made) < flicker(alone) / 4
    assert vividness(made) == pytest.approx(vividness(alone), rel=0.05)
    assert np.std(np.subtract(made, real)) < np.std(np.subtract(alone, real)) / 2


def test_colors_are_seen_from_both_sides(pan):
    lumas = [np.float32(pan[0]) / 255] * 9

    def guess(n, luma):
        return np.full((*luma.shape, 2), 0.1 * (n == 4), np.float32)

    made = [chroma[20, 20, 0] for chroma in steady_all(looks_of(lumas, guess), 9)]

    assert made[3] == pytest.approx(made[5], rel=0.1)
    assert made[4] > made[3] > made[2] > 0


@pytest.mark.parametrize("cut", [8, 11])  # at the end of a chunk, and within a chunk
def test_nothing_is_carried_across_a_cut(cut, texture):
    lumas = [gray / np.float32(255) for gray in pan_across(texture, cut)]
    # The same mean brightness, and many places of the same brightness.
    lumas += [
        gray[:, ::-1] / np.float32(255) for gray in pan_across(texture, 20 - cut, 128)
    ]

    def guess(n, luma):
        return np.full((*luma.shape, 2), 0.1 if n < cut else -0.1, np.float32)

    made = np.array(steady_all(looks_of(lumas, guess)))

    np.testing.assert_allclose(made[:cut], 0.1, atol=1e-5)
    np.testing.assert_allclose(made[cut:], -0.1, atol=1e-5)


def test_what_moves_leaves_no_trail(texture):
    lumas, balls = [], []
    for n in range(24):
        luma = 0.3 + 0.3 * texture[:HEIGHT, :WIDTH]
        ball = np.zeros_like(luma)
        cv2.circle(ball, (20 + 3 * n, 36), 9, 1, -1)
        lumas.append(np.where(ball, 0.9, luma).astype(np.float32))
        balls.append(ball > 0)

    def guess(n, luma):
        plane = np.float32(np.where(balls[n], 0.2, -0.05))
        return np.dstack([plane, plane])

    made = steady_all(looks_of(lumas, guess))

    far = ~cv2.dilate(np.uint8(balls[12]), np.ones((7, 7))).astype(bool)
    assert np.abs(made[12][far][:, 0] + 0.05).max() < 0.03
    assert np.abs(made[12][balls[12]][:, 0] - 0.2).mean() < 0.03


def test_a_long_shot_ends_in_the_colors_that_it_would_have_alone(texture):
    # The first frames are forgotten, though nothing moves.
    lumas = [texture[:HEIGHT, :WIDTH]] * 120

    def guess(n, luma):
        return np.full((*luma.shape, 2), 0.2 if n < 20 else 0.05, np.float32)

    made = steady_all(looks_of(lumas, guess))

    np.testing.assert_allclose(made[-1], 0.05, atol=1e-3)
    # Two seconds later it is, at 25 frames a second.
    np.testing.assert_allclose(made[72], 0.05, atol=1e-3)


def test_a_steady_chunk_keeps_only_what_the_next_one_needs(pan):
    # Links and sums take as much memory as the frames of 1080p.
    looks = looks_of([np.float32(gray) / 255 for gray in pan[:8]], guess_anew)

    for chunk in steady([looks[:4], looks[4:]]):
        assert not any(look.link for look in chunk)
        assert [look.sums is not None for look in chunk] == [False] * 3 + [True]


def test_a_reel_that_flickers_in_brightness_is_one_shot(pan):
    motion, luma = Motion(), np.float32(pan[0]) / 255
    assert motion.link(luma, luma * np.float32(1.1)) is not None


def packets_of(path):
    with av.open(str(path)) as container:
        packets = container.demux(video=0)
        return [(p.pts, p.dts, bytes(p)) for p in packets if p.size]


@pytest.fixture(scope="module")
def film(tmp_path_factory, texture):
    """A film of 45 frames with a cut, and sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = [*pan_across(texture, 25), *pan_across(texture, 20, 120)]
    return write_film(path, frames, sound="aac", options={"g": "12"})


def test_killed_again_and_again_it_is_the_film_of_one_run(
    film, build_vivid_generator, tmp_path, short_pieces, monkeypatch
):
    colorizer = ct.Colorizer(build_vivid_generator())
    whole = colorizer.colorize_film(film, tmp_path / "whole.mp4")
    write, written, frames = PieceWriter.write, [], [5, 13, 17, 9]

    def write_some(self, frame, planes):
        if len(written) == frames[0]:
            raise KeyboardInterrupt
        written.append(frame.pts)
        write(self, frame, planes)

    monkeypatch.setattr(PieceWriter, "write", write_some)
    while frames:
        with pytest.raises(KeyboardInterrupt):
            colorizer.colorize_film(film, tmp_path / "killed.mp4")
        assert not (tmp_path / "killed.mp4").exists()
        written.clear()
        frames.pop(0)
    frames.append(1000)

    report = colorizer.colorize_film(film, tmp_path / "killed.mp4")

    assert 0 < len(written) < 45
    assert packets_of(report.result) == packets_of(whole.result)
    assert probe(report.result)["others"] == probe(whole.result)["others"]
    assert report.frames == whole.frames == 45
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "killed.mp4",
        "whole.mp4",
    ]


def test_killed_between_the_last_frame_and_the_end_it_is_whole_too(
    build_vivid_generator, pan, tmp_path, monkeypatch
):
    monkeypatch.setattr("colorizer_tf.pieces.PIECE", 1)
    colorizer = ct.Colorizer(build_vivid_generator())
    film = tmp_path / "film.mkv"  # whose header tells no number of frames
    write_film(film, pan[:12], pts=list(range(0, 12 * 8, 8)))
    whole = colorizer.colorize_film(film, tmp_path / "whole.mkv")

    def be_killed(self, film):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PieceWriter, "finish", be_killed)
        with pytest.raises(KeyboardInterrupt):
            colorizer.colorize_film(film, tmp_path / "killed.mkv")

    report = colorizer.colorize_film(film, tmp_path / "killed.mkv")

    assert report.notes == whole.notes == []
    assert packets_of(report.result) == packets_of(whole.result)
    assert duration_of(report.result) == duration_of(whole.result)


@pytest.mark.parametrize("extension", [".mp4", ".webm"])
def test_the_same_frames_give_the_same_bytes(extension, tmp_path):
    rng = np.random.default_rng(0)
    waves = 240 * cv2.GaussianBlur(rng.normal(size=(180, 240)), None, 3)
    noise = rng.normal(0, 9, (12, 180, 240))
    lumas = [np.uint8(np.clip(128 + waves + one, 0, 255)) for one in noise]
    half = np.full((90, 120), 128, np.uint8)

    def encode():
        rng.bytes(9_000_000)  # random content of freed memory
        context, packets = encoder.start(), []
        for pts, luma in enumerate(lumas):
            packets += context.encode(encoder.fill(pts, (luma, half, half)))
        return [bytes(packet) for packet in packets + context.encode(None)]

    with Film(write_film(tmp_path / "a.mp4", lumas[:2])) as film:
        encoder = Encoder(film, extension)
        first = encode()
        assert all(encode() == first for _ in range(4))


def test_pieces_of_other_settings_are_not_taken(
    film, colorizer, tmp_path, short_pieces, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(film_module, "join", stop)
        with pytest.raises(KeyboardInterrupt):
            colorizer.colorize_film(film, tmp_path / "a.mp4", strength=0)
        assert len(list(tmp_path.glob(".a.mp4.pieces/*.npz"))) > 2

    report = colorizer.colorize_film(film, tmp_path / "a.mp4")

    assert np.ptp(probe(report.result)["rgb"][0].mean(axis=(0, 1))) > 3


def test_a_film_that_breaks_off_is_done_as_far_as_it_goes(colorizer, pan, tmp_path):
    whole = write_film(tmp_path / "whole.mkv", pan * 5)
    content = whole.read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(content[: len(content) // 2])

    report = colorizer.colorize_film(broken, tmp_path / "out.mkv")

    assert 30 < report.frames < 120
    assert len(probe(report.result)["rgb"]) == report.frames
    assert f"{broken} breaks off after {report.frames} frames" in str(report)
    assert "as far as it can be read" in str(report)


def test_an_interlaced_film_is_said_to_be_and_deinterlaced(colorizer, pan, tmp_path):
    # The lines of each frame come from two times.
    woven = [frame.copy() for frame in pan[:-1]]
    for frame, later in zip(woven, pan[1:], strict=True):
        frame[1::2] = later[1::2]
    source = write_film(
        tmp_path / "a.mkv",
        woven,
        "mpeg2video",
        flags=0x40000 | 0x20000000,
        options={"b": "4M"},
    )

    report = colorizer.colorize_film(source, tmp_path / "b.mkv")

    assert report.notes == ["it was interlaced, and is deinterlaced"]
    before, after = probe(source), probe(report.result)
    np.testing.assert_allclose(after["times"], before["times"], atol=2e-3)

    def combing(rgb):
        gray = np.float32(ct.to_gray(rgb))
        return np.abs(2 * gray[1:-1] - gray[:-2] - gray[2:]).mean()

    assert combing(after["rgb"][9]) < combing(before["rgb"][9]) / 2


def test_the_network_sees_a_turned_film_upright_and_in_square_pixels(
    generator, pan, tmp_path, monkeypatch
):
    colorizer, seen = ct.Colorizer(generator), []
    predict = ct.Colorizer.predict_chroma
    monkeypatch.setattr(
        ct.Colorizer,
        "predict_chroma",
        lambda self, lumas, *args: seen.extend(lumas) or predict(self, lumas, *args),
    )
    source = write_film(
        tmp_path / "a.mp4", pan[:2], rotation=90, sample_aspect_ratio=Fraction(2, 1)
    )

    colorizer.colorize_film(source, tmp_path / "b.mp4")

    upright = np.rot90(np.float32(pan[0]) / 255)
    shown = cv2.resize(upright, seen[-1].shape[::-1], interpolation=cv2.INTER_AREA)
    assert seen[-1].shape == colorizer.working_shape(2 * WIDTH, HEIGHT)
    assert np.corrcoef(shown.ravel(), seen[-2].ravel())[0, 1] > 0.98


def test_a_hint_goes_with_its_place_until_the_cuts(colorizer, texture, tmp_path):
    frames = [*pan_across(texture, 12, 110), *pan_across(texture, 24)]
    frames += pan_across(texture, 8, 120)
    source = write_film(tmp_path / "a.mp4", frames, options={"crf": "12"})
    hint = ct.FilmHint(x=0.5, y=0.5, color="#4060c0", time=24.5 / 25)

    report = colorizer.colorize_film(source, tmp_path / "b.mp4", hints=[hint])

    rgb = np.float32(probe(report.result)["rgb"])
    blue = rgb[..., 2] - rgb[..., 0]
    for number in (12, 18, 24, 30, 35):
        column = WIDTH // 2 - 2 * (number - 24)  # its place after the pan
        around = slice(column - 2, column + 3)
        assert blue[number, 34:39, around].mean() > 30, number
    assert blue[:12].mean(axis=(1, 2)).max() < 0
    assert blue[36:].mean(axis=(1, 2)).max() < 0


def test_a_hint_counts_in_the_frame_that_is_shown_at_its_time():
    hints = [ct.FilmHint(0.5, 0.5, "#000000", time) for time in (0, 0.04, 0.079, 1)]
    starts = find_frames([0, 0.04, 0.08, 0.12], hints)
    assert {number: len(places) for number, places in starts.items()} == {
        0: 1,
        1: 2,
        3: 1,
    }


def test_a_hint_after_the_end_of_a_film_is_named():
    hint = ct.FilmHint(0.5, 0.5, "#ff0000", 99)
    with pytest.raises(ct.HintError, match=r"99, but .* starts at 0\.04 seconds"):
        find_frames([0, 0.04], [hint])


def test_hints_of_a_film_come_from_a_file(tmp_path):
    path = tmp_path / "hints.json"
    entry = {"x": 0.4, "y": 0.3, "color": "#2e5d34", "time": 12.4}
    path.write_text(json.dumps([entry]))
    assert ct.read_film_hints(path) == [ct.FilmHint(0.4, 0.3, "#2e5d34", 12.4)]
    for wrong, reason in (
        ("[", "no JSON"),
        (json.dumps([entry | {"time": -1}]), "entry 1: time must be seconds"),
        (json.dumps([entry | {"x": 2}]), "entry 1: x must be a fraction"),
        (json.dumps([{"x": 0.4, "y": 0.3, "color": "#2e5d34"}]), 'needs a "time"'),
        (json.dumps({"x": 1}), "must be a list"),
    ):
        path.write_text(wrong)
        with pytest.raises(ct.HintError, match=reason) as error:
            ct.read_film_hints(path)
        assert str(path) in str(error.value)


def test_hints_that_cannot_be_used_are_refused_before_any_work(
    film, generator, colorizer, tmp_path
):
    hint = ct.FilmHint(0.5, 0.5, "#000000", 0)
    with pytest.raises(ValueError, match="takes no hints"):
        ct.Colorizer(generator).colorize_film(film, tmp_path / "a.mp4", hints=[hint])
    with pytest.raises(ct.HintError, match="FilmHint"):
        colorizer.colorize_film(
            film, tmp_path / "a.mp4", hints=[ct.Hint(0.5, 0.5, "#000000")]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "facts", "result", "reason"),
    [
        ("a.mkv", {"codec": "ffv1", "form": "gray12le"}, "b.mkv", "12 bits a channel"),
        ("a.mkv", {"codec": "ffv1", "form": "gray10le"}, "b.webm", "10 bits a channel"),
        ("a.mkv", {"sound": "pcm_s16le"}, "b.webm", "does not hold its sound"),
        ("a.mkv", {}, "b.avi", "ending must be one of"),
    ],
)
def test_what_would_be_lost_is_refused_aloud(
    name, facts, result, reason, colorizer, pan, tmp_path
):
    source = write_film(tmp_path / name, pan[:3], **facts)
    with pytest.raises(FilmError, match=reason) as error:
        colorizer.colorize_film(source, tmp_path / result)
    assert str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_film_is_named(colorizer, tmp_path):
    for name in ("text.mp4", "missing.mp4"):
        path = tmp_path / name
        if name == "text.mp4":
            path.write_text("no film")
        with pytest.raises(FilmError, match="cannot be read as a film") as error:
            colorizer.colorize_film(path, tmp_path / "b.mp4")
        assert str(path) in str(error.value)


def test_a_result_that_is_there_stays(film, colorizer, tmp_path):
    (tmp_path / "film.mp4").write_text("mine")
    for destination in (tmp_path, tmp_path / "film.mp4"):
        with pytest.raises(FileExistsError, match="is there already"):
            colorizer.colorize_film(film, destination)
    assert (tmp_path / "film.mp4").read_text() == "mine"


def test_without_pyav_a_line_says_what_to_install(film, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("film", "reel", "splice"):
        monkeypatch.delitem(sys.modules, f"colorizer_tf.{name}")
    monkeypatch.delattr(ct, "film")
    assert main(["colorize", str(film), str(tmp_path / "b.mp4")]) == 1
    error = capsys.readouterr().err
    assert 'pip install "colorizer_tf[film]"' in error
    assert error.count("\n") == 1


@pytest.fixture
def folder(film, tmp_path):
    """A folder with a photo, a film, a fake film, and hints for the film."""
    source = tmp_path / "in"
    (source / "reels").mkdir(parents=True)
    shutil.copy(film, source / "reels")
    (source / "bad.mp4").write_text("no film")
    cv2.imwrite(str(source / "a.png"), np.zeros((20, 30), np.uint8))
    return source


def test_the_command_takes_a_film_and_films_in_a_folder(film, folder, tmp_path, capsys):
    weights = tmp_path / "generator.keras"
    build_tiny_generator().save(weights)
    out = tmp_path / "out"
    options = ["--weights", str(weights)]

    assert main(["colorize", str(film), str(tmp_path / "b.mkv"), *options]) == 0
    assert "b.mkv: 45 frames" in capsys.readouterr().out
    assert main(["colorize", str(folder), str(out), *options]) == 1

    told = capsys.readouterr().out
    assert "1 photos: 1 done" in told
    assert "2 films: 1 done, 0 skipped, 1 failed" in told
    assert "bad.mp4 cannot be read as a film" in told
    assert (out / "a.png").exists()
    assert len(probe(out / "reels/film.mp4")["rgb"]) == 45

    assert main(["colorize", str(folder), str(out), *options]) == 1
    told = capsys.readouterr().out
    assert "1 photos: 0 done, 1 skipped" in told
    assert "2 films: 0 done, 1 skipped, 1 failed" in told


def statuses(report):
    return {outcome.photo.name: outcome.status for outcome in report}


def test_films_are_in_the_account_of_their_folder(folder, colorizer, tmp_path):
    out = tmp_path / "out"
    result = out / "reels/film.mp4"

    def run(strength=1.0):
        return statuses(colorize_films(colorizer, folder, out, strength))

    assert run() == {"film.mp4": "done", "bad.mp4": "failed"}
    first = result.read_bytes()
    assert run()["film.mp4"] == "skipped"
    assert run(0)["film.mp4"] == "done"
    assert np.ptp(probe(result)["rgb"][0].mean(axis=(0, 1))) < 1
    assert run()["film.mp4"] == "done"
    assert result.read_bytes() == first
    hint = {"x": 0.5, "y": 0.5, "color": "#4060c0", "time": 0}
    (folder / "reels/film.hints.json").write_text(json.dumps([hint]))
    assert run()["film.mp4"] == "done"
    assert result.read_bytes() != first
    assert run()["film.mp4"] == "skipped"
    assert [path.name for path in result.parent.iterdir()] == ["film.mp4"]


def test_films_give_way_to_other_files_and_to_each_other(folder, colorizer, tmp_path):
    reels, out = folder / "reels", tmp_path / "out"
    shutil.copy(reels / "film.mp4", reels / "same.mkv")
    shutil.copy(reels / "film.mp4", reels / "same.avi")
    (out / "reels").mkdir(parents=True)
    (out / "reels/film.mp4").write_text("mine")

    report = colorize_films(colorizer, folder, out)

    assert report.count("done") == 3
    assert (out / "reels/film.mp4").read_text() == "mine"
    names = {path.name for path in (out / "reels").iterdir()}
    assert names == {"film.mp4", "film (2).mp4", "same.mkv", "same (2).mkv"}


def test_films_that_were_interrupted_are_gone_on_with(
    folder, colorizer, tmp_path, short_pieces, monkeypatch
):
    out = tmp_path / "out"
    whole = colorizer.colorize_film(folder / "reels/film.mp4", tmp_path / "whole.mp4")
    write, written = PieceWriter.write, []

    def write_some(self, frame, planes):
        if len(written) == 30:
            raise KeyboardInterrupt
        written.append(frame.pts)
        write(self, frame, planes)

    with monkeypatch.context() as patched:
        patched.setattr(PieceWriter, "write", write_some)
        with pytest.raises(KeyboardInterrupt):
            colorize_films(colorizer, folder, out)
    assert not (out / "reels/film.mp4").exists()
    before = threading.active_count()

    report = colorize_films(colorizer, folder, out)

    assert statuses(report)["film.mp4"] == "done"
    assert packets_of(out / "reels/film.mp4") == packets_of(whole.result)
    assert threading.active_count() <= before


def test_what_should_be_known_of_a_film_is_in_the_report(colorizer, pan, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    content = write_film(tmp_path / "whole.mkv", pan * 5).read_bytes()
    (source / "broken.mkv").write_bytes(content[: len(content) // 2])

    report = colorize_films(colorizer, source, tmp_path / "out")

    assert "1 films: 1 done, 0 skipped, 0 failed" in str(report)
    assert "as far as it can be read" in str(report)


def test_results_of_films_do_not_mix_with_films(folder, colorizer, tmp_path):
    with pytest.raises(ValueError, match="is or contains the source"):
        colorize_films(colorizer, folder, tmp_path)
    inside = folder / "out"
    for _ in range(2):
        report = colorize_films(colorizer, folder, inside)
        assert len(report) == 2


def test_the_notebook_makes_a_film_and_shows_a_strip(run_notebook, tmp_path):
    build_tiny_generator().save(tmp_path / "generator.keras")

    notebook = run_notebook(
        "07_film", weights="generator.keras", output="out", frames=8
    )

    printed = str([cell.get("outputs") for cell in notebook.cells])
    assert "sample_gray_color.mp4: 8 frames" in printed
    assert "image/png" in printed
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"sample_gray.mp4", "sample_gray_color.mp4", "strip.png"}
