"""Measures the colors of films: steadiness, gain from hints, time and memory.

Clips are made from photos (see `clips.py`), so their motion and colors are known. For
each kind, the table compares single frames and steady colors:

- flicker: the mean difference, in levels, between a frame's chroma at the network's
  size and that of the previous frame, moved by the known motion;
- color: the colorfulness of the steady clip divided by that of single frames;
- PSNR against the real colors;
- end: the mean difference, in levels, between a clip's last frame and the same frame
  in a clip that begins a second earlier.

The second table gives the PSNR of clips with points of their real colors in the middle
frame. The third measures films of 720p and 1080p, each in its own process. Its
reference is decoding and encoding alone, with the same settings.

    python benchmarks/film.py --weights runs/mine/generator.keras --photos data/photos
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import colorizer_tf as ct
import av
import cv2
import numpy as np
import skimage.data
from clips import HEIGHT, PEOPLE, RATE, STREETS, WIDTH, View, make_clip, make_kinds
from colorizer_tf.color import colorfulness, join_luma_chroma, rgb_to_chroma
from colorizer_tf.film import BATCH, CHUNK
from colorizer_tf.painting import fit_chroma, paint
from colorizer_tf.reel import Film
from colorizer_tf.splice import Encoder, join
from colorizer_tf.steady import Look, follow_hints, steady

SAMPLES = ("astronaut", "chelsea", "coffee", "motorcycle_left")
HINTS = (0, 1, 3, 10)


def load_photos(folder, limit):
    """Returns photos from the whole folder; a third shows streets and people."""
    if folder:
        paths = ct.find_photos(folder)
        chosen = set()
        for names in (STREETS, PEOPLE, ""):
            some = [path for path in paths if path.name.startswith(names)]
            chosen.update(
                some[:: max(1, len(some) // max(1, limit // 3))][: limit // 3]
            )
        paths = sorted(chosen)
    else:
        place = Path(skimage.data.__file__).parent
        paths = [place / f"{name}.png" for name in SAMPLES]
    return {path.stem: ct.read_photo(path) for path in paths}


def predict(colorizer, lumas, hints=None):
    chromas = []
    for start in range(0, len(lumas), BATCH):
        part = slice(start, start + BATCH)
        chromas += colorizer.predict_chroma(lumas[part], hints and hints[part])
    return chromas


def steady_all(lumas, chromas):
    looks = list(map(Look, [None] * len(lumas), lumas, chromas))
    starts = range(0, len(looks), CHUNK)
    chunks = (list(map(replace, looks[at : at + CHUNK])) for at in starts)
    return [look.chroma for chunk in steady(chunks) for look in chunk]


def flicker(chromas, back):
    height, width = chromas[0].shape[:2]
    scale = np.float32([width / WIDTH, height / HEIGHT])
    found = []
    for before, chroma, places in zip(chromas, chromas[1:], back[1:], strict=False):
        if places is None:
            continue
        places = (cv2.resize(places, (width, height)) + 0.5) * scale - 0.5
        inside = ((places >= 0) & (places <= [width - 1, height - 1])).all(axis=-1)
        there = cv2.remap(before, np.nan_to_num(places), None, cv2.INTER_LINEAR)
        found.append(np.abs(chroma - there)[inside].mean())
    return 255 * np.mean(found)


def judge(frames, lumas, chromas):
    """Returns colorfulness, and the squared error to the real colors."""
    colors, errors = [], []
    for rgb, luma, chroma in zip(frames, lumas, chromas, strict=True):
        size = luma.shape[::-1]
        real = np.float32(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)) / 255
        real = join_luma_chroma(luma[..., None], rgb_to_chroma(real))
        made = join_luma_chroma(luma[..., None], chroma)
        colors.append(float(colorfulness(made)))
        errors.append(np.mean((made - real) ** 2))
    return np.mean(colors), np.mean(errors)


def measure_steadiness(colorizer, photos, count):
    print(
        f"{'clips':13} {'flicker':>8} {'steady':>7} {'ratio':>6} {'color':>6} "
        f"{'PSNR alone':>10} {'steady':>6} {'end':>5}"
    )
    for name, clips in make_kinds(photos, count):
        rows, ends = [], []
        for clip in clips:
            lumas = [colorizer.shrink(ct.to_gray(rgb)) for rgb in clip.frames]
            alone = predict(colorizer, lumas)
            both = alone, steady_all(lumas, alone)
            rows.append(
                [(flicker(c, clip.back), *judge(clip.frames, lumas, c)) for c in both]
            )
            late = steady_all(lumas[-RATE:], alone[-RATE:])
            ends.append(255 * np.abs(both[1][-1] - late[-1]).mean())
        alone, steadied = np.mean(rows, axis=0)
        psnr = -10 * np.log10([alone[2], steadied[2]])
        print(
            f"{name:13} {alone[0]:8.3f} {steadied[0]:7.3f} "
            f"{steadied[0] / max(alone[0], 1e-9):6.3f} {steadied[1] / alone[1]:6.3f} "
            f"{psnr[0]:10.2f} {psnr[1]:6.2f} {np.mean(ends):5.2f}",
            flush=True,
        )


def measure_hints(colorizer, photos, count):
    """Prints the PSNR over whole clips by the number of hints in the middle frame."""
    errors = {number: [] for number in HINTS}
    for seed, photo in enumerate(photos.values()):
        frames, middle = make_clip(View(photo), count).frames, count // 2
        lumas = [colorizer.shrink(ct.to_gray(rgb)) for rgb in frames]
        places = ct.sample_hints(frames[middle], max(HINTS), seed)
        places = [(hint.x, hint.y, hint.color) for hint in places]
        for number in HINTS:
            found = follow_hints(lumas, {middle: places[:number]} if number else {})
            cells = [
                colorizer.encode_hints([ct.Hint(*p) for p in found.get(at, [])], luma)
                for at, luma in enumerate(lumas)
            ]
            made = steady_all(lumas, predict(colorizer, lumas, cells))
            errors[number].append(judge(frames, lumas, made)[1])
    print(f"PSNR by hints in the middle frame of a shot of {count / RATE:.0f} seconds:")
    for number, some in errors.items():
        print(f"{number:6} hints: {-10 * np.log10(np.mean(some)):.2f} dB", flush=True)


def draw_strip(colorizer, photo, path, numbers=range(20, 44, 4)):
    """Draws frames of a panned photo: gray, frame by frame, and steady."""
    frames = make_clip(View(photo, pan=1), 75).frames
    grays = list(map(ct.to_gray, frames))
    lumas = list(map(colorizer.shrink, grays))
    alone = predict(colorizer, lumas)
    rows = [[grays[at][..., None] for at in numbers]] + [
        [paint(grays[at], *fit_chroma(lumas[at], chromas[at])) for at in numbers]
        for chromas in (alone, steady_all(lumas, alone))
    ]
    titles = [f"{at / RATE:.2f} s" for at in numbers]
    figure = ct.plot_rows(rows, titles, ["gray", "frame by frame", "steady"])
    figure.savefig(path, dpi=100)


def write_film(path, photo, size, count):
    """Writes a clip as a gray film in H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, {"preset": "fast", "crf": "18"})
        stream.width, stream.height = size
        for rgb in make_clip(View(photo), count, grain=3).frames:
            gray = cv2.resize(ct.to_gray(rgb), size, interpolation=cv2.INTER_CUBIC)
            frame = av.VideoFrame.from_ndarray(gray, "gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def pass_through(source, destination):
    """Decodes and encodes a film with the settings of a colorized one."""
    with Film(source) as film:
        encoder = Encoder(film, destination.suffix)
        context, packets = encoder.start(), []
        half = np.full((-(-film.height // 2), -(-film.width // 2)), 128, np.uint8)
        for frame in film.frames():
            planes = frame.luma, half, half
            packets += context.encode(encoder.fill(frame.pts, planes))
        packets += context.encode(None)
        pts = np.array([packet.pts for packet in packets])
        rows = ((bytes(p), p.pts, p.is_keyframe) for p in packets)
        join(destination, film, encoder, rows, pts)


def do_one(weights, source, destination):
    """Prints the seconds and the peak memory, in GB, of one film."""
    colorizer = weights and ct.Colorizer.load(weights)
    start = time.perf_counter()
    if colorizer:
        colorizer.colorize_film(source, destination)
    else:
        pass_through(source, destination)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(time.perf_counter() - start, memory)


def measure_speed(weights, photo, size, count):
    with tempfile.TemporaryDirectory() as folder:
        source, found = Path(folder) / "gray.mp4", []
        write_film(source, photo, size, count)
        for name in ("", weights):
            command = [sys.executable, __file__, "--weights", name, "--one", source]
            done = subprocess.run(
                [*command, f"{folder}/{len(found)}.mp4"],
                check=True,
                capture_output=True,
            )
            found.append(list(map(float, done.stdout.split())))
    (bare, _), (taken, memory) = found
    print(
        f"{size[0]}x{size[1]}: {count / taken:.1f} frames a second, "
        f"{taken / bare:.2f} times decoding and encoding alone "
        f"({count / bare:.1f}); peak memory {memory:.2f} GB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument("--photos", help="a folder; else four of scikit-image's")
    parser.add_argument("--limit", type=int, default=15, help="photos at most")
    parser.add_argument("--frames", type=int, default=75, help="of a clip; 0 for none")
    parser.add_argument("--film", type=int, default=500, help="frames; 0 for none")
    parser.add_argument("--strip", help="a picture to draw, and nothing else")
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        do_one(args.weights, *args.one)
        return
    photos = load_photos(args.photos, args.limit)
    if args.strip:
        colorizer = ct.Colorizer.load(args.weights)
        draw_strip(colorizer, next(iter(photos.values())), args.strip)
        return
    if args.frames:
        colorizer = ct.Colorizer.load(args.weights)
        measure_steadiness(colorizer, photos, args.frames)
        measure_hints(colorizer, photos, args.frames)
    if args.film:
        for size in ((1280, 720), (1920, 1080)):
            measure_speed(args.weights, next(iter(photos.values())), size, args.film)


if __name__ == "__main__":
    main()
