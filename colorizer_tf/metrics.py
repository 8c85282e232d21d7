"""Measures accuracy, naturalness, detail, time and throughput of a colorizer."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from scipy.spatial.distance import jensenshannon
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import mean_squared_error, structural_similarity
from tqdm import tqdm

from colorizer_tf.color import colorfulness, rgb_to_luma
from colorizer_tf.hints import Hint
from colorizer_tf.photos import read_photo, shrink_photo, to_gray

if TYPE_CHECKING:
    from colorizer_tf.colorizer import Colorizer

MAX_SIDE = 512
PALETTE_EDGES = np.linspace(-110, 110, 45)


@dataclass
class Measures:
    """The measures of one colorizer over a set of photos.

    Attributes:
        psnr: dB, from the mean squared error over all photos; higher is better.
        ssim: structural similarity on RGB, the mean over the photos; at most 1.
        ciede2000: color difference, the mean over pixels and photos; 0 is best.
        colorfulness: mean colorfulness (see `color.colorfulness`) of the colored
            photos, divided by that of the originals; 1 is natural.
        palette: Jensen-Shannon distance, base 2, of the pooled CIE ab histograms,
            44x44 bins over ±110; 0 to 1, 0 is best.
        detail: mean absolute difference between the gray photo and the luma of the
            colored one, in levels of 255; 0 is best.
        seconds: median time for one photo; None for the unchanged gray photo.
        photos_per_second: the number of photos over the total time of coloring.

    Example:

    ```python
    measures = ct.evaluate(colorizer, split.test).colorized
    print(measures.psnr, measures.ciede2000)
    ```
    """

    psnr: float
    ssim: float
    ciede2000: float
    colorfulness: float
    palette: float
    detail: float
    seconds: float | None = None
    photos_per_second: float | None = None


@dataclass
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        colorized: the measures of the colorizer.
        gray: the measures of the unchanged gray photos.
        errors: mean squared error of each photo, for RGB in [0, 1]; (N,).
        photos: the paths, in the same order.
    """

    colorized: Measures
    gray: Measures
    errors: np.ndarray
    photos: list[str | os.PathLike]

    def __str__(self) -> str:
        return format_measures({"colorized": self.colorized, "gray": self.gray})

    def to_dict(self) -> dict:
        """Returns the measures, and the number of photos, for JSON."""
        return {
            "photos": len(self.photos),
            "colorized": asdict(self.colorized),
            "gray": asdict(self.gray),
        }


class _Colorizes(Protocol):
    def colorize(self, photo: np.ndarray, /) -> np.ndarray: ...


def evaluate(colorizer: _Colorizes, photos: Iterable[str | os.PathLike]) -> Evaluation:
    """Colors the gray versions of photos and compares them with the originals.

    It scales photos down to at most 512 pixels a side.

    Args:
        colorizer: an object with a method `colorize` like that of `Colorizer`.
        photos: paths of color photos.

    Returns:
        The measures. `print` shows them as a table.

    Raises:
        ValueError: there are no photos.
        PhotoError: a photo cannot be read.

    Example:

    ```python
    print(ct.evaluate(ct.Colorizer.pretrained(), ct.find_photos("photos")))
    ```
    """
    photos = list(photos)
    if not photos:
        raise ValueError("There are no photos to evaluate on.")
    of_colorized, of_gray, seconds = [], [], []
    with ThreadPoolExecutor(2) as pool:
        for path in tqdm(photos, "colorizing", unit="photo", mininterval=2):
            original = read_original(path)
            gray = to_gray(original)
            if not seconds:
                colorizer.colorize(gray)  # the first call builds the network's graph
            start = time.perf_counter()
            result = colorizer.colorize(gray)
            seconds.append(time.perf_counter() - start)
            unchanged = np.dstack([gray] * 3)
            rows = pool.map(_measure_photo, (result, unchanged), [original] * 2)
            for measured, row in zip((of_colorized, of_gray), rows, strict=True):
                measured.append(row)
    colorized, errors = _summarize(of_colorized)
    colorized.seconds = float(np.median(seconds))
    colorized.photos_per_second = len(photos) / sum(seconds)
    return Evaluation(colorized, _summarize(of_gray)[0], errors, photos)


def measure_hints(
    colorizer: "Colorizer",
    photos: Iterable[str | os.PathLike],
    counts: Sequence[int] = (0, 1, 2, 5, 10, 20, 50, 100),
    seed: int = 0,
) -> dict[int, float]:
    """Measures how hints of the real colors raise the PSNR.

    The hints of a smaller count are among those of a larger count.

    Args:
        colorizer: a `Colorizer` whose generator takes hints.
        photos: paths of color photos.
        counts: numbers of hints for each photo.
        seed: the seed of the random places.

    Returns:
        The PSNR over all photos, in dB, for each count.

    Raises:
        ValueError: there are no photos, or the generator takes no hints.
        PhotoError: a photo cannot be read.

    Example:

    ```python
    ct.measure_hints(colorizer, split.test, counts=(0, 10))  # {0: …, 10: …}
    ```
    """
    photos = list(photos)
    if not photos:
        raise ValueError("There are no photos to measure on.")
    errors = {count: [] for count in counts}
    for number, path in enumerate(tqdm(photos, "hints", unit="photo", mininterval=2)):
        original = read_original(path)
        gray = to_gray(original)
        hints = sample_hints(original, max(counts), [seed, number])
        for count in counts:
            result = colorizer.colorize(gray, hints=hints[:count])
            errors[count].append(mean_squared_error(original / 255, result / 255))
    return {count: float(-10 * np.log10(np.mean(mse))) for count, mse in errors.items()}


def sample_hints(
    photo: np.ndarray, count: int, seed: int | Sequence[int] = 0
) -> list[Hint]:
    """Returns hints of a photo's real colors at random places.

    A color is the mean over a cell, of which the shorter side has 32.

    Args:
        photo: uint8 RGB, (H, W, 3).
        count: the number of hints; there are at most as many as cells.
        seed: the seed of the places, as for `numpy.random.default_rng`.

    Example:

    ```python
    original = ct.read_original("photo.jpg")
    rgb = colorizer.colorize(original, hints=ct.sample_hints(original, 10))
    ```
    """
    # The network sees at least as many cells: 128 pixels of 4.
    height, width = photo.shape[:2]
    cell = max(1, min(height, width) / 32)
    size = max(1, round(width / cell)), max(1, round(height / cell))
    colors = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(seed)
    cells = rng.permutation(size[0] * size[1])[:count]
    return [
        Hint((cell % size[0] + 0.5) / size[0], (cell // size[0] + 0.5) / size[1], rgb)
        for cell, rgb in zip(cells, colors.reshape(-1, 3)[cells], strict=True)
    ]


def read_original(path: str | os.PathLike) -> np.ndarray:
    """Reads a photo as `evaluate` does.

    Returns:
        uint8 RGB, (H, W, 3), at most 512 pixels a side.

    Raises:
        PhotoError: the photo cannot be read.

    Example:

    ```python
    original = ct.read_original("photo.jpg")
    ```
    """
    return shrink_photo(read_photo(path), MAX_SIDE)


def format_measures(rows: Mapping[str, Measures]) -> str:
    """Formats measures as a table.

    Args:
        rows: the measures by the name of their row.

    Returns:
        The table, a line for each row.

    Example:

    ```python
    print(ct.format_measures({"mine": ct.evaluate(colorizer, photos).colorized}))
    ```
    """
    columns = {
        "PSNR dB": ("psnr", ".2f"),
        "SSIM": ("ssim", ".3f"),
        "CIEDE2000": ("ciede2000", ".2f"),
        "colorfulness": ("colorfulness", ".2f"),
        "palette": ("palette", ".2f"),
        "detail": ("detail", ".2f"),
        "s/photo": ("seconds", ".3f"),
        "photos/s": ("photos_per_second", ".1f"),
    }
    lines = [["", *columns]]
    for name, measures in rows.items():
        values = [getattr(measures, attribute) for attribute, _ in columns.values()]
        forms = [form for _, form in columns.values()]
        lines.append(
            [name]
            + [
                "-" if v is None else format(v, f)
                for v, f in zip(values, forms, strict=True)
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def _summarize(rows):
    mse, ssim, ciede2000, color, real_color, palette, real_palette, detail = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    measures = Measures(
        psnr=float(-10 * np.log10(mse.mean())) if mse.any() else float("inf"),
        ssim=float(ssim.mean()),
        ciede2000=float(ciede2000.mean()),
        colorfulness=float(color.mean() / real_color.mean()),
        palette=float(
            jensenshannon(palette.sum(0).ravel(), real_palette.sum(0).ravel(), base=2)
        ),
        detail=float(detail.mean()),
    )
    return measures, mse


def _measure_photo(result, original):
    result_lab, original_lab = rgb2lab(result), rgb2lab(original)
    window = min(7, *original.shape[:2])
    window -= (window + 1) % 2  # structural_similarity takes odd sizes alone
    real, colorized = np.float32(original) / 255, np.float32(result) / 255
    luma = np.asarray(rgb_to_luma(colorized))
    return (
        mean_squared_error(real, colorized),
        structural_similarity(
            original,
            result,
            channel_axis=-1,
            win_size=window,
            use_sample_covariance=window > 1,  # it divides by the pixels minus 1
        ),
        deltaE_ciede2000(original_lab, result_lab).mean(),
        float(colorfulness(colorized)),
        float(colorfulness(real)),
        _palette(result_lab),
        _palette(original_lab),
        np.abs(255 * luma[..., 0] - to_gray(original)).mean(),
    )


def _palette(lab):
    a, b = lab[..., 1].ravel(), lab[..., 2].ravel()
    return np.histogram2d(a, b, bins=(PALETTE_EDGES, PALETTE_EDGES))[0]
