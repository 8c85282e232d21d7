"""Converts between RGB, luma and chroma, and measures color.

Luma and chroma are those of BT.601 in full range, as in JPEG and OpenCV (ITU-T
T.871). Luma Y is in [0, 1]. Chroma is the pair (Cb, Cr), each in [-0.5, 0.5], with 0
for gray. The functions up to `colorfulness` take NumPy arrays, and tensors, also
inside a Keras graph.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

RED, GREEN, BLUE = 0.299, 0.587, 0.114
CB_SCALE = 2 * (1 - BLUE)
CR_SCALE = 2 * (1 - RED)
BT709, BT601_PAL, BT601 = 1, 5, 6
# Code of a matrix: weights of red and blue in luma (ITU-T H.273, table 4).
LUMA_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    BT601_PAL: (RED, BLUE),
    BT601: (RED, BLUE),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class Levels:
    """The integer encoding of luma and chroma; JPEG's by default.

    Attributes:
        matrix: the code of luma's weights; see `LUMA_WEIGHTS`.
        full_range: whether levels have the full range, or the limited range of ITU-R
            BT.709: 16 to 235 for 8 bits of luma.
        bits: bits of a level.
    """

    matrix: int = BT601
    full_range: bool = True
    bits: int = 8

    @property
    def weights(self):
        """The weights of red, green and blue in luma; their sum is 1."""
        red, blue = LUMA_WEIGHTS[self.matrix]
        return red, 1 - red - blue, blue

    @property
    def black(self):
        """The luma level of black."""
        return 0 if self.full_range else 16 << (self.bits - 8)

    @property
    def luma_span(self):
        """The difference of the luma levels of white and black."""
        return 2**self.bits - 1 if self.full_range else 219 << (self.bits - 8)

    @property
    def chroma_span(self):
        """The difference of the highest and the lowest chroma level."""
        return 2**self.bits - 1 if self.full_range else 224 << (self.bits - 8)

    @property
    def neutral(self):
        """The chroma level of gray."""
        return 1 << (self.bits - 1)


JPEG = Levels()


def array_namespace(*arrays):
    """Returns the module that computes with arrays: NumPy, or `keras.ops`."""
    if all(isinstance(array, np.ndarray | np.generic) for array in arrays):
        return np
    from keras import ops

    return ops


def rgb_to_luma(rgb):
    """Returns the luma, (..., 1), of RGB, (..., 3), both in [0, 1]."""
    return RED * rgb[..., :1] + GREEN * rgb[..., 1:2] + BLUE * rgb[..., 2:3]


def rgb_to_chroma(rgb):
    """Returns the chroma (Cb, Cr), (..., 2), of RGB in [0, 1], (..., 3)."""
    xp, luma = array_namespace(rgb), rgb_to_luma(rgb)
    return xp.concatenate(
        [(rgb[..., 2:3] - luma) / CB_SCALE, (rgb[..., :1] - luma) / CR_SCALE],
        axis=-1,
    )


def limit_chroma(luma, chroma):
    """Returns chroma that fits into RGB at this luma.

    If RGB would leave [0, 1], the largest factor that keeps all three channels
    inside reduces chroma. Hue and luma stay the same.

    Args:
        luma: (..., 1), in [0, 1].
        chroma: (Cb, Cr), (..., 2); any finite values.

    Returns:
        (Cb, Cr), (..., 2).
    """
    xp = array_namespace(luma, chroma)
    offsets = _rgb_offsets(chroma)
    # The weighted sum of the offsets is 0, so highest >= 0 >= lowest. Each
    # denominator is at least the distance to white or black, so each factor is at
    # most 1. No denominator is 0, so the gradient is finite at zero chroma and at
    # luma 0 and 1.
    highest, lowest = (functools.reduce(f, offsets) for f in (xp.maximum, xp.minimum))
    above, below = xp.maximum(1 - luma, 1e-6), xp.maximum(luma, 1e-6)
    factor = xp.minimum(
        (1 - luma) / xp.maximum(highest, above), luma / xp.maximum(-lowest, below)
    )
    return factor * chroma


def join_luma_chroma(luma, chroma):
    """Returns the RGB photo with exactly this luma.

    Args:
        luma, chroma: as for `limit_chroma`, which reduces chroma where it must.

    Returns:
        RGB in [0, 1], (..., 3).
    """
    return add_chroma(luma, limit_chroma(luma, chroma))


def add_chroma(luma, chroma):
    """Returns RGB in [0, 1], (..., 3), of luma, and of chroma by `limit_chroma`."""
    xp = array_namespace(luma, chroma)
    channels = [luma + offset for offset in _rgb_offsets(chroma)]
    # Only rounding errors are outside here.
    return xp.clip(xp.concatenate(channels, axis=-1), 0, 1)


def _rgb_offsets(chroma):
    """Returns what chroma adds to luma in red, green and blue, each (..., 1)."""
    # `split`, because the gradient of a slice is slow.
    blue, red = array_namespace(chroma).split(chroma, 2, axis=-1)
    blue, red = CB_SCALE * blue, CR_SCALE * red
    return red, -(RED * red + BLUE * blue) / GREEN, blue


def colorfulness(rgb):
    """Returns the colorfulness of RGB photos, (..., H, W, 3) in [0, 1].

    The measure M3 of Hasler and Süsstrunk, "Measuring colorfulness in natural
    images" (2003), for levels of 0 to 255: 0 is gray, 15 slightly, 45 quite and 82
    highly colorful.

    Returns:
        (...).
    """
    xp = array_namespace(rgb)
    rgb = 255 * rgb
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    opponents = xp.stack([red - green, (red + green) / 2 - blue], axis=-1)
    deviation = xp.std(opponents, axis=(-3, -2))
    mean = xp.mean(opponents, axis=(-3, -2))
    return xp.sqrt(xp.sum(deviation**2, axis=-1)) + 0.3 * xp.sqrt(
        xp.sum(mean**2, axis=-1)
    )


def rgb_to_lab(rgb):
    """Returns CIE Lab (D65), float32 (..., 3), of RGB in [0, 1], (..., 3)."""
    rgb = np.float32(rgb)
    flat = np.ascontiguousarray(rgb.reshape(1, -1, 3))
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(rgb.shape)


def ciede2000(lab, other):
    """Returns the color difference CIEDE2000, with kL = kC = kH = 1.

    Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula" (2005).

    Args:
        lab, other: CIE Lab, (..., 3), which broadcast.

    Returns:
        (...); a difference of 1 is just visible side by side.
    """
    light, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    light_2, a_2, b_2 = np.moveaxis(np.asarray(other, np.float64), -1, 0)
    seventh = ((np.hypot(a, b) + np.hypot(a_2, b_2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(seventh / (seventh + 25.0**7))
    chroma, chroma_2 = np.hypot(stretch * a, b), np.hypot(stretch * a_2, b_2)
    hue = np.arctan2(b, stretch * a) % (2 * np.pi)
    hue_2 = np.arctan2(b_2, stretch * a_2) % (2 * np.pi)

    # Gray has no hue, so it takes the hue of the other color.
    gray = chroma * chroma_2 == 0
    turn = np.where(gray, 0, (hue_2 - hue + np.pi) % (2 * np.pi) - np.pi)
    hue_mean = np.where(gray, hue + hue_2, hue + turn / 2)
    light_mean = ((light + light_2) / 2 - 50) ** 2
    chroma_mean = (chroma + chroma_2) / 2
    weight = (
        1
        - 0.17 * np.cos(hue_mean - np.radians(30))
        + 0.24 * np.cos(2 * hue_mean)
        + 0.32 * np.cos(3 * hue_mean + np.radians(6))
        - 0.20 * np.cos(4 * hue_mean - np.radians(63))
    )
    seventh = chroma_mean**7
    away_from_blue = (np.degrees(hue_mean) % 360 - 275) / 25
    rotation = (
        -2
        * np.sqrt(seventh / (seventh + 25.0**7))
        * np.sin(np.radians(60) * np.exp(-(away_from_blue**2)))
    )
    lightness = (light_2 - light) / (1 + 0.015 * light_mean / np.sqrt(20 + light_mean))
    chroma_part = (chroma_2 - chroma) / (1 + 0.045 * chroma_mean)
    hue_part = 2 * np.sqrt(chroma * chroma_2) * np.sin(turn / 2)
    hue_part = hue_part / (1 + 0.015 * chroma_mean * weight)
    return np.sqrt(
        lightness**2 + chroma_part**2 + hue_part**2 + rotation * chroma_part * hue_part
    )
