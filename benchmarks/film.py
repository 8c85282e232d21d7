"""How steady a film's colours are, and what it takes to make them.

Clips are made of photos, panned, zoomed and turned a little, so that the motion is
known; with grain and a lamp that flickers, if wanted. Flicker is the mean difference,
in levels, between a frame's chroma at the network's size and that of the frame before,
brought along by the known motion. Then a film of 720p is colorized, beside what
decoding and encoding alone take with the same settings.

    python benchmarks/film.py --weights runs/mine/generator.keras --photos data/photos
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import colorizer_tf as ct
import av
import cv2
import numpy as np
import skimage.data
from colorizer_tf.color import colourfulness, join_luma_chroma, rgb_to_chroma
from colorizer_tf.film import BATCH, CHUNK
from colorizer_tf.reel import Encoder, Film, join
from colorizer_tf.steady import Look, steady

SAMPLES = ("astronaut", "chelsea", "coffee", "motorcycle_left")
HEIGHT, WIDTH = 270, 480
# The part of a photo's shorter side that is seen, from the first frame to the last.
WIDE, NEAR, TURN = 0.8, 0.55, 0.05


def load_photos(folder, limit):
    if folder:
        paths = ct.find_photos(folder)
        paths = paths[:: -(-len(paths) // limit)]
    else:
        place = Path(skimage.data.__file__).parent
        paths = [place / f"{name}.png" for name in SAMPLES]
    return {path.stem: ct.read_photo(path) for path in paths}


def make_views(photo, frames, motion):
    """For each frame the affine matrix (3, 3) from its pixels to the photo's."""
    height, width = photo.shape[:2]
    for t in np.linspace(0, 1, frames):
        share, angle = (WIDE + t * (NEAR - WIDE), TURN * t) if motion else (WIDE, 0)
        scale = share * min(height / HEIGHT, width / WIDTH)
        room = np.array([width - scale * WIDTH, height - scale * HEIGHT])
        corner = room * (0.15 + 0.7 * t) if motion else room / 2
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        yield np.array(
            [[cosine, -sine, corner[0]], [sine, cosine, corner[1]], [0, 0, 1]]
        )


def make_clip(photo, frames, motion=True, grain=0, lamp=0, seed=0):
    """Returns frames, uint8 RGB, and the affine matrices of their views."""
    rng = np.random.default_rng(seed)
    views, clip = list(make_views(photo, frames, motion)), []
    for view in views:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        rgb = cv2.warpAffine(
            photo, view[:2], (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT
        )
        noise = rng.normal(0, grain, (HEIGHT, WIDTH, 1)) if grain else 0
        clip.append(np.uint8(np.clip(rgb * (1 + lamp * rng.normal()) + noise, 0, 255)))
    return clip, views


def colour(colorizer, clip):
    """Returns the lumas, and the chroma frame by frame, and steadied."""
    lumas = [colorizer.shrink(ct.to_gray(rgb)) for rgb in clip]
    alone = []
    for start in range(0, len(lumas), BATCH):
        alone += colorizer.predict_chroma(lumas[start : start + BATCH])
    looks = list(map(Look, [None] * len(lumas), lumas, alone))
    chunks = (
        [replace(look) for look in looks[start : start + CHUNK]]
        for start in range(0, len(looks), CHUNK)
    )
    return lumas, alone, [look.chroma for chunk in steady(chunks) for look in chunk]


def flicker(chromas, views):
    """Mean difference in levels to the frame before; views None where a cut is."""
    height, width = chromas[0].shape[:2]
    to_frame = np.diag([WIDTH / width, HEIGHT / height, 1])
    found = []
    for number in range(1, len(chromas)):
        if views[number] is None or views[number - 1] is None:
            continue
        there = np.linalg.inv(views[number - 1] @ to_frame) @ views[number] @ to_frame
        before = cv2.warpAffine(
            chromas[number - 1],
            there[:2],
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(np.nan, np.nan),
        )
        found.append(np.nanmean(np.abs(chromas[number] - before)))
    return 255 * np.mean(found)


def judge(clip, lumas, chromas):
    """Returns colourfulness, and the squared error to the real colours."""
    colours, errors = [], []
    for rgb, luma, chroma in zip(clip, lumas, chromas, strict=True):
        size = luma.shape[::-1]
        real = np.float32(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)) / 255
        real = np.asarray(join_luma_chroma(luma[..., None], rgb_to_chroma(real)))
        made = np.asarray(join_luma_chroma(luma[..., None], chroma))
        colours.append(float(colourfulness(made)))
        errors.append(np.mean((made - real) ** 2))
    return np.mean(colours), np.mean(errors)


def measure_flicker(colorizer, photos, frames):
    kinds = {
        "still": {"motion": False},
        "pan and zoom": {},
        "grain 6": {"grain": 6},
        "lamp 4 %": {"lamp": 0.04},
    }
    print(f"{'clips':14} {'flicker':>8} {'steady':>7} {'ratio':>6} {'colour':>7} PSNR")
    for name, options in kinds.items():
        rows = []
        for photo in photos.values():
            clip, views = make_clip(photo, frames, **options)
            lumas, *both = colour(colorizer, clip)
            rows.append([(flicker(c, views), *judge(clip, lumas, c)) for c in both])
        show(name, rows)
    clips = [make_clip(photo, 50) for photo in photos.values()]
    clip = [rgb for rgbs, _ in clips for rgb in rgbs]
    views = [view for _, views in clips for view in (None, *views[1:])]
    lumas, *both = colour(colorizer, clip)
    show("cuts", [[(flicker(c, views), *judge(clip, lumas, c)) for c in both]])


def show(name, rows):
    alone, steadied = np.mean(rows, axis=0)
    psnr = -10 * np.log10([alone[2], steadied[2]])
    ratio = steadied[0] / max(alone[0], 1e-9)
    print(
        f"{name:14} {alone[0]:8.3f} {steadied[0]:7.3f} {ratio:6.3f} "
        f"{steadied[1] / alone[1]:7.3f} {psnr[0]:.2f} -> {psnr[1]:.2f} dB"
    )


def write_film(path, photo, size, frames):
    """Writes a film in gray, H.264, of a clip."""
    clip, _ = make_clip(photo, frames, grain=3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25, {"preset": "fast", "crf": "18"})
        stream.width, stream.height = size
        for rgb in clip:
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


def measure_speed(colorizer, photo, size, frames):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "gray.mp4"
        write_film(source, photo, size, frames)
        start = time.perf_counter()
        pass_through(source, Path(folder) / "bare.mp4")
        bare = time.perf_counter() - start
        start = time.perf_counter()
        report = colorizer.colorize_film(source, Path(folder) / "colour.mp4")
        taken = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{size[0]}x{size[1]}: {report.frames / taken:.1f} frames a second, "
        f"{taken / bare:.2f} times decoding and encoding alone "
        f"({frames / bare:.1f}); peak memory {memory:.2f} GB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument("--photos", help="a folder; else four of scikit-image's")
    parser.add_argument("--limit", type=int, default=20, help="photos at most")
    parser.add_argument("--frames", type=int, default=100, help="of a clip")
    parser.add_argument("--film", type=int, default=500, help="frames; 0 for none")
    args = parser.parse_args()
    colorizer = ct.Colorizer.load(args.weights)
    photos = load_photos(args.photos, args.limit)
    if args.frames:
        measure_flicker(colorizer, photos, args.frames)
    if args.film:
        for size in ((1280, 720), (1920, 1080)):
            measure_speed(colorizer, next(iter(photos.values())), size, args.film)


if __name__ == "__main__":
    main()
