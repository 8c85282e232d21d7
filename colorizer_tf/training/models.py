"""The two networks: a generator from gray to color, and a discriminator."""

import re

import numpy as np
from keras import layers, ops

from colorizer_tf.color import join_luma_chroma
from colorizer_tf.suggestions import CHROMA_BINS
from colorizer_tf.training import keras
from colorizer_tf.training.encoder import build_encoder, freeze_early_layers

CHROMA_STRIDE = 4
# Both bring what is joined in the decoder to about 1, so that all of it is heard.
FEATURE_SCALE = 1 / 8
HINT_SCALE = 8
# Of the self-attention.
HEADS, HEAD_WIDTH = 4, 32


def build_generator(
    encoder_weights="imagenet",
    widths=(64, 128, 256, 128),
    hints=True,
    name="generator",
    attention=False,
):
    """Builds a U-Net on a pretrained encoder that gives a gray photo its colors.

    It predicts chroma at a quarter of the photo's size, brings it up
    bilinearly and joins it with the gray photo it was given, so that the
    result has the luminance of the input (see `color.join_luma_chroma`).

    Args:
        encoder_weights: "imagenet", see `encoder.build_encoder`; the first stages
            and all depthwise kernels are frozen then. None starts from scratch,
            and trains all.
        widths: channels of the decoder at a quarter, an eighth, a sixteenth and a
            32nd of the photo's size.
        hints: False makes a generator of gray photos alone.
        name: the model's name.
        attention: True lets every place look at all others, at strides 32 and 16
            (see `apply_self_attention`). It starts as if it were not there.

    Returns:
        A functional `keras.Model`: gray (B, H, W, 1) in [0, 1] and hints
        (B, H / 4, W / 4, 3) to RGB (B, H, W, 3) in [0, 1]. A hint is 1 and the
        chroma (Cb, Cr) in a cell that a person has set; all other cells are 0.
        H and W are free, but must be multiples of 32.
    """
    gray = keras.Input((None, None, 1), name="gray")
    inputs = [gray]
    if hints:
        inputs.append(keras.Input((None, None, 3), name="hints"))
    encoder = build_encoder(weights=encoder_weights)
    if encoder_weights:
        freeze_early_layers(encoder)
    _, *skips, x = (layers.Rescaling(FEATURE_SCALE)(x) for x in encoder(gray))
    *widths, width = widths
    branches = [layers.Conv2D(width, 3, padding="same")(x)]
    if hints:  # from here one reaches all of a sky
        branches.append(embed_hints(inputs[1], 8, width))
    context = layers.ReLU()(layers.Add()(branches))
    if attention:
        context = apply_self_attention(context, "attention_32")
    x = layers.Add()([x, layers.Conv2D(x.shape[-1], 3, padding="same")(context)])
    for factor, width in zip((4, 2, 1), reversed(widths), strict=True):
        branches = [
            layers.UpSampling2D(2)(layers.Conv2D(width, 1)(x)),
            layers.Conv2D(width, 1)(skips.pop()),
        ]
        if hints:
            branches.append(embed_hints(inputs[1], factor, width))
        x = layers.ReLU()(layers.Add()(branches))
        if attention and factor == 4:
            x = apply_self_attention(x, "attention_16")
        x = apply_residual_block(apply_conv(x, width), width)
    # Zeros: training starts from the gray photo, not from random colors.
    chroma = layers.Conv2D(
        2, 1, kernel_initializer="zeros", dtype="float32", name="chroma"
    )(x)
    rgb = join_luma_chroma(gray, upsample_bilinear(chroma, CHROMA_STRIDE))
    return keras.Model(inputs if hints else gray, rgb, name=name)


def scale_chroma(generator, factor, knee):
    """Returns a generator whose colors are more vivid, and faint ones fainter.

    Chroma c becomes factor * c * |c| / (|c| + knee). A training on errors leaves
    it too cautious; and what is fainter than the knee is a doubt rather than a
    color, which a gray wall or coat should not show.

    Args:
        generator: a model by `build_generator`. Its layers are shared: what
            trains one trains both. If it is scaled already, this scaling takes
            the place of that one.
        factor: what colors far above the knee are multiplied by.
        knee: the |(Cb, Cr)| for which half of that factor is left; 0 scales all
            colors alike.
    """
    chroma = generator.get_layer("chroma").output
    # Not 0, where the root has no gradient.
    length = ops.sqrt(ops.sum(ops.square(chroma), axis=-1, keepdims=True) + 1e-8)
    chroma = factor * length / (length + knee) * chroma
    gray, *_ = generator.inputs
    rgb = join_luma_chroma(gray, upsample_bilinear(chroma, CHROMA_STRIDE))
    return keras.Model(generator.input, rgb, name=generator.name)


def add_likely(generator, width=128):
    """Returns a generator with a second output: which colors are likely at a place.

    Zhang, Isola and Efros, "Colorful image colorization" (2016). The new layers read
    the features that the chroma comes from. Their gradient stops there: training
    them leaves the colors as they are.

    Args:
        generator: a model by `build_generator` or `scale_chroma`. Layers are shared.
        width: channels of the new convolution.

    Returns:
        A functional `keras.Model` to RGB (B, H, W, 3) and `likely`, the
        probabilities of `suggestions.CHROMA_BINS`, (B, H / 4, W / 4, bins).
    """
    features = ops.stop_gradient(generator.get_layer("chroma").input)
    x = layers.Conv2D(
        width, 3, padding="same", activation="relu", name="likely_features"
    )(features)
    likely = layers.Conv2D(
        len(CHROMA_BINS), 1, activation="softmax", dtype="float32", name="likely"
    )(x)
    return keras.Model(
        generator.input, [generator.outputs[0], likely], name=generator.name
    )


def build_discriminator(width=64, name="discriminator"):
    """Builds a binary classifier that tells real photos from generated ones.

    It judges the frozen ImageNet features of the encoder, by a small head at each
    of four strides (Sauer et al., "Projected GANs converge faster", 2021): what
    it sees from the first step on is skin and grass rather than pixels.

    Args:
        width: channels of the heads' convolutions.
        name: the model's name.

    Returns:
        A functional `keras.Model`: RGB (B, H, W, 3) in [0, 1] to logits
        (B, H / 32, W / 32, 4), one for each patch of the photo and head. A logit
        above 0 says real.
    """
    photo = keras.Input((None, None, 3), name="photo")
    encoder = build_encoder(channels=3)
    encoder.trainable = False
    verdicts = []
    for x, halvings in zip(encoder(photo)[1:], (3, 2, 1, 0), strict=True):
        x = layers.Rescaling(FEATURE_SCALE)(x)
        for strides in [2] * halvings or [1]:
            x = layers.SpectralNormalization(
                layers.Conv2D(width, 4, strides, padding="same")
            )(x)
            x = layers.LeakyReLU(0.2)(x)
        verdicts.append(layers.SpectralNormalization(layers.Conv2D(1, 1))(x))
    logits = layers.Concatenate(dtype="float32", name="logits")(verdicts)
    return keras.Model(photo, logits, name=name)


def apply_conv(x, width, activation="relu"):
    """Applies a 3x3 convolution."""
    return layers.Conv2D(
        width,
        3,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal",
    )(x)


def apply_residual_block(x, width):
    """Applies two 3x3 convolutions and adds what came in, of the same width."""
    residual = apply_conv(apply_conv(x, width), width, activation=None)
    return layers.ReLU()(layers.Add()([x, residual]))


def apply_self_attention(x, name):
    """Adds to each place what it finds at all others that are like it.

    Vaswani et al., "Attention is all you need" (2017). Queries keep the height and
    the width, which may be open; keys and values are a plain list of places. What
    it adds is zero before training.

    Args:
        x: features (B, h, w, C).
        name: what the names of its layers begin with.

    Returns:
        (B, h, w, C).
    """
    width, heads = x.shape[-1], (HEADS, HEAD_WIDTH)
    places = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
    listed = layers.Reshape((-1, width))(places)
    query = layers.EinsumDense(
        "bhwc,cnd->bhwnd", (None, None, *heads), name=f"{name}_query"
    )(places)
    key, value = (
        layers.EinsumDense("bmc,cnd->bmnd", (None, *heads), name=f"{name}_{part}")(
            listed
        )
        for part in ("key", "value")
    )
    likeness = ops.einsum("bhwnd,bmnd->bhwnm", query, key) / HEAD_WIDTH**0.5
    found = ops.einsum("bhwnm,bmnd->bhwnd", ops.softmax(likeness, axis=-1), value)
    found = layers.EinsumDense(
        "bhwnd,ndc->bhwc",
        (None, None, width),
        bias_axes="c",
        kernel_initializer="zeros",
        name=f"{name}_output",
    )(found)
    return layers.Add()([x, found])


def copy_weights(source, target):
    """Gives a generator the weights of another one that has the same layers.

    Layers of self-attention or of the output `likely` that only the target has keep
    their weights. Whether the source's chroma is scaled makes no difference.

    Args:
        source, target: models by `build_generator`.

    Raises:
        ValueError: their other layers differ.
    """
    named = {layer.name: layer for layer in source.layers}
    own = [_list_unnamed(model) for model in (source, target)]
    if len(own[0]) != len(own[1]):
        raise ValueError("The two generators do not have the same layers.")
    pairs = list(zip(*own, strict=True))
    pairs += [
        (named[layer.name], layer)
        for layer in target.layers
        if _is_named(layer) and layer.name in named
    ]
    for old, new in pairs:
        new.set_weights(old.get_weights())


def _is_named(layer):
    return layer.name.startswith(("attention_", "encoder", "chroma", "likely"))


def _list_unnamed(model):
    """The layers that Keras named, with a number that grows, as they were made."""
    unnamed = [
        layer for layer in model.layers if layer.weights and not _is_named(layer)
    ]

    def order(layer):
        number = re.search(r"_(\d+)$", layer.name)
        return type(layer).__name__, int(number[1]) if number else 0

    return sorted(unnamed, key=order)


def embed_hints(hints, factor, width):
    """Brings hints, (B, h, w, 3), to (B, h / factor, w / factor, width).

    A cell has the mean chroma of the hints in it, so that a single one is heard
    as well at the coarse levels, from where it reaches far. No hints give zeros.
    """
    mean = layers.AveragePooling2D(factor, dtype="float32")(hints)
    mask, chroma = mean[..., :1], mean[..., 1:]
    # At least one of factor**2 cells, or none.
    chroma = HINT_SCALE * chroma / ops.maximum(mask, 1 / factor**2)
    mask = ops.minimum(factor**2 * mask, 1)
    return layers.Conv2D(width, 1, use_bias=False, kernel_initializer="he_normal")(
        ops.concatenate([mask, chroma], axis=-1)
    )


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
