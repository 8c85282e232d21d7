"""Measures how far bfloat16 moves the chroma of held-out photos from float32.

    python experiments/measure_precision.py photos/pool --most 5 --precise 0 3 5 8

It exports the package's generator with the first convolutions in float32, up to each
of the given numbers, and prints the mean difference in levels: the mean over photos,
the 95th percentile, and the largest; and the milliseconds for a photo on one thread.
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from compare_generators import choose_photos

import colorizer_tf as ct
from colorizer_tf.network import Network, load_generator
from colorizer_tf.training import export


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--most", type=int, default=5, help="photos of each prefix")
    parser.add_argument("--precise", type=int, nargs="+", default=[0, 3, 5, 8])
    args = parser.parse_args()
    generator = load_generator(ct.Colorizer.WEIGHTS)
    photos = choose_photos(args.photos, args.most)
    grays = [ct.to_gray(ct.read_photo(photo)) for photo in photos]
    print(f"{len(grays)} photos")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.xml"
        for count in args.precise:
            patch = {"PRECISE_CONVOLUTIONS": count}
            if not count:
                patch = {"_keep_precise": lambda path: None}
            with mock.patch.multiple(export, **patch):
                export.export_network(generator, path)
            expected, _ = predict(path, "f32", grays)
            chromas, ms = predict(path, "bf16", grays)
            pairs = zip(chromas, expected, strict=True)
            apart = [255 * np.abs(one - other).mean() for one, other in pairs]
            print(
                f"{count} convolutions in float32: {np.mean(apart):.2f} levels, 95 % "
                f"of photos below {np.quantile(apart, 0.95):.2f}, at most "
                f"{max(apart):.2f}; {ms:.1f} ms",
                flush=True,
            )


def predict(path, precision, grays):
    """Returns the chroma of each photo, and the least mean time of three runs."""
    colorizer = ct.Colorizer(Network(path, threads=1, precision=precision))
    lumas = [colorizer.shrink(gray) for gray in grays]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        chromas = [colorizer.predict_chroma([luma])[0] for luma in lumas]
        times.append(1000 * (time.perf_counter() - start) / len(lumas))
    return chromas, min(times)


if __name__ == "__main__":
    main()
