"""Hints: colors that a person sets for places of a photo.

The network sees a photo in cells of 4x4 pixels. A cell with a hint holds 1 and the
hint's chroma (Cb, Cr); all other cells hold 0, 0, 0. `correct_chroma` corrects what
the network still predicts differently from a hint.
"""

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import cv2
import numpy as np

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma, rgb_to_lab
from colorizer_tf.files import atomic_write

HINT_STRIDE = 4
MAX_HINTS = 1000
# Of a correction: the standard deviation of its fading, in cells; the exponent of
# inverse distance; the difference in luma that is as far as one cell.
REACH = 6
BLENDING = 3
LUMA_OF_A_STEP = 0.05
# Hints that change less than the first share of a place's chroma have no part in it.
# If they change more than the second share, the whole chroma is theirs.
OWN, THEIRS = 0.25, 0.75
LEAST_CHROMA = 0.02
# `_fit_to_luma` tries these factors of a hint's chroma.
_SCALES = np.linspace(0, 2, 65, dtype=np.float32)[:, None]


class HintError(ValueError):
    """A hint is invalid; the message says which, and why.

    Example:

    ```python
    try:
        hints = ct.read_hints("scan.hints.json")
    except ct.HintError as error:
        print(error)
    ```
    """


@dataclass(frozen=True)
class Hint:
    """The color of a place of a photo.

    Args:
        x, y: the place, in fractions of the upright photo's width and height, from
            the upper left corner. Both are in [0, 1]; (0.5, 0.5) is the middle.
        color: "#rrggbb", or three integers from 0 to 255, which become such a text.

    Raises:
        HintError: the place is outside the photo, or the color is invalid.

    Example:

    ```python
    hint = ct.Hint(x=0.41, y=0.33, color="#2e5d34")
    rgb = colorizer.colorize(photo, hints=[hint])
    ```
    """

    x: float
    y: float
    color: str

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            object.__setattr__(self, name, _fraction(name, getattr(self, name)))
        object.__setattr__(self, "color", _hex(self.color))

    @property
    def rgb(self) -> np.ndarray:
        """The color in RGB, float32 (3,), in [0, 1]."""
        levels = np.frombuffer(bytes.fromhex(self.color[1:]), np.uint8)
        return levels.astype(np.float32) / 255


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


def parse_hints(text: str | bytes, name: str = "the hints") -> list[Hint]:
    """Parses hints in JSON.

    Args:
        text: a list of objects with the keys "x", "y" and "color", as in `Hint`.
        name: the name of the text in error messages.

    Returns:
        The hints, in the order of the list.

    Raises:
        HintError: the text is not a JSON list, has more than 1,000 entries, or one
            of them is invalid. The message counts entries from 1.

    Example:

    ```python
    hints = ct.parse_hints('[{"x": 0.41, "y": 0.33, "color": "#2e5d34"}]')
    ```
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HintError(f"{name} cannot be read: it is no JSON: {error}") from error
    if not isinstance(entries, list):
        raise HintError(
            f'{name} cannot be read: it must be a list of {{"x", "y", "color"}}.'
        )
    if len(entries) > MAX_HINTS:
        raise HintError(
            f"{name} cannot be read: it has {len(entries):,} entries, and "
            f"{MAX_HINTS:,} hints are the most for a photo."
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


def format_hints(hints: Sequence[Hint]) -> str:
    """Formats hints as JSON for `parse_hints`, one hint a line.

    Example:

    ```python
    print(ct.format_hints([ct.Hint(0.41, 0.33, "#2e5d34")]))
    ```
    """
    lines = ",\n".join(f"  {json.dumps(asdict(hint))}" for hint in hints)
    return f"[\n{lines}\n]\n" if hints else "[]\n"


def read_hints(path: str | os.PathLike) -> list[Hint]:
    """Reads a JSON file of hints; see `parse_hints`.

    Raises:
        HintError: the file cannot be read, or is invalid. The message names the file
            and the entry.

    Example:

    ```python
    hints = ct.read_hints("scan.hints.json")
    colorizer.colorize_file("scan.jpg", "colors.jpg", hints=hints)
    ```
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise HintError(f"{path} cannot be read: {reason}") from error
    return parse_hints(text, str(path))


def write_hints(path: str | os.PathLike, hints: Sequence[Hint]) -> None:
    """Writes hints to a JSON file, completely or not at all.

    Example:

    ```python
    ct.write_hints("scan.hints.json", [ct.Hint(0.41, 0.33, "#2e5d34")])
    ```
    """
    with atomic_write(path) as temporary:
        temporary.write_text(format_hints(hints), "utf-8")


def encode_hints(hints, luma):
    """Returns hints as the network's input for a photo.

    Of several hints in a cell, the last one counts. Each keeps its hue and its
    perceived chroma (CIE) at the luma of its cell, as far as the gamut allows.

    Args:
        hints: a list of `Hint`.
        luma: the photo, float32 (h, w), in [0, 1].

    Returns:
        1 and (Cb, Cr) for a cell with a hint, else zeros; float32
        (ceil(h / 4), ceil(w / 4), 3).
    """
    height, width = luma.shape
    cells = np.zeros((-(-height // HINT_STRIDE), -(-width // HINT_STRIDE), 3), "f4")
    for hint in hints:
        row, column = place_in_grid(hint, luma)
        top, left = row * HINT_STRIDE, column * HINT_STRIDE
        local = luma[top : top + HINT_STRIDE, left : left + HINT_STRIDE].mean()
        cells[row, column] = 1, *_fit_to_luma(hint.rgb, local)
    return cells


def place_in_grid(hint, luma):
    """Returns the row and column of a hint's cell in a photo, (h, w)."""
    height, width = luma.shape
    row = min(int(hint.y * height), height - 1) // HINT_STRIDE
    return row, min(int(hint.x * width), width - 1) // HINT_STRIDE


def _fit_to_luma(rgb, luma):
    """Returns the (Cb, Cr) of a color's hue and perceived chroma at a luma."""
    tried = join_luma_chroma(np.full_like(_SCALES, luma), _SCALES * rgb_to_chroma(rgb))
    lab = rgb_to_lab(np.vstack([tried, rgb]))
    *reached, wanted = np.hypot(lab[:, 1], lab[:, 2])
    # At the edge of the gamut, a larger scale changes nothing.
    scale = np.interp(wanted, np.maximum.accumulate(reached), _SCALES[:, 0])
    fitted = join_luma_chroma(
        np.array([luma], np.float32), np.float32(scale) * rgb_to_chroma(rgb)
    )
    return rgb_to_chroma(fitted)


def correct_chroma(chroma, cells, luma):
    """Corrects predicted chroma so that each hint has its color.

    The errors at the hints are blended by inverse distance, after Yatziv and Sapiro,
    "Fast image and video colorization using chrominance blending" (2006). Differences
    in luma make the distance longer. The correction fades with the distance to the
    nearest hint.

    Args:
        chroma: the predicted (Cb, Cr), float32 (h, w, 2).
        cells: the hints, as from `encode_hints`.
        luma: the photo, float32 (h, w), in [0, 1].

    Returns:
        The corrected chroma, float32 (h, w, 2), and the nearness of each pixel to a
        hint, float32 (h, w): 1 at a hint, 0 far away.
    """
    from scipy.sparse.csgraph import dijkstra  # takes half a second to import

    height, width = cells.shape[:2]
    to_cells = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
    hinted = np.flatnonzero(cells[..., 0])
    missed = (cells[..., 1:] - to_cells(chroma)).reshape(-1, 2)[hinted]
    distance = dijkstra(
        _link_neighbors(to_cells(luma)),
        directed=False,
        indices=hinted,
        limit=4 * REACH,
    )
    weight = (distance + 1e-3) ** -BLENDING
    blend = weight.T @ missed / (weight.sum(axis=0)[:, None] + 1e-12)
    fade = np.exp(-((distance.min(axis=0) / REACH) ** 2) / 2)
    correction = np.float32(blend * fade[:, None]).reshape(height, width, 2)
    near = np.float32(fade).reshape(height, width)
    size = chroma.shape[1::-1]
    return chroma + cv2.resize(correction, size), cv2.resize(near, size)


def scale_chroma(chroma, near, own, strength):
    """Scales the network's own colors, but not those of hints.

    Args:
        chroma, near: as from `correct_chroma`.
        own: the (Cb, Cr) that the network predicts without hints, float32 (h, w, 2).
        strength: the factor of the network's own colors.

    Returns:
        (Cb, Cr), float32 (h, w, 2).
    """

    def length(chroma):
        return np.linalg.norm(chroma, axis=-1)

    longest = np.maximum(np.maximum(length(chroma), length(own)), LEAST_CHROMA)
    changed = (length(chroma - own) / longest - OWN) / (THEIRS - OWN)
    share = np.maximum(near, np.clip(changed, 0, 1))[..., None]
    return (share + strength * (1 - share)) * chroma


def _link_neighbors(luma):
    """Returns the distances between neighboring cells as a sparse matrix."""
    from scipy.sparse import csr_array

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
