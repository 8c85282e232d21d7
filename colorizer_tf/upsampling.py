"""A network's small chroma brought up to a photo of any size.

The chroma is a linear function of the luma in each small window, chroma =
slope * luma + offset (the guided filter of He, Sun and Tang, 2010). Slope and
offset are fitted at half the network's size and brought up bilinearly; the luma
is the photo's own, at full size, and so are the edges of the colours. Measured
in benchmarks/chroma_upsampling.py.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from colorizer_tf.color import BLUE, CB_SCALE, CR_SCALE, GREEN, RED
from colorizer_tf.hints import scale_chroma

CHROMA_SUBSAMPLING = 4
SIGMA = 0.8
EPSILON = 1e-3
BAND_PIXELS = 2**16
_BANDS = ThreadPoolExecutor(os.cpu_count(), "bands")


def paint_chroma(gray, luma, chroma, strength=1.0):
    """Returns a gray photo in the colours of its small version.

    Args:
        gray: uint8 or uint16, (H, W).
        luma: the photo scaled down, float32 (h, w), in [0, 1].
        chroma: (Cb, Cr) of the small version, float32 (h, w, 2); (h, w, 3) with
            hints, see `hints.scale_chroma`.
        strength: scales the colour; 0 gives the gray photo, or its hints alone.

    Returns:
        RGB of the gray photo's type, (H, W, 3). Its luma is the gray photo, to
        within a level.
    """
    check_strength(strength)
    return paint(gray, *fit_chroma(luma, scale_chroma(chroma, strength)))


def check_strength(strength):
    """Raises `ValueError` for a strength below 0, or none at all."""
    if not 0 <= strength < np.inf:
        raise ValueError(f"strength must be 0 or more. Received: {strength}")


def fit_chroma(luma, chroma):
    """Fits chroma as a linear function of luma around each pixel.

    Args:
        luma: float32 (h, w), in [0, 1].
        chroma: (Cb, Cr), float32 (h, w, 2), about as sharp as if it came from a
            quarter of the size.

    Returns:
        Slope and offset, float32 (h', w', 2) each, at half the size: both are
        smooth, and a quarter of the work.
    """
    height, width = luma.shape
    quarter = (
        max(1, width // CHROMA_SUBSAMPLING),
        max(1, height // CHROMA_SUBSAMPLING),
    )
    half = (-(-width // 2), -(-height // 2))

    def soften(plane):
        return cv2.resize(_shrink(plane, quarter), half)

    luma, guide = _shrink(luma, half), soften(luma)
    guide_mean = _mean(guide)
    variance = _mean(guide * guide) - guide_mean * guide_mean + EPSILON
    slopes, offsets = [], []
    for plane in cv2.split(_shrink(chroma, half)):
        mean = _mean(plane)
        slope = (_mean(guide * plane) - guide_mean * mean) / variance
        offset = _mean(mean - slope * guide_mean)
        slope = _mean(slope)
        # The windows blur small and vivid colours away: what is missing comes back.
        offsets.append(offset + plane - soften(slope * luma + offset))
        slopes.append(slope)
    return cv2.merge(slopes), cv2.merge(offsets)


def paint(gray, slope, offset):
    """Returns a gray photo in the colours that `fit_chroma` has fitted.

    Where RGB would leave its range, chroma is scaled back as in
    `color.join_luma_chroma`.

    Args:
        gray: uint8 or uint16, (H, W).
        slope, offset: float32 (h, w, 2) each, of any size.

    Returns:
        RGB of the gray photo's type, (H, W, 3).
    """
    height, width = gray.shape
    white = np.float32(np.iinfo(gray.dtype).max)
    lines = [
        cv2.resize(np.float32(scale * plane), (plane.shape[1], height))
        for scale, plane in (
            (CR_SCALE, slope[..., 1]),
            (CR_SCALE * white, offset[..., 1]),
            (CB_SCALE, slope[..., 0]),
            (CB_SCALE * white, offset[..., 0]),
        )
    ]
    rgb = np.empty((height, width, 3), gray.dtype)
    rows = max(1, BAND_PIXELS // width)

    def paint_band(top):
        band = slice(top, min(top + rows, height))
        size = (width, band.stop - top)
        coefficients = (cv2.resize(plane[band], size) for plane in lines)
        rgb[band] = _paint_band(gray[band], white, *coefficients)

    # Bands of a few rows stay in the processor's cache; nothing but the result
    # is ever as large as the photo.
    tops = range(0, height, rows)
    list(map(paint_band, tops) if len(tops) == 1 else _BANDS.map(paint_band, tops))
    return rgb


def _paint_band(gray, white, red, red_offset, blue, blue_offset):
    luma = np.float32(gray)
    red *= luma
    red += red_offset
    blue *= luma
    blue += blue_offset
    green = cv2.addWeighted(red, -RED / GREEN, blue, -BLUE / GREEN, 0)
    highest = cv2.max(cv2.max(red, green), blue)
    lowest = cv2.min(cv2.min(red, green), blue)
    # The offsets' weighted sum is 0: the highest is never below 0, nor the lowest
    # above. A millionth of a level keeps the division safe.
    highest += 1e-6
    lowest -= 1e-6
    above = cv2.divide(white - luma, highest, dst=highest)
    below = cv2.divide(luma, lowest, lowest, -1)
    factor = cv2.min(cv2.min(above, below), 1)
    depth = cv2.CV_8U if gray.dtype == np.uint8 else cv2.CV_16U
    return cv2.merge(
        [
            cv2.add(luma, cv2.multiply(factor, channel), dtype=depth)
            for channel in (red, green, blue)
        ]
    )


def _mean(plane):
    return cv2.GaussianBlur(plane, (3, 3), SIGMA)


def _shrink(planes, size):
    return cv2.resize(planes, size, interpolation=cv2.INTER_AREA)
