"""Brings a network's small chroma to a photo of any size.

In each small window, chroma is a linear function of luma: chroma = slope * luma +
offset (He, Sun and Tang, "Guided image filtering", 2010). Slope and offset are fitted
at half the network's size and enlarged bilinearly. The luma is the photo's own at
full size, so colors have the photo's edges. benchmarks/chroma_upsampling.py measures
this.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from colorizer_tf.color import BLUE, CB_SCALE, CR_SCALE, GREEN, JPEG, RED

CHROMA_SUBSAMPLING = 4
SIGMA = 0.8
EPSILON = 1e-3
BAND_PIXELS = 2**16
# The luma pixels that a decoder colors from a pixel of chroma at half the size.
_FOOTPRINT = np.ones((4, 4), np.uint8)


def check_strength(strength):
    """Raises `ValueError` for a strength that is below 0, infinite or NaN."""
    if not 0 <= strength < np.inf:
        raise ValueError(f"strength must be 0 or more. Received: {strength}")


def fit_chroma(luma, chroma):
    """Fits chroma as a linear function of luma around each pixel.

    Args:
        luma: float32 (h, w), in [0, 1].
        chroma: (Cb, Cr), float32 (h, w, 2), with about the detail of a quarter of
            the size.

    Returns:
        Slope and offset, float32 (ceil(h / 2), ceil(w / 2), 2) each. Both are smooth,
        so half the size is enough, for a quarter of the work.
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
        # The windows blur small, vivid colors. The offset gets back what is missing.
        offsets.append(offset + plane - soften(slope * luma + offset))
        slopes.append(slope)
    return cv2.merge(slopes), cv2.merge(offsets)


def paint_planes(luma, slope, offset, levels=JPEG, halved=True):
    """Returns the chroma planes of a JPEG, or of a frame of a film.

    At half the size, a pixel of chroma covers four pixels of luma, and decoders blend
    it into their neighbors. It is reduced until it fits the brightest and the darkest
    of them. So no decoded pixel leaves the range of RGB.

    Args:
        luma: uint8 or uint16, (H, W).
        slope, offset: as from `fit_chroma`, at any size.
        levels: the encoding of the planes.
        halved: whether the planes have half the size.

    Returns:
        Cb and Cr of luma's type, (ceil(H / 2), ceil(W / 2)) each if halved, else
        (H, W).
    """
    height, width = luma.shape
    if halved:
        height, width = -(-height // 2), -(-width // 2)
    white = np.float32(levels.luma_span)
    weights = levels.weights
    lines = _stretch_lines(slope, offset, white, height, weights)
    planes = np.empty((2, height, width), luma.dtype)
    unit = levels.chroma_span / levels.luma_span
    scales = [unit / 2 / (1 - weight) for weight in weights[::-2]]
    # The rounding of chroma changes a channel by at most this much.
    rounding = np.float32(0.5 / min(scales))

    def paint_band(band):
        pooled = _pool(luma, band, width) if halved else [luma[band]] * 3
        mean, darkest, brightest = (np.float32(plane) for plane in pooled)
        if levels.black:
            for plane in (mean, darkest, brightest):
                plane -= levels.black
        size = (width, band.stop - band.start)
        red, green, blue = _offsets(
            mean, *(cv2.resize(plane[band], size) for plane in lines), weights
        )
        darkest -= rounding
        above = np.subtract(white - rounding, brightest, out=brightest)
        factor = _room(darkest, above, red, green, blue)
        np.maximum(factor, 0, out=factor)
        for plane, offset, scale in zip(planes, (blue, red), scales, strict=True):
            offset *= factor
            if luma.dtype == np.uint8:
                cv2.convertScaleAbs(offset, plane[band], scale, levels.neutral)
            else:
                offset *= np.float32(scale)
                cv2.add(offset, levels.neutral, plane[band], None, cv2.CV_16U)

    _run_bands(paint_band, height, width)
    return np.minimum(planes, 2**levels.bits - 1) if levels.bits % 8 else planes


def _pool(luma, band, width):
    """Yields the mean, darkest and brightest luma for each pixel of a band's chroma."""
    top, bottom = 2 * band.start, min(2 * band.stop, len(luma))
    above, below = int(top > 0), int(bottom < len(luma))
    part = cv2.copyMakeBorder(
        luma[top - above : bottom + below],
        1 - above,
        2 * band.stop + 1 - bottom - below,
        1,
        2 * width + 1 - luma.shape[1],
        cv2.BORDER_REPLICATE,
    )
    size = (width, band.stop - band.start)
    yield cv2.resize(part[1:-1, 1:-1], size, interpolation=cv2.INTER_AREA)
    for choose in (cv2.erode, cv2.dilate):
        yield choose(part, _FOOTPRINT, anchor=(0, 0))[:-2:2, :-2:2]


def paint(gray, slope, offset):
    """Returns a gray photo in the colors that `fit_chroma` has fitted.

    If RGB would leave its range, chroma is reduced as in `color.join_luma_chroma`.

    Args:
        gray: uint8 or uint16, (H, W).
        slope, offset: as from `fit_chroma`, at any size.

    Returns:
        RGB of the gray photo's type, (H, W, 3). Its luma is the gray photo, to
        within a level.
    """
    height, width = gray.shape
    white = np.float32(np.iinfo(gray.dtype).max)
    lines = _stretch_lines(slope, offset, white, height)
    rgb = np.empty((height, width, 3), gray.dtype)
    depth = cv2.CV_8U if gray.dtype == np.uint8 else cv2.CV_16U

    def paint_band(band):
        size = (width, band.stop - band.start)
        luma = np.float32(gray[band])
        offsets = _offsets(luma, *(cv2.resize(plane[band], size) for plane in lines))
        factor = _room(luma, white - luma, *offsets)
        channels = [
            cv2.add(luma, cv2.multiply(factor, offset), dtype=depth)
            for offset in offsets
        ]
        cv2.merge(channels, rgb[band])

    _run_bands(paint_band, height, width)
    return rgb


def _stretch_lines(slope, offset, white, height, weights=(RED, GREEN, BLUE)):
    """Returns slope and offset of R - Y, and of B - Y, at a photo's height."""
    # This matrix turns (Cb, Cr) of BT.601 into (R - Y, G - Y, B - Y).
    rgb = np.array(
        [
            [0, CR_SCALE],
            [-CB_SCALE * BLUE / GREEN, -CR_SCALE * RED / GREEN],
            [CB_SCALE, 0],
        ]
    )
    change = (rgb - weights @ rgb)[::2]
    slopes = cv2.split(cv2.transform(slope, change))
    offsets = cv2.split(cv2.transform(offset, white * change))
    return [
        cv2.resize(plane, (plane.shape[1], height))
        for pair in zip(slopes, offsets, strict=True)
        for plane in pair
    ]


def _run_bands(paint_band, height, width):
    """Paints bands of rows in all threads."""
    # Small bands fit in the processor's cache, and need no other array of full size.
    rows = max(1, BAND_PIXELS // width)
    bands = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
    list(map(paint_band, bands) if len(bands) == 1 else _bands().map(paint_band, bands))


@functools.cache
def _bands():
    return ThreadPoolExecutor(os.cpu_count(), "bands")


def _offsets(luma, red, red_offset, blue, blue_offset, weights=(RED, GREEN, BLUE)):
    """Returns R - Y, G - Y and B - Y."""
    red *= luma
    red += red_offset
    blue *= luma
    blue += blue_offset
    of_red, of_green, of_blue = weights
    green = cv2.addWeighted(red, -of_red / of_green, blue, -of_blue / of_green, 0)
    return red, green, blue


def _room(below, above, red, green, blue):
    """Returns the factor, at most 1, that keeps offsets from -below to above."""
    highest, lowest = np.maximum(red, green), np.minimum(red, green)
    np.maximum(highest, blue, out=highest)
    np.minimum(lowest, blue, out=lowest)
    # The weighted sum of the offsets is 0, so highest >= 0 >= lowest. A millionth of
    # a level prevents a division by 0.
    highest += 1e-6
    lowest -= 1e-6
    high = np.divide(above, highest, out=highest)
    low = np.divide(below, np.negative(lowest, out=lowest), out=lowest)
    np.minimum(high, low, out=high)
    return np.minimum(high, 1, out=high)


def _mean(plane):
    return cv2.GaussianBlur(plane, (3, 3), SIGMA)


def _shrink(planes, size):
    return cv2.resize(planes, size, interpolation=cv2.INTER_AREA)
