"""The two networks: a generator from gray to colour, and a discriminator."""

import keras
import numpy as np
from keras import layers, ops

from colorizer_tf.color import join_luma_chroma

STEM_STRIDE = 4


def build_generator(widths=(64, 128, 256, 256), blocks=1, name="generator"):
    """Builds a U-Net that gives a gray photo its colours.

    It predicts chroma at a quarter of the photo's size, brings it up
    bilinearly and joins it with the gray photo it was given, so that the
    result has the luminance of the input (see `color.join_luma_chroma`).

    Args:
        widths: channels at each level, the first at a quarter of the photo's
            size, each further one at half the size of the one before.
        blocks: residual blocks at each level of the encoder.
        name: the model's name.

    Returns:
        A functional `keras.Model`: gray (B, H, W, 1) in [0, 1] to RGB
        (B, H, W, 3) in [0, 1]. H and W are free, but must be multiples of
        `4 * 2 ** (len(widths) - 1)`, 32 by default.
    """
    gray = keras.Input((None, None, 1), name="gray")
    x = layers.Conv2D(widths[0], 8, STEM_STRIDE, padding="same", use_bias=False)(gray)
    x = layers.Activation("relu")(_normalize(x))
    skips = []
    for level, width in enumerate(widths):
        if level:
            x = apply_conv_block(x, width, strides=2)
        for _ in range(blocks):
            x = apply_residual_block(x, width)
        skips.append(x)

    x = skips.pop()
    while skips:
        skip = skips.pop()
        x = layers.UpSampling2D(2)(layers.Conv2D(skip.shape[-1], 1)(x))
        x = layers.Conv2D(skip.shape[-1], 1)(layers.Concatenate()([skip, x]))
        x = apply_conv_block(x, skip.shape[-1])
    # Zeros: training starts from the gray photo, not from random colours.
    chroma = layers.Conv2D(
        2, 1, kernel_initializer="zeros", dtype="float32", name="chroma"
    )(x)
    rgb = join_luma_chroma(gray, upsample_bilinear(chroma, STEM_STRIDE))
    return keras.Model(gray, rgb, name=name)


def build_discriminator(image_size=128, widths=(32, 64, 128), name="discriminator"):
    """Builds a binary classifier that tells real photos from generated ones.

    Args:
        image_size: height and width of the photos; None leaves them free.
        widths: channels of the strided convolutions, the first at a quarter of
            the photo's size, each further one at half the size before.
        name: the model's name.

    Returns:
        A functional `keras.Model`: RGB (B, image_size, image_size, 3) in [0, 1]
        to logits (B, h, w, 1), one for each patch of the photo, h = w =
        `image_size / (4 * 2 ** (len(widths) - 1))`. A logit above 0 says real.
    """
    photo = keras.Input((image_size, image_size, 3), name="photo")
    x = photo
    for level, width in enumerate(widths):
        kernel, strides = (4, 2) if level else (8, STEM_STRIDE)
        x = layers.Conv2D(width, kernel, strides, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
    logits = layers.Conv2D(1, 3, padding="same", dtype="float32", name="logits")(x)
    return keras.Model(photo, logits, name=name)


def apply_conv_block(x, width, strides=1):
    """Applies a 3x3 convolution, normalization and ReLU."""
    x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
    return layers.Activation("relu")(_normalize(x))


def apply_residual_block(x, width):
    """Applies two 3x3 convolutions and adds what came in, of the same width."""
    residual = apply_conv_block(x, width)
    residual = layers.Conv2D(width, 3, padding="same", use_bias=False)(residual)
    return layers.Activation("relu")(layers.Add()([x, _normalize(residual)]))


def upsample_bilinear(x, factor):
    """Brings (B, h, w, C) up to (B, factor * h, factor * w, C).

    A transposed convolution with a fixed kernel, as `UpSampling2D("bilinear")`
    cannot be exported with open sizes. The edge pixels are repeated first: the
    convolution alone would fade to 0 at the border.
    """
    channels = x.shape[-1]
    x = ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="symmetric")
    upsample = layers.Conv2DTranspose(
        channels,
        2 * factor,
        factor,
        padding="same",
        use_bias=False,
        trainable=False,
        dtype=x.dtype,
    )
    x = layers.Cropping2D(factor, dtype=x.dtype)(upsample(x))
    ramp = 1 - np.abs(np.arange(2 * factor) + 0.5 - factor) / factor
    kernel = np.outer(ramp, ramp)[:, :, None, None] * np.eye(channels)
    upsample.set_weights([kernel])
    return x


def to_float32(model):
    """Returns a copy of a model that computes in float32 throughout.

    One that was trained in mixed precision keeps that precision when it is
    saved, and is slow where the processor has none.
    """

    def replace(config):
        if isinstance(config, dict):
            if config.get("class_name") == "DTypePolicy":
                return config | {"config": {"name": "float32"}}
            return {name: replace(value) for name, value in config.items()}
        if isinstance(config, list | tuple):
            return type(config)(map(replace, config))
        return config

    copy = type(model).from_config(replace(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _normalize(x):
    # Keras' default momentum of 0.99 lags behind in a run of a few hundred steps.
    return layers.BatchNormalization(momentum=0.97)(x)
