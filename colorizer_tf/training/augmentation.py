"""Augments training photos: cuts, stretches, tones and hints."""

import cv2
import numpy as np

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma, rgb_to_luma
from colorizer_tf.hints import HINT_STRIDE
from colorizer_tf.training import tf

ZOOM = 2
SHARPNESS = 0.8
STRONG_ZOOM = 0.4
STRETCH = 0.25
KEEP_TONE = np.float32([1, 0, 1])
MAX_TRAINING_HINTS = 100
HINTED_SHARE = 0.6


def central_square(photo, image_size):
    """Returns the center of a photo whose shorter side has `image_size` pixels."""
    top, left = ((side - image_size) // 2 for side in photo.shape[:2])
    return photo[top : top + image_size, left : left + image_size]


def random_square(photo, image_size, rng):
    """Cuts a random square from a photo and scales it to `image_size`.

    Its side is between half of the photo's shorter side and all of it. To avoid blur,
    the side has at least four fifths of `image_size` in pixels.
    """
    longest = min(photo.shape[:2])
    shortest = min(longest, max(longest // ZOOM, round(SHARPNESS * image_size)))
    side = rng.integers(shortest, longest + 1)
    return _random_cut(photo, side, side, image_size, rng)


def random_stretched_square(photo, image_size, rng):
    """Cuts a random rectangle from a photo and scales it to a square of `image_size`.

    Its sides are about two fifths of the photo's shorter side, or more. One side is
    longer than the other by up to about a quarter.
    """
    side = min(photo.shape[:2]) * rng.uniform(STRONG_ZOOM, 1)
    height, width = _stretch(side, STRETCH, photo.shape[:2], rng)
    return _random_cut(photo, height, width, image_size, rng)


def _stretch(side, stretch, most, rng):
    """Returns a random height and width of about `side`, at most `most`."""
    half = rng.uniform(-stretch, stretch) / 2
    return np.minimum(np.round(side * np.exp([half, -half])).astype(int), most)


def _random_cut(photo, height, width, image_size, rng):
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    cut = photo[top : top + height, left : left + width]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return cv2.resize(cut, (image_size, image_size), interpolation=cv2.INTER_AREA)


def paste_rectangle(square, other, rng):
    """Returns a square with a rectangle of another square at the same place.

    The rectangle covers about a tenth to half of the square. Yun et al., "CutMix:
    regularization strategy to train strong classifiers with localizable features"
    (2019).
    """
    size = len(square)
    side = size * np.sqrt(rng.uniform(0.1, 0.5))
    height, width = _stretch(side, 0.5, size, rng)
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    place = np.s_[top : top + height, left : left + width]
    square = square.copy()
    square[place] = other[place]
    return square


def random_tone(rng):
    """Returns a random gamma, black level and white level, float32 (3,).

    With a probability of one half, they leave the photo as it is.
    """
    if rng.random() < 0.5:
        return KEEP_TONE
    gamma = np.exp(rng.normal(0, 0.3))
    return np.float32([gamma, rng.uniform(-0.1, 0.2), rng.uniform(0.8, 1.1)])


def apply_tone(color, tone):
    """Changes the luma of photos, and keeps their chroma as far as the gamut allows.

    Args:
        color: RGB in [0, 1], (B, H, W, 3).
        tone: gamma, black level and white level of each photo, (B, 3).

    Returns:
        RGB in [0, 1], (B, H, W, 3).
    """
    gamma, black, white = tf.split(tone[:, None, None, :], 3, axis=-1)
    luma = black + (white - black) * rgb_to_luma(color) ** gamma
    return join_luma_chroma(tf.clip_by_value(luma, 0, 1), rgb_to_chroma(color))


def random_mask(cells, rng):
    """Draws the cells of a training photo that have a hint.

    Two fifths of the photos have no hints, the others 1 to 100. The logarithm of their
    number is uniform.

    Returns:
        1 for a cell with a hint, else 0; float32 (cells, cells, 1).
    """
    mask = np.zeros(cells * cells, np.float32)
    if rng.random() < HINTED_SHARE:
        count = int(np.exp(rng.uniform(0, np.log(MAX_TRAINING_HINTS + 1))))
        mask[rng.choice(mask.size, min(count, mask.size), replace=False)] = 1
    return mask.reshape(cells, cells, 1)


def reveal_chroma(color, mask):
    """Returns hints of the real colors in the cells of a mask.

    Args:
        color: RGB in [0, 1], (B, H, W, 3).
        mask: 1 or 0, (B, H / 4, W / 4, 1).

    Returns:
        1 and the mean (Cb, Cr) of a cell where the mask is 1, else zeros;
        (B, H / 4, W / 4, 3).
    """
    chroma = tf.nn.avg_pool2d(rgb_to_chroma(color), HINT_STRIDE, HINT_STRIDE, "VALID")
    return tf.concat([mask, mask * chroma], axis=-1)
