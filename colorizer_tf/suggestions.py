"""Suggests likely colors for a place, and variants of a whole photo.

A generator may have a second output, `likely`: the probability of each of
`CHROMA_BINS` in each cell of 4x4 pixels. The method is that of Zhang, Isola and
Efros, "Colorful image colorization" (2016), whose bins are in CIE ab.
"""

import cv2
import numpy as np

from colorizer_tf.color import (
    array_namespace,
    ciede2000,
    join_luma_chroma,
    rgb_to_chroma,
    rgb_to_lab,
)
from colorizer_tf.hints import HINT_STRIDE, Hint

# The grid of bins has this many steps from gray to the end of each axis.
BIN_STEPS = 9
COMPRESSION = 1.5
# Colors of a smaller CIEDE2000 count as one.
DISTINCT = 10
# To save time, less probable bins are no candidates.
MIN_PROBABILITY = 2e-3
# The least distance of places where variants differ, as a share of the longer side.
APART = 0.2


def compress_chroma(chroma):
    """Maps chroma to a scale from -1 to 1 that is finest at gray.

    Most colors of photos are near gray. The inverse is `sign(x) * abs(x) ** 1.5 / 2`.
    """
    xp = array_namespace(chroma)
    return xp.sign(chroma) * (2 * xp.abs(chroma) + 1e-9) ** (1 / COMPRESSION)


def _make_bins():
    """Returns the (Cb, Cr) of the grid that fit in RGB for some luma, (bins, 2)."""
    steps = np.arange(-BIN_STEPS, BIN_STEPS + 1) / BIN_STEPS
    axis = np.sign(steps) * np.abs(steps) ** COMPRESSION / 2
    bins = np.stack(np.meshgrid(axis, axis), axis=-1, dtype=np.float32).reshape(-1, 2)
    luma = np.linspace(0, 1, 101, dtype=np.float32).reshape(-1, 1, 1)
    reached = rgb_to_chroma(join_luma_chroma(luma + 0 * bins[..., :1], bins + 0 * luma))
    return bins[(np.abs(reached - bins).max(axis=-1) < 0.02).any(axis=0)]


CHROMA_BINS = _make_bins()


def suggest_colors(
    probabilities: np.ndarray,
    luma: float,
    automatic: np.ndarray | None = None,
    count: int = 6,
) -> list[tuple[str, float]]:
    """Returns distinct colors: the predicted one, then the most probable ones.

    Each color takes all remaining bins within a CIEDE2000 of 10, and has the sum of
    their probabilities.

    Args:
        probabilities: the probabilities of `CHROMA_BINS`, float32 (bins,).
        luma: the luma of the place, in [0, 1].
        automatic: the predicted (Cb, Cr), which comes first; or None.
        count: the largest number of colors.

    Returns:
        A list of (color "#rrggbb", probability).
    """
    candidates = np.flatnonzero(probabilities > MIN_PROBABILITY)
    chroma, left = CHROMA_BINS[candidates], probabilities[candidates].astype("f8")
    if automatic is not None:
        chroma = np.vstack([np.float32(automatic), chroma])
        left = np.insert(left, 0, 0)
    rgb = join_luma_chroma(np.array([luma], np.float32), chroma)
    lab = rgb_to_lab(rgb)
    near = ciede2000(lab[:, None], lab[None]) < DISTINCT
    free = np.ones(len(left), bool)
    suggestions = []
    while free.any() and len(suggestions) < count:
        best = np.argmax(np.where(free, near @ left, -1))
        if automatic is not None and not suggestions:
            best = 0
        color = "#" + bytes(np.uint8(np.rint(255 * rgb[best])).tolist()).hex()
        suggestions.append((color, float(left[near[best]].sum())))
        left[near[best]] = 0
        free &= ~near[best]
    return suggestions


def look_around(likely, chroma, luma, row, column):
    """Returns the probabilities, luma and chroma of a cell for `suggest_colors`.

    The probabilities are the mean over 3x3 cells.

    Args:
        likely, chroma, luma: as for `choose_variants`.
        row, column: the cell.
    """
    around = likely[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    top, left = row * HINT_STRIDE, column * HINT_STRIDE
    cell = np.s_[top : top + HINT_STRIDE, left : left + HINT_STRIDE]
    local = luma[cell].mean()
    return around.mean(axis=(0, 1)), local, chroma[cell].mean(axis=(0, 1))


def choose_variants(
    likely: np.ndarray, chroma: np.ndarray, luma: np.ndarray, count: int
) -> list[list[Hint]]:
    """Returns hints that give a photo other likely colors.

    Variants are ranked by the doubt at their place times the probability of their
    color; see `_find_doubts`.

    Args:
        likely: the probabilities of `CHROMA_BINS`, float32 (h / 4, w / 4, bins).
        chroma: the predicted (Cb, Cr), float32 (h, w, 2).
        luma: the photo, float32 (h, w), in [0, 1].
        count: the largest number of variants.

    Returns:
        For each variant a list of one `Hint`, the highest rank first.
    """
    found = []
    for row, column, doubt in _find_doubts(likely, count):
        x = (column * HINT_STRIDE + 0.5) / luma.shape[1]
        y = (row * HINT_STRIDE + 0.5) / luma.shape[0]
        colors = suggest_colors(*look_around(likely, chroma, luma, row, column))
        found += [(share * doubt, Hint(x, y, color)) for color, share in colors[1:]]
    found.sort(key=lambda each: -each[0])
    return [[hint] for _, hint in found[:count]]


def _find_doubts(likely, count):
    """Returns (row, column, doubt) of places that are far apart, by falling doubt."""
    mean = likely @ CHROMA_BINS
    square = likely @ np.square(CHROMA_BINS).sum(axis=-1)
    doubt = np.sqrt(np.maximum(square - np.square(mean).sum(axis=-1), 0))
    longer = max(doubt.shape)
    # The doubt is the standard deviation of chroma; blurred, large objects count more.
    doubt = cv2.GaussianBlur(doubt.astype(np.float32), (0, 0), longer / 16)
    rows, columns = np.indices(doubt.shape)
    places = []
    while len(places) < count and doubt.max() > 0:
        row, column = np.unravel_index(np.argmax(doubt), doubt.shape)
        places.append((int(row), int(column), float(doubt[row, column])))
        doubt[np.hypot(rows - row, columns - column) < APART * longer] = 0
    return places
