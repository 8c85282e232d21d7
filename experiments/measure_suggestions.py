"""Measures suggested colors and variants on held-out photos.

    python experiments/measure_suggestions.py data/photos photos/more

Places are random, with a CIE chroma of at least 8 over 5x5 pixels. It prints how often
the real color lies within a CIEDE2000 of 10: of the automatic color, of one of six
suggestions, and of one of eight fixed swatches at the place's luma. For variants, it
prints the gain in PSNR of the best of four over the automatic result.
"""

import argparse

import numpy as np
from compare_generators import SIDE, choose_photos

import colorizer_tf as ct
from colorizer_tf.color import (
    ciede2000,
    join_luma_chroma,
    rgb_to_chroma,
    rgb_to_lab,
    rgb_to_luma,
)
from colorizer_tf.photos import shrink_photo

COLORFUL, NEAR = 8, 10
SWATCHES = "#c68863 #5a3c28 #8a5a34 #a8322d #3f6b3a #8fb4dd #8a7b52 #2f3f5f".split()


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--generator", default=str(ct.Colorizer.WEIGHTS))
    parser.add_argument("--most", type=int, default=20, help="photos of each prefix")
    parser.add_argument("--places", type=int, default=2000)
    parser.add_argument("--variants", type=int, default=200, help="photos")
    args = parser.parse_args()
    colorizer = ct.Colorizer.load(args.generator)
    photos = choose_photos(args.photos, args.most)
    originals = [shrink_photo(ct.read_photo(path), SIDE) for path in photos]
    rng = np.random.default_rng(0)
    rng.shuffle(originals)
    each = -(-args.places // len(originals))
    hits = [
        hit for rgb in originals for hit in measure_places(colorizer, rgb, each, rng)
    ]
    automatic, suggested, fixed, first = 100 * np.mean(hits, axis=0)
    print(
        f"{len(hits)} places, real color within {NEAR}: automatic {automatic:.1f} %, "
        f"first suggestion {first:.1f} %, one of six {suggested:.1f} %, one of eight "
        f"swatches {fixed:.1f} %"
    )
    gains = [measure_variants(colorizer, rgb) for rgb in originals[: args.variants]]
    errors = np.mean(gains, axis=0)
    print(
        f"{len(gains)} photos, best of four variants: "
        f"{10 * np.log10(errors[0] / errors[1]):+.2f} dB over the automatic result"
    )


def measure_places(colorizer, rgb, count, rng):
    """Yields for each place four booleans: which colors are near the real one.

    They are for the automatic color, any suggestion, any swatch, the first suggestion.
    """
    gray = ct.to_gray(rgb)
    result = colorizer.colorize(gray)
    height, width = gray.shape
    for _ in range(20 * count):
        row, column = rng.integers(2, height - 2), rng.integers(2, width - 2)
        around = np.s_[row - 2 : row + 3, column - 2 : column + 3]
        real = rgb_to_lab(np.float32(rgb[around]).mean(axis=(0, 1)) / 255)
        if np.hypot(*real[1:]) < COLORFUL:
            continue
        automatic = rgb_to_lab(np.float32(result[around]).mean(axis=(0, 1)) / 255)
        x, y = (column + 0.5) / width, (row + 0.5) / height
        suggested = [color for color, _ in colorizer.suggest(gray, x, y)]
        luma = rgb_to_luma(np.float32(rgb[around]) / 255).mean()
        swatches = [
            join_luma_chroma(np.float32([luma]), rgb_to_chroma(to_rgb(color)))
            for color in SWATCHES
        ]
        near = [
            ciede2000(real, rgb_to_lab(color)) < NEAR
            for color in map(to_rgb, suggested)
        ]
        yield (
            ciede2000(real, automatic) < NEAR,
            any(near),
            any(ciede2000(real, rgb_to_lab(color)) < NEAR for color in swatches),
            near[0],
        )
        count -= 1
        if not count:
            return


def to_rgb(color):
    """Returns "#rrggbb" as RGB in [0, 1]."""
    return np.float32(list(bytes.fromhex(color[1:]))) / 255


def measure_variants(colorizer, rgb):
    """Returns the squared errors of the automatic result and of the best variant."""
    errors = [
        np.square(np.float32(variant) - rgb).mean()
        for variant in colorizer.variants(ct.to_gray(rgb))
    ]
    return errors[0], min(errors)


if __name__ == "__main__":
    main()
