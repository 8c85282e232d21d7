"""Measures the loss when chroma is predicted at a small size and upsampled.

The first table supports the choice of `working_size` and of the upsampling. It scales
the real chroma of color photos to a quarter of the working size, as the network
predicts it. It upsamples it in five ways and joins it with the real luma. It prints the
mean over the photos of the PSNR, in dB: over all pixels, and over the twentieth where
chroma changes most. These are the edges, where colors bleed. The second table gives the
error of a generator at each working size; by default, the package's generator.

    python benchmarks/chroma_upsampling.py --weights runs/sample/generator.keras
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import skimage.data

import colorizer_tf as ct
from colorizer_tf.color import BLUE, CB_SCALE, CR_SCALE, GREEN, RED, colorfulness
from colorizer_tf.painting import CHROMA_SUBSAMPLING, fit_chroma, paint

EMBEDDED = ("astronaut.png", "coffee.png", "rocket.jpg", "chelsea.png", "retina.jpg")
EMBEDDED += ("motorcycle_left.png",)


def split(rgb):
    rgb = np.float32(rgb) / 255
    luma = rgb @ np.float32([RED, GREEN, BLUE])
    cb, cr = (rgb[..., 2] - luma) / CB_SCALE, (rgb[..., 0] - luma) / CR_SCALE
    return luma, np.dstack([cb, cr])


def resize(planes, height, width, interpolation):
    return cv2.resize(planes, (width, height), interpolation=interpolation)


def interpolate(method):
    def bring_up(luma, chroma, shape):
        chroma = resize(chroma, *shape, method)
        return np.zeros_like(chroma), chroma

    return bring_up


def guided_filter(luma, chroma, shape, radius=8, epsilon=1e-3):
    """The filter of He, Sun and Tang as published, on the unscaled luma."""

    def mean(planes):
        return cv2.blur(planes, (2 * radius + 1, 2 * radius + 1))

    guide = np.dstack([luma, luma])
    covariance = mean(guide * chroma) - mean(guide) * mean(chroma)
    slope = covariance / (mean(guide * guide) - mean(guide) ** 2 + epsilon)
    return mean(slope), mean(mean(chroma) - slope * mean(guide))


METHODS = {
    "nearest": interpolate(cv2.INTER_NEAREST),
    "bilinear": interpolate(cv2.INTER_LINEAR),
    "cubic": interpolate(cv2.INTER_CUBIC),
    "guided filter": guided_filter,
    "fit_chroma": lambda luma, chroma, shape: fit_chroma(luma, chroma),
}


def psnr(result, photo, mask=None):
    error = np.square(np.float32(result) - photo).mean(axis=-1)
    return -10 * np.log10((error if mask is None else error[mask]).mean() / 255**2)


def steepest(chroma, share=0.05):
    """Returns a mask of the pixels where chroma changes most, bool (H, W)."""
    slopes = [cv2.Sobel(chroma, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1))]
    slope = np.square(np.dstack(slopes)).sum(axis=-1)
    return slope > np.quantile(slope, 1 - share)


def bring_down_and_up(photo, size, bring_up):
    """Returns a photo whose chroma was scaled to a quarter of the working size."""
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    luma, chroma = split(photo)
    scale = min(1, size / min(luma.shape))
    height, width = (round(scale * side) for side in luma.shape)
    luma = resize(luma, height, width, cv2.INTER_AREA)
    chroma = resize(chroma, height, width, cv2.INTER_AREA)
    small = (max(1, height // CHROMA_SUBSAMPLING), max(1, width // CHROMA_SUBSAMPLING))
    chroma = resize(chroma, *small, cv2.INTER_AREA)
    if bring_up in (guided_filter, METHODS["fit_chroma"]):
        chroma = resize(chroma, height, width, cv2.INTER_LINEAR)
    return paint(gray, *bring_up(luma, chroma, gray.shape))


def print_methods(photos, sizes):
    print("PSNR in dB, over the photo and at its color edges")
    print("working_size".ljust(14), *(name.rjust(15) for name in METHODS))
    edges = [steepest(split(photo)[1]) for photo in photos]
    for size in sizes:
        cells = []
        for method in METHODS.values():
            results = [bring_down_and_up(photo, size, method) for photo in photos]
            whole = np.mean([psnr(*pair) for pair in zip(results, photos, strict=True)])
            at_edges = np.mean(
                [psnr(*three) for three in zip(results, photos, edges, strict=True)]
            )
            cells.append(f"{whole:.2f} / {at_edges:.2f}".rjust(15))
        print(str(size).ljust(14), *cells, flush=True)


def print_generator(weights, photos, sizes):
    print("\nthe generator: PSNR in dB, colorfulness over that of the real photos")
    colorizer = ct.Colorizer.load(weights)
    real = np.mean([float(colorfulness(np.float32(p) / 255)) for p in photos])
    for colorizer.working_size in sizes:
        results = [
            colorizer.colorize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))
            for photo in photos
        ]
        whole = np.mean([psnr(*pair) for pair in zip(results, photos, strict=True)])
        color = np.mean([float(colorfulness(np.float32(r) / 255)) for r in results])
        size = str(colorizer.working_size).ljust(14)
        print(f"{size} {whole:15.2f} {color / real:15.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="", help="a folder of large color photos")
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[96, 128, 160, 192, 256, 384]
    )
    args = parser.parse_args()

    embedded = [Path(skimage.data.__file__).parent / name for name in EMBEDDED]
    paths = ct.find_photos(args.photos) if args.photos else embedded
    photos = [ct.read_photo(path) for path in paths]
    print(f"{len(photos)} photos: {', '.join(path.stem for path in paths)}")
    print_methods(photos, args.sizes)
    print_generator(args.weights, photos, args.sizes)


if __name__ == "__main__":
    main()
