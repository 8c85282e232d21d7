"""Colours that a person sets: what they are, and how the network is told.

The network sees a photo in cells of 4x4 pixels. In a cell with a hint it is given
1 and the hint's chroma (Cb, Cr), in all others 0, 0, 0. What it still predicts
otherwise than a hint says is corrected from there along the luma's edges.
"""

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from functools import partial

import cv2
import numpy as np
import tensorflow as tf
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma
from colorizer_tf.photos import whole_file

HINT_STRIDE = 4
MOST_HINTS = 1000
MOST_TRAINING_HINTS = 100
HINTED_SHARE = 0.6
# Of a correction: its distances are in cells; this much luma is as far as one.
REACH = 6
BLENDING = 3
LUMA_OF_A_STEP = 0.05
# A prediction that hints change by less than the first share of its chroma is the
# network's own; by more than the second, it is theirs.
OWN, THEIRS = 0.25, 0.75
LEAST_CHROMA = 0.02
_SCALES = np.linspace(0, 2, 65, dtype=np.float32)[:, None]


class HintError(ValueError):
    """A hint that is none; the message says which, and why."""


@dataclass(frozen=True)
class Hint:
    """A colour that a place of a photo has.

    Args:
        x, y: the place, as fractions of the upright photo's width and height,
            from its upper left corner: (0.5, 0.5) is the middle.
        color: "#rrggbb", or three levels in 0..255, which become such a text.

    Raises:
        HintError: the place is outside the photo, or there is no such colour.
    """

    x: float
    y: float
    color: str

    def __post_init__(self):
        for name in ("x", "y"):
            object.__setattr__(self, name, _fraction(name, getattr(self, name)))
        object.__setattr__(self, "color", _hex(self.color))

    @property
    def rgb(self):
        """The colour as float32 (3,), in [0, 1]."""
        return np.float32(list(bytes.fromhex(self.color[1:]))) / 255


def _fraction(name, value):
    try:
        fraction = float(value)
    except (TypeError, ValueError, OverflowError):
        fraction = np.nan
    if isinstance(value, bool | str) or not 0 <= fraction <= 1:
        raise HintError(
            f"{name} must be a fraction of the photo, from 0 to 1. "
            f"Received: {value!r:.80}"
        )
    return fraction


def _hex(color):
    if isinstance(color, str):
        if re.fullmatch("#[0-9a-fA-F]{6}", color):
            return color.lower()
    else:
        with contextlib.suppress(ValueError):  # lists of unlike lengths
            levels = np.asarray(color)
            if levels.shape == (3,) and levels.dtype.kind in "iu":
                if 0 <= levels.min() <= levels.max() <= 255:
                    return "#" + bytes(levels.tolist()).hex()
    raise HintError(
        'color must be "#rrggbb", or three whole levels from 0 to 255. '
        f"Received: {color!r:.80}"
    )


def parse_hints(text, name="the hints"):
    """Returns a list of `Hint` from JSON: `[{"x": 0.4, "y": 0.3, "color": "#2e5d34"}]`.

    Args:
        text: JSON.
        name: what errors call it, such as the file.

    Raises:
        HintError: it is no JSON, no list, has more than 1,000 entries, or one of
            them is no hint; the message names the entry, the first being 1.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HintError(f"{name} cannot be read: it is no JSON: {error}") from error
    if not isinstance(entries, list):
        raise HintError(
            f'{name} cannot be read: it must be a list of {{"x", "y", "color"}}.'
        )
    if len(entries) > MOST_HINTS:
        raise HintError(
            f"{name} cannot be read: it has {len(entries):,} entries, and "
            f"{MOST_HINTS:,} hints are the most for a photo."
        )
    hints = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or entry.keys() != {"x", "y", "color"}:
            raise HintError(
                f'{name}, entry {number}: it must have "x", "y" and "color", and '
                f"nothing else. Received: {json.dumps(entry)[:80]}"
            )
        try:
            hints.append(Hint(**entry))
        except HintError as error:
            raise HintError(f"{name}, entry {number}: {error}") from error
    return hints


def format_hints(hints):
    """Returns hints as JSON, a line each; `parse_hints` reads it."""
    lines = ",\n".join(f"  {json.dumps(asdict(hint))}" for hint in hints)
    return f"[\n{lines}\n]\n" if hints else "[]\n"


def read_hints(path):
    """Reads a JSON file of hints; see `parse_hints`.

    Raises:
        HintError: the file cannot be read; the message names it, and the entry.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise HintError(f"{path} cannot be read: {reason}") from error
    return parse_hints(text, str(path))


def write_hints(path, hints):
    """Writes hints to a JSON file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(format_hints(hints), "utf-8")


def encode_hints(hints, luma):
    """Returns what the network is told of hints for a photo that it sees.

    Of several hints in a cell, the last counts. A colour looks as vivid as it does by
    itself, in light and in shade; or as the photo's luma leaves room for.

    Args:
        hints: a list of `Hint`.
        luma: the photo, float32 (h, w), in [0, 1].

    Returns:
        float32 (ceil(h / 4), ceil(w / 4), 3).
    """
    height, width = luma.shape
    cells = np.zeros((-(-height // HINT_STRIDE), -(-width // HINT_STRIDE), 3), "f4")
    for hint in hints:
        row = min(int(hint.y * height), height - 1)
        column = min(int(hint.x * width), width - 1)
        row, column = row // HINT_STRIDE, column // HINT_STRIDE
        top, left = row * HINT_STRIDE, column * HINT_STRIDE
        local = luma[top : top + HINT_STRIDE, left : left + HINT_STRIDE].mean()
        cells[row, column] = 1, *_fit_to_luma(hint.rgb, local)
    return cells


def _fit_to_luma(rgb, luma):
    """The chroma that has the perceived chroma (CIE) of a colour at another luma."""
    tried = np.asarray(
        join_luma_chroma(
            np.full_like(_SCALES, luma), _SCALES * np.asarray(rgb_to_chroma(rgb))
        )
    )
    rgbs = np.concatenate([tried, rgb[None]])[None]
    perceived = np.hypot(*cv2.split(cv2.cvtColor(rgbs, cv2.COLOR_RGB2LAB))[1:])[0]
    # Where there is no room for more, it stays as it is.
    reached = np.maximum.accumulate(perceived[:-1])
    scale = np.interp(perceived[-1], reached, _SCALES[:, 0])
    fitted = join_luma_chroma(
        np.float32([luma]), np.float32(scale) * np.asarray(rgb_to_chroma(rgb))
    )
    return np.asarray(rgb_to_chroma(np.asarray(fitted)))


def correct_chroma(chroma, cells, luma):
    """Returns predicted chroma, corrected so that each hint has its colour.

    What a prediction misses at the hints is blended by the distance to them along
    the photo, in which a difference in luma is a detour (Yatziv and Sapiro, "Fast
    image and video colorization using chrominance blending", 2006), and fades with
    the distance to the nearest.

    Args:
        chroma: (Cb, Cr), float32 (h, w, 2), as the network predicts it.
        cells: the hints, as `encode_hints` returns them.
        luma: the photo, float32 (h, w), in [0, 1].

    Returns:
        Chroma, float32 (h, w, 2), and how near each pixel is to a hint, (h, w): 1 at
        one, 0 far away.
    """
    height, width = cells.shape[:2]
    to_cells = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
    hinted = np.flatnonzero(cells[..., 0])
    missed = (cells[..., 1:] - to_cells(chroma)).reshape(-1, 2)[hinted]
    distance = dijkstra(
        _link_neighbours(to_cells(luma)),
        directed=False,
        indices=hinted,
        limit=4 * REACH,
    )
    weight = (distance + 1e-3) ** -BLENDING
    blend = weight.T @ missed / (weight.sum(axis=0)[:, None] + 1e-12)
    fade = np.exp(-((distance.min(axis=0) / REACH) ** 2) / 2)
    correction = np.float32(blend * fade[:, None]).reshape(height, width, 2)
    fade = np.float32(fade).reshape(height, width)
    size = chroma.shape[1::-1]
    return chroma + cv2.resize(correction, size), cv2.resize(fade, size)


def share_of_hints(chroma, near, own):
    """Returns how much of a prediction is due to its hints, (h, w), from 0 to 1.

    Args:
        chroma, near: as `correct_chroma` returns them.
        own: what the network predicts without hints, float32 (h, w, 2).
    """

    def size(planes):
        return np.linalg.norm(planes, axis=-1)

    most = np.maximum(np.maximum(size(chroma), size(own)), LEAST_CHROMA)
    changed = (size(chroma - own) / most - OWN) / (THEIRS - OWN)
    return np.maximum(near, np.clip(changed, 0, 1))


def scale_chroma(chroma, strength):
    """Scales the network's own colours; those of hints keep theirs.

    Args:
        chroma: (Cb, Cr), (h, w, 2); with hints, their share is a third plane.
        strength: at 0, hints alone colour the photo.

    Returns:
        (Cb, Cr), (h, w, 2).
    """
    if chroma.shape[-1] == 2:
        return strength * chroma
    return chroma[..., :2] * (strength + (1 - strength) * chroma[..., 2:])


def _link_neighbours(luma):
    """The distances between neighbouring cells, as a sparse matrix."""
    index = np.arange(luma.size).reshape(luma.shape)
    rows, columns, distances = [], [], []
    for one, other, steps in (
        (np.s_[:, :-1], np.s_[:, 1:], 1),
        (np.s_[:-1], np.s_[1:], 1),
        (np.s_[:-1, :-1], np.s_[1:, 1:], 2**0.5),
        (np.s_[:-1, 1:], np.s_[1:, :-1], 2**0.5),
    ):
        rows.append(index[one].ravel())
        columns.append(index[other].ravel())
        detour = np.abs(luma[one] - luma[other]).ravel() / LUMA_OF_A_STEP
        distances.append(steps + detour)
    places = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(distances), places), (luma.size, luma.size))


def random_mask(cells, rng):
    """Which cells of a training photo have a hint.

    Two fifths of the photos have none, the others 1 to 100, most of them few.

    Returns:
        float32 (cells, cells, 1), 1 or 0.
    """
    mask = np.zeros(cells * cells, np.float32)
    if rng.random() < HINTED_SHARE:
        count = int(np.exp(rng.uniform(0, np.log(MOST_TRAINING_HINTS + 1))))
        mask[rng.choice(mask.size, min(count, mask.size), replace=False)] = 1
    return mask.reshape(cells, cells, 1)


def reveal_chroma(colour, mask):
    """Hints of the real colours: 1 and a cell's mean chroma where the mask is 1.

    Args:
        colour: RGB in [0, 1], (B, H, W, 3).
        mask: 1 or 0, (B, H / 4, W / 4, 1).

    Returns:
        (B, H / 4, W / 4, 3).
    """
    chroma = tf.nn.avg_pool2d(rgb_to_chroma(colour), HINT_STRIDE, HINT_STRIDE, "VALID")
    return tf.concat([mask, mask * chroma], axis=-1)
