"""The measures by kind of photo, for the generator in the box or another one.

Photos are grouped by what stands before the first "_" of their names, and only the
test side of the folder is measured: the tenth that training keeps out.

    python benchmarks/by_kind.py photos/more --weights runs/more/generator.keras
"""

import argparse
from itertools import groupby

import colorizer_tf as ct


def kind(path):
    return path.stem.split("_")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder of colour photos")
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    args = parser.parse_args()

    colorizer = ct.Colorizer.load(args.weights)
    split = ct.split_photos(ct.find_photos(args.photos), validation_fraction=0)
    groups = {"all": split.test}
    groups |= {name: list(paths) for name, paths in groupby(sorted(split.test), kind)}
    rows = {}
    for name, paths in groups.items():
        evaluation = ct.evaluate(colorizer, paths)
        rows[f"{name}, {len(paths)} photos"] = evaluation.colorized
        rows[f"{name}, unchanged gray"] = evaluation.gray
    print(ct.format_measures(rows))


if __name__ == "__main__":
    main()
