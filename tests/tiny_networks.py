"""Small versions of the library's networks, for fast tests."""

import keras
import numpy as np
from keras import layers

from colorizer_tf.color import join_luma_chroma
from colorizer_tf.suggestions import CHROMA_BINS
from colorizer_tf.training.models import apply_conv, embed_hints, upsample_bilinear


def build_tiny_generator(hints=False):
    """Builds a small generator for heights and widths that 8 divides."""
    keras.utils.set_random_seed(0)
    gray = keras.Input((None, None, 1), name="gray")
    inputs = [gray, keras.Input((None, None, 3), name="hints")]
    fine = layers.Conv2D(8, 8, 4, padding="same", activation="relu")(gray)
    coarse = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(fine)
    branches = [fine, layers.UpSampling2D(2)(coarse)]
    if hints:
        branches.append(embed_hints(inputs[1], 1, 8))
    x = apply_conv(layers.Add()(branches), 8)
    chroma = layers.Conv2D(
        2, 1, kernel_initializer="zeros", dtype="float32", name="chroma"
    )(x)
    rgb = join_luma_chroma(gray, upsample_bilinear(chroma, 4))
    return keras.Model(inputs if hints else gray, rgb, name="generator")


def build_obedient_generator():
    """Paints all in one color, and nine cells around a hint in the hint's color."""
    gray, hints = keras.Input((None, None, 1)), keras.Input((None, None, 3))
    spread = layers.DepthwiseConv2D(9, padding="same", use_bias=False)
    around = spread(hints)
    spread.set_weights([keras.ops.ones((9, 9, 3, 1))])
    count, chroma = around[..., :1], around[..., 1:]
    background = np.float32([-0.03, 0.02])
    chroma = keras.ops.where(
        count > 0, chroma / keras.ops.maximum(count, 1), background
    )
    chroma = layers.UpSampling2D(4)(chroma)
    return keras.Model([gray, hints], join_luma_chroma(gray, chroma))


def build_suggesting_generator():
    """Builds an obedient generator for which red and blue are likely everywhere."""
    generator = build_obedient_generator()
    gray, hints = generator.inputs
    probabilities = np.zeros(len(CHROMA_BINS), np.float32)
    for chroma, probability in (((-0.1, 0.3), 0.6), ((0.3, -0.1), 0.4)):
        distance = np.square(CHROMA_BINS - np.float32(chroma)).sum(axis=1)
        probabilities[distance.argmin()] = probability
    likely = keras.ops.zeros_like(hints[..., :1]) + probabilities
    return keras.Model([gray, hints], [generator.output, likely])


def build_tiny_discriminator():
    """Builds a classifier of patches of 8x8 pixels."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(8, 8, 4, padding="same", activation="leaky_relu"),
            layers.Conv2D(1, 4, 2, padding="same", name="logits"),
        ],
        name="discriminator",
    )
