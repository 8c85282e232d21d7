"""What else a color could have been: colors that are likely at a place.

A generator may have a second output, `likely`: for each place, at a quarter of the
size, how probable each of `CHROMA_BINS` is there (Zhang, Isola and Efros, "Colorful
image colorization", 2016, in which the bins are those of CIE ab).
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

# Bins lie on a grid of so many steps from gray to the end of each axis.
BIN_STEPS = 9
COMPRESSION = 1.5
# CIEDE2000: colors that are nearer to each other count as one.
DISTINCT = 10
# Less probable bins are no candidates, and save time.
MIN_PROBABILITY = 2e-3
# Variants differ at places that are so far apart, as a share of the longer side.
APART = 0.2


def compress_chroma(chroma):
    """Returns chroma on a scale from -1 to 1 that is finest at gray, as photos are.

    Its inverse is `sign(x) * abs(x) ** 1.5 / 2`.
    """
    xp = array_namespace(chroma)
    return xp.sign(chroma) * (2 * xp.abs(chroma) + 1e-9) ** (1 / COMPRESSION)


def _make_bins():
    """The (Cb, Cr) on the grid that RGB has for some luma, float32 (bins, 2)."""
    steps = np.arange(-BIN_STEPS, BIN_STEPS + 1) / BIN_STEPS
    axis = np.sign(steps) * np.abs(steps) ** COMPRESSION / 2
    bins = np.float32(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    luma = np.linspace(0, 1, 101, dtype=np.float32).reshape(-1, 1, 1)
    reached = rgb_to_chroma(join_luma_chroma(luma + 0 * bins[..., :1], bins + 0 * luma))
    return bins[(np.abs(reached - bins).max(axis=-1) < 0.02).any(axis=0)]


CHROMA_BINS = _make_bins()


def suggest_colors(probabilities, luma, automatic=None, count=6):
    """Returns distinct colors: the automatic one, then the most probable ones.

    Each color stands for all bins within a CIEDE2000 of 10 of it; the next one is
    chosen among what is left.

    Args:
        probabilities: of `CHROMA_BINS`, float32 (bins,).
        luma: of the place, in [0, 1].
        automatic: what the network predicts there, (Cb, Cr); None for no such color.
        count: of colors, at most.

    Returns:
        A list of (color "#rrggbb", probability).
    """
    candidates = np.flatnonzero(probabilities > MIN_PROBABILITY)
    chroma, left = CHROMA_BINS[candidates], probabilities[candidates].astype("f8")
    if automatic is not None:
        chroma = np.vstack([np.float32(automatic), chroma])
        left = np.insert(left, 0, 0)
    rgb = join_luma_chroma(np.float32([luma]), chroma)
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
    """Returns what `suggest_colors` takes of a cell: probabilities, luma, chroma.

    Args:
        likely, chroma, luma: as `choose_variants` takes them.
        row, column: of the cell.
    """
    around = likely[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    top, left = row * HINT_STRIDE, column * HINT_STRIDE
    cell = np.s_[top : top + HINT_STRIDE, left : left + HINT_STRIDE]
    local = luma[cell].mean()
    return around.mean(axis=(0, 1)), local, chroma[cell].mean(axis=(0, 1))


def choose_variants(likely, chroma, luma, count):
    """Returns hints that give a photo other likely colors.

    A place counts by how much its color is in doubt, over all that surrounds it.

    Args:
        likely: probabilities of `CHROMA_BINS`, float32 (h / 4, w / 4, bins).
        chroma: what the network predicts, float32 (h, w, 2).
        luma: of the photo, float32 (h, w).
        count: of variants, at most.

    Returns:
        For each variant a list of one `Hint`, the most telling first.
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
    """Returns (row, column, doubt) of places, far apart, the most doubtful first.

    The doubt is the standard deviation of the chroma, blurred: large things count.
    """
    mean = likely @ CHROMA_BINS
    square = likely @ np.square(CHROMA_BINS).sum(axis=-1)
    doubt = np.sqrt(np.maximum(square - np.square(mean).sum(axis=-1), 0))
    longer = max(doubt.shape)
    doubt = cv2.GaussianBlur(np.float32(doubt), None, longer / 16)
    rows, columns = np.indices(doubt.shape)
    places = []
    while len(places) < count and doubt.max() > 0:
        row, column = np.unravel_index(np.argmax(doubt), doubt.shape)
        places.append((int(row), int(column), float(doubt[row, column])))
        doubt[np.hypot(rows - row, columns - column) < APART * longer] = 0
    return places
