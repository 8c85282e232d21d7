"""Evaluates a generator by kind of photo; by default, the package's generator.

Photos are grouped by their prefix: the part of their names before the first "_".
`--group` adds a group of several prefixes. Only the test side of each folder is
measured: the tenth that training keeps out. With `--hints`, it measures the gain in
PSNR, in dB, of points with the real colors.

    python benchmarks/by_kind.py photos/more photos/large --weights generator.keras
    python benchmarks/by_kind.py photos/more photos/large --strength 0.7
    python benchmarks/by_kind.py photos/more photos/large --group indoors rooms houses
    python benchmarks/by_kind.py photos/more photos/large --hints 1 10 100
"""

import argparse
from functools import partial
from itertools import groupby

import colorizer_tf as ct
from colorizer_tf.colorizer import WORKING_SIZE


def kind(path):
    return path.stem.split("_")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument(
        "--working-size",
        type=int,
        default=WORKING_SIZE,
        help="most pixels at the shorter side",
    )
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="less or more color than 1"
    )
    parser.add_argument(
        "--hints", type=int, nargs="+", help="numbers of points of the real colors"
    )
    parser.add_argument(
        "--group", nargs="+", action="append", default=[], help="a name and prefixes"
    )
    args = parser.parse_args()

    colorizer = ct.Colorizer.load(args.weights, working_size=args.working_size)
    colorizer.colorize = partial(colorizer.colorize, strength=args.strength)
    photos = []
    for folder in args.photos:
        photos += ct.split_photos(ct.find_photos(folder), validation_fraction=0).test
    groups = {"all": photos}
    for name, paths in groupby(sorted(photos, key=kind), kind):
        groups[name] = list(paths)
    for name, *members in args.group:
        if name in groups:
            parser.error(f"--group {name}: there is a group of this name")
        if unknown := set(members) - set(groups):
            parser.error(f"--group {name}: no photo has the prefix {min(unknown)}")
        groups[name] = [path for member in members for path in groups[member]]
    if args.hints:
        for name, paths in groups.items():
            none, *psnr = ct.measure_hints(colorizer, paths, [0, *args.hints]).values()
            gains = ", ".join(f"{value - none:+.2f}" for value in psnr)
            print(f"{name}, {len(paths)} photos: {gains}", flush=True)
        return
    rows = {}
    for name, paths in groups.items():
        evaluation = ct.evaluate(colorizer, paths)
        rows[f"{name}, {len(paths)} photos"] = evaluation.colorized
        rows[f"{name}, unchanged gray"] = evaluation.gray
    print(ct.format_measures(rows))


if __name__ == "__main__":
    main()
