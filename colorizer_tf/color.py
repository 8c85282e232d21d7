"""Luma and chroma: a photo taken apart into its gray and its colour, and joined.

BT.601 in full range, as JPEG and OpenCV use it (ITU-T T.871). Luma Y is in
[0, 1]; chroma is the pair (Cb, Cr), each in [-0.5, 0.5] with 0 for gray.
The functions take NumPy arrays and tensors, and work inside a Keras graph.
"""

from keras import ops

RED, GREEN, BLUE = 0.299, 0.587, 0.114
CB_SCALE = 2 * (1 - BLUE)
CR_SCALE = 2 * (1 - RED)


def rgb_to_luma(rgb):
    """Returns the gray photo, (..., 1), of an RGB photo, (..., 3), in [0, 1]."""
    return RED * rgb[..., :1] + GREEN * rgb[..., 1:2] + BLUE * rgb[..., 2:3]


def rgb_to_chroma(rgb):
    """Returns the chroma (Cb, Cr), (..., 2), of an RGB photo, (..., 3)."""
    luma = rgb_to_luma(rgb)
    return ops.concatenate(
        [(rgb[..., 2:3] - luma) / CB_SCALE, (rgb[..., :1] - luma) / CR_SCALE],
        axis=-1,
    )


def join_luma_chroma(luma, chroma):
    """Returns the RGB photo in [0, 1] that has exactly this luma.

    Where RGB would leave [0, 1], chroma is scaled back by the largest factor
    that keeps all three channels inside: hue and luma stay, saturation gives.

    Args:
        luma: gray photo, (..., 1), in [0, 1].
        chroma: (Cb, Cr), (..., 2); any finite values.
    """
    # Split rather than sliced: the gradient of a slice is slow.
    blue, red = ops.split(chroma, 2, axis=-1)
    blue, red = CB_SCALE * blue, CR_SCALE * red
    green = -(RED * red + BLUE * blue) / GREEN
    # The offsets' weighted sum is 0, so the highest is never below 0, nor the
    # lowest above. The denominators are at least the room there is, so that
    # each factor is at most 1, and never 0: the gradient stays finite at zero
    # chroma and at luma 0 and 1.
    highest = ops.maximum(ops.maximum(red, green), blue)
    lowest = ops.minimum(ops.minimum(red, green), blue)
    above, below = ops.maximum(1 - luma, 1e-6), ops.maximum(luma, 1e-6)
    factor = ops.minimum(
        (1 - luma) / ops.maximum(highest, above), luma / ops.maximum(-lowest, below)
    )
    channels = [luma + factor * offset for offset in (red, green, blue)]
    # What is outside by now is so by rounding alone.
    return ops.clip(ops.concatenate(channels, axis=-1), 0, 1)


def colourfulness(rgb):
    """Returns the colourfulness of RGB photos, (..., H, W, 3) in [0, 1].

    The measure M3 of Hasler and Süsstrunk, "Measuring colourfulness in natural
    images" (2003), in their units of 0..255: 0 is gray, 15 slightly, 45 quite
    and 82 highly colourful. Shape (...).
    """
    rgb = 255 * rgb
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    opponents = ops.stack([red - green, (red + green) / 2 - blue], axis=-1)
    deviation = ops.std(opponents, axis=(-3, -2))
    mean = ops.mean(opponents, axis=(-3, -2))
    return ops.sqrt(ops.sum(deviation**2, axis=-1)) + 0.3 * ops.sqrt(
        ops.sum(mean**2, axis=-1)
    )
