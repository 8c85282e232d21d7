"""Measures a 12-megapixel photo and a folder of 500 small ones, from file to file.

Each has a reference in the same run. For the large photo, OpenCV alone decodes and
encodes the same file. For the folder, the bare network runs on arrays, at its fastest
batch size. Photos of three sizes between them are colored at working size 128 and at
the default, in turns. All photos are gray JPEGs, made from the embedded sample or from
given photos.

    python benchmarks/colorize.py --weights runs/sample/generator.keras
"""

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import skimage.data

import colorizer_tf as ct

LARGE = (4000, 3000)
SMALL = 150
BETWEEN = (256, 256), (640, 480), (1200, 800)


def make_photo(source, path, size):
    gray = cv2.cvtColor(ct.read_photo(source), cv2.COLOR_RGB2GRAY)
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).normal(0, 4, gray.shape)
    cv2.imwrite(str(path), np.uint8(np.clip(gray + grain, 0, 255)))


def make_small_photos(sources, folder, count):
    folder.mkdir()
    for number, source in enumerate(itertools.islice(itertools.cycle(sources), count)):
        gray = cv2.cvtColor(ct.read_photo(source, SMALL), cv2.COLOR_RGB2GRAY)
        cv2.imwrite(str(folder / f"{number:04}.jpg"), gray[:SMALL, :SMALL])


def shortest(times, step):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_gigabytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def copy_with_opencv(source, destination):
    cv2.imwrite(str(destination), cv2.imread(str(source)))


def network_rates(colorizer, seconds):
    """Returns the photos per second of the bare network, by batch size."""
    height, width = colorizer.network_shape(*colorizer.working_shape(SMALL, SMALL))
    rates = {}
    for batch_size in (1, 2, 4, 8, 16, 32, 64, 128):
        batch = np.random.default_rng(0).random((batch_size, height, width), "float32")
        colorizer.predict_chroma(list(batch))  # warms up
        hints = None
        if colorizer.takes_hints:
            hints = np.zeros((batch_size, height // 4, width // 4, 3), "float32")
        start, batches = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            colorizer.network(batch[..., None], hints)
            batches += 1
        rates[batch_size] = batch_size * batches / (time.perf_counter() - start)
    return rates


def measure_large(colorizer, source, folder, repeats):
    photo = folder / "large.jpg"
    make_photo(source, photo, LARGE)
    results = (folder / f"large_{number}.jpg" for number in itertools.count())
    colorizer.colorize_file(photo, next(results))  # warms up
    ours = shortest(repeats, lambda: colorizer.colorize_file(photo, next(results)))
    peak = peak_gigabytes()
    floor = shortest(repeats, lambda: copy_with_opencv(photo, folder / "copy.jpg"))
    print(
        f"12 megapixels: {ours:.2f} s, OpenCV alone {floor:.2f} s, ratio "
        f"{ours / floor:.1f}; peak memory of the process {peak:.2f} GB",
        flush=True,
    )


def measure_views(colorizer, source, folder, repeats):
    colorizers = ct.Colorizer(colorizer.network, working_size=128), colorizer
    for size in BETWEEN:
        photo = folder / "photo.jpg"
        make_photo(source, photo, size)
        results = (folder / f"{size[0]}_{number}.jpg" for number in itertools.count())
        seconds = [[], []]
        for _ in range(10 * repeats):
            for those, each in zip(seconds, colorizers, strict=True):
                step = partial(each.colorize_file, photo, next(results))
                those.append(shortest(1, step))
        small, default = (1000 * min(those) for those in seconds)
        print(
            f"{size[0]}x{size[1]}: {small:.1f} ms at working size 128, {default:.1f} "
            f"ms at the default, {default / small:.2f} times",
            flush=True,
        )


def measure_folder(colorizer, sources, folder, count, repeats, seconds):
    make_small_photos(sources, folder / "small", count)
    results = (folder / f"small_results_{number}" for number in itertools.count())
    rate = count / shortest(
        repeats, lambda: colorizer.colorize_folder(folder / "small", next(results))
    )
    peak = peak_gigabytes()
    copies = folder / "copies"
    copies.mkdir()
    photos = sorted((folder / "small").iterdir())
    floor = shortest(
        1, lambda: [copy_with_opencv(path, copies / path.name) for path in photos]
    )
    rates = network_rates(colorizer, seconds)
    best = max(rates, key=rates.get)
    print(
        f"{count} photos of {SMALL}x{SMALL}: {count / rate:.1f} s, {rate:.1f} photos/s;"
        f" OpenCV alone {floor:.2f} s; peak memory {peak:.2f} GB\n"
        f"bare network: {rates[best]:.1f} photos/s at its best batch size, {best}; "
        f"the folder reaches {rate / rates[best]:.0%}\n"
        "  "
        + ", ".join(f"{size}: {rate:.1f}" for size, rate in rates.items())
        + " photos/s",
        flush=True,
    )


def main():
    sample = Path(skimage.data.__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument("--large", default=sample / "astronaut.png", help="a photo")
    parser.add_argument("--small", default="", help="a folder of photos")
    parser.add_argument("--count", type=int, default=500, help="of small photos")
    parser.add_argument("--repeats", type=int, default=5, help="the best counts")
    parser.add_argument("--seconds", type=float, default=3, help="a batch size")
    args = parser.parse_args()

    colorizer = ct.Colorizer.load(args.weights)
    sources = ct.find_photos(args.small) if args.small else ct.sample_split().train
    print(f"{os.cpu_count()} cores, working_size {colorizer.working_size}")
    with tempfile.TemporaryDirectory() as folder:
        measure_large(colorizer, args.large, Path(folder), args.repeats)
        measure_views(colorizer, args.large, Path(folder), args.repeats)
        measure_folder(
            colorizer, sources, Path(folder), args.count, args.repeats, args.seconds
        )


if __name__ == "__main__":
    main()
