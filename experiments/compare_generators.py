"""Compares generators on held-out photos, at equal colorfulness.

    python experiments/compare_generators.py data/photos photos/more --new new.keras
    python experiments/compare_generators.py photos --new new.keras --parts 0.3 0.5 1
    python experiments/compare_generators.py photos --new new.keras --even humanv2
    python experiments/compare_generators.py photos --old-size 160
    python experiments/compare_generators.py photos --new a.keras b.keras \
        --parts 0.3,0.2 --save mean.keras

The first generator is `--old`, by default the package's, unchanged. Each part P gives a
generator with weights P * new + (1 - P) * old; with `--parts 1`, the old one may have
other layers. For several new ones, a part has a number for each, such as "0.3,0.2".
The generator's chroma is scaled like the old one's (`--factor` and `--knee`); `--save`
writes the last one so. Then its chroma is multiplied until all photos together are as
colorful as the old one's. With `--old-size 128`, the old one has the working size of
earlier versions. The photos are the test side of the folders, as in
benchmarks/by_kind.py. Each run takes the same ones, at most `--most` of each prefix.

It prints for each prefix and over all photos: the gain in PSNR over the gray photo, in
dB, and the difference in CIEDE2000 to the gray photo's; over all photos also the
colorfulness and the palette distance. `--even` measures how even colors are in photos
with the given prefixes, over segments of one real color. It prints the mean spreads,
and the share of segments whose spread of predicted color is above 8 and above twice the
real one.
"""

import argparse
from itertools import groupby

import cv2
import keras
import numpy as np
from color_queries import add_color_queries
from scipy.spatial.distance import jensenshannon
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.segmentation import felzenszwalb

import colorizer_tf as ct
from colorizer_tf.color import colorfulness
from colorizer_tf.colorizer import WORKING_SIZE
from colorizer_tf.metrics import PALETTE_EDGES
from colorizer_tf.photos import shrink_photo
from colorizer_tf.sources import hash_position
from colorizer_tf.survey import survey_photo
from colorizer_tf.training.models import copy_weights, scale_chroma

KEPT_OUT = 0.1
SIDE = 256
SEGMENT_SCALE, SEGMENT_PIXELS = 150, 250
SAME_COLOR, PATCHY = 5, 8


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--old", default=str(ct.Colorizer.WEIGHTS))
    parser.add_argument("--new", nargs="+", help="else the old one is measured alone")
    parser.add_argument("--parts", nargs="+", default=["0.5", "1"])
    parser.add_argument("--save", help="the .keras file of the last part")
    parser.add_argument("--most", type=int, default=50, help="photos of each prefix")
    parser.add_argument("--factor", type=float, default=1.4)
    parser.add_argument("--knee", type=float, default=0.01)
    parser.add_argument(
        "--old-size", type=int, default=WORKING_SIZE, help="working size of the old one"
    )
    parser.add_argument("--even", nargs="*", default=[], help="prefixes")
    args = parser.parse_args()

    photos = choose_photos(args.photos, args.most)
    originals = [shrink_photo(ct.read_photo(path), SIDE) for path in photos]
    kinds = list(map(find_kind, photos))
    old = ct.Colorizer.load(args.old, working_size=args.old_size)
    results = colorize(old, originals)
    wanted = mean_colorfulness(results)
    report("old", results, originals, kinds, 1.0, args.even)
    for part in args.parts if args.new else ():
        generator = mix(old.generator, args.new, list(map(float, part.split(","))))
        scaled = scale_chroma(generator, args.factor, args.knee)
        new = ct.Colorizer(scaled)
        results, strength = match(new, originals, wanted)
        report(f"{part} of new", results, originals, kinds, strength, args.even)
        if args.save:
            scaled.save(args.save)


def choose_photos(folders, most):
    """Returns held-out photos, at most `most` of each prefix, sorted by prefix.

    It takes those with the lowest hashes, so that new photos in the folders change the
    choice little. It leaves out near-gray photos.
    """
    paths = [path for folder in folders for path in ct.find_photos(folder)]
    positions = {path: hash_position(path) for path in paths}
    paths = [path for path in paths if positions[path] < KEPT_OUT]
    chosen = []
    for _, group in groupby(sorted(paths, key=find_kind), find_kind):
        kept = 0
        for path in sorted(group, key=positions.get):
            facts = survey_photo(path)
            if kept < most and not facts.error and not facts.near_gray:
                chosen.append(path)
                kept += 1
            if kept == most:
                break
    return chosen


def find_kind(path):
    """Returns the prefix of a photo's name, or "own"."""
    return path.stem.split("_")[0] if "_" in path.stem else "own"


def mix(old, paths, parts):
    """Returns a generator with the weighted mean of the weights of files and `old`."""
    new = [keras.models.load_model(path, compile=False) for path in paths]
    mixed = ct.build_generator(None, hints=len(new[0].inputs) == 2)
    for layer in new[0].layers:
        if isinstance(layer, keras.layers.Embedding):
            mixed = add_color_queries(mixed, layer.input_dim)
    pairs = [*zip(new, parts, strict=True), (old, 1 - sum(parts))]
    mean = 0
    for generator, part in pairs:
        if part:  # with a part of 0, it may have other layers
            copy_weights(generator, mixed)
            mean = mean + part * np.array(mixed.get_weights(), object)
    mixed.set_weights(list(mean))
    return mixed


def colorize(colorizer, originals, strength=1.0):
    """Returns the photos colorized from gray: uint8 (H, W, 3)."""
    return [
        colorizer.colorize(ct.to_gray(photo), strength=strength) for photo in originals
    ]


def match(colorizer, originals, wanted):
    """Returns photos colorized to a mean colorfulness, and the strength for it."""
    sample = originals[:: max(1, len(originals) // 300)]
    low, high = 0.2, 3.0
    strength = 1.0
    # Bisect on a sample, then correct once on all photos.
    share = wanted / mean_colorfulness(colorize(colorizer, originals))
    aim = share * mean_colorfulness(colorize(colorizer, sample))
    for _ in range(7):
        strength = (low + high) / 2
        if mean_colorfulness(colorize(colorizer, sample, strength)) < aim:
            low = strength
        else:
            high = strength
    return colorize(colorizer, originals, strength), strength


def mean_colorfulness(photos):
    """Returns the mean colorfulness (Hasler and Süsstrunk) of uint8 (H, W, 3)."""
    return np.mean([float(colorfulness(np.float32(photo) / 255)) for photo in photos])


def report(name, results, originals, kinds, strength, even):
    """Prints the table of one generator."""
    rows, palettes = [], np.zeros((2, 44, 44))
    for result, original in zip(results, originals, strict=True):
        gray = np.dstack([ct.to_gray(original)] * 3)
        labs = [rgb2lab(photo) for photo in (result, original, gray)]
        rows.append(
            [
                np.square(np.float32(photo) - original).mean() / 255**2
                for photo in (result, gray)
            ]
            + [deltaE_ciede2000(labs[1], lab).mean() for lab in (labs[0], labs[2])]
        )
        for palette, lab in zip(palettes, labs[:2], strict=True):
            a, b = lab[..., 1].ravel(), lab[..., 2].ravel()
            palette += np.histogram2d(a, b, bins=(PALETTE_EDGES, PALETTE_EDGES))[0]
    rows, kinds = np.array(rows), np.array(kinds)
    color = mean_colorfulness(results) / mean_colorfulness(originals)
    distance = jensenshannon(*(palette.ravel() for palette in palettes), base=2)
    print(
        f"{name}: strength {strength:.2f}, colorfulness {color:.3f}, "
        f"palette {distance:.3f}"
    )
    print(f"  all, {len(rows)}: {gains(rows)}")
    by_kind = {kind: rows[kinds == kind] for kind in sorted(set(kinds))}
    for kind, own in by_kind.items():
        print(f"  {kind}, {len(own)}: {gains(own)}")
    if even:
        pairs = zip(results, originals, kinds, strict=True)
        spreads = [
            spread
            for result, original, kind in pairs
            if kind in even
            for spread in measure_segments(result, original)
        ]
        predicted, real = np.array(spreads).T
        patchy = (predicted > PATCHY) & (predicted > 2 * real)
        print(
            f"  even: {len(real)} segments, {100 * patchy.mean():.2f} % patchy, mean "
            f"spread {predicted.mean():.2f}, real {real.mean():.2f}"
        )
    print(flush=True)


def gains(rows):
    """Returns the gain in PSNR and the difference in CIEDE2000 to gray, as text."""
    error, gray_error, ciede2000, gray_ciede2000 = rows.mean(axis=0)
    psnr = 10 * np.log10(gray_error / error)
    return f"{psnr:+.2f} / {ciede2000 - gray_ciede2000:+.2f}"


def measure_segments(result, original):
    """Returns the spreads of predicted and real color in segments of one color.

    Felzenszwalb's method segments the real photo. A segment without its rim has at
    least 250 pixels, and a real spread of CIE (a, b) of at most 5. A spread is the root
    mean square distance from the mean.
    """
    scale = SIDE / max(original.shape[:2])
    size = tuple(round(scale * side) for side in original.shape[1::-1])
    original, result = (
        cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        for photo in (original, result)
    )
    segments = felzenszwalb(original, scale=SEGMENT_SCALE, min_size=SEGMENT_PIXELS)
    colors = [rgb2lab(photo)[..., 1:] for photo in (result, original)]
    spreads = []
    for index in range(segments.max() + 1):
        inside = cv2.erode(np.uint8(segments == index), np.ones((5, 5))) > 0
        if inside.sum() < SEGMENT_PIXELS:
            continue
        predicted, real = (np.sqrt(color[inside].var(axis=0).sum()) for color in colors)
        if real <= SAME_COLOR:
            spreads.append((predicted, real))
    return spreads


if __name__ == "__main__":
    main()
