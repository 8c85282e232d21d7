"""Builds the two networks: a generator from gray to color, and a discriminator."""

import re
from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from colorizer_tf.color import add_chroma, limit_chroma
from colorizer_tf.suggestions import CHROMA_BINS
from colorizer_tf.training import keras
from colorizer_tf.training.encoder import build_encoder, freeze_early_layers

CHROMA_STRIDE = 4
LIMITED = "limited_chroma"
# Both scale what the decoder adds up to about 1, so that every part has an effect.
FEATURE_SCALE = 1 / 8
HINT_SCALE = 8
# The number and the width of the heads of self-attention.
HEADS, HEAD_WIDTH = 4, 32
# The bottlenecks at each stride of the decoder.
BLOCKS = 2


def build_generator(
    encoder_weights: str | None = "imagenet",
    widths: Sequence[int] = (64, 128, 256, 128),
    hints: bool = True,
    name: str = "generator",
) -> keras.Model:
    """Builds a generator: a U-Net on a pretrained encoder.

    Self-attention at strides 32 and 16 sees the whole photo.
    It predicts chroma at a quarter of the photo's size, enlarges it bilinearly, and
    joins it with the gray photo. So the result has the luma of the input (see
    `color.limit_chroma`).

    Args:
        encoder_weights: "imagenet", which freezes the first stages and all depthwise
            kernels. None starts with random weights, and trains all of them.
        widths: the decoder's channels at strides 4, 8, 16 and 32.
        hints: whether the generator takes hints.
        name: the model's name.

    Returns:
        A functional model: gray (B, H, W, 1) in [0, 1] and hints
        (B, H / 4, W / 4, 3) to RGB (B, H, W, 3) in [0, 1]. A cell with a hint holds 1
        and the chroma (Cb, Cr); all other cells hold zeros. H and W are free
        multiples of 32.

    Example:

    ```python
    generator = ct.build_generator()
    rgb = generator([gray, hints])
    ```
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
    if hints:  # at this stride, a hint reaches a whole sky
        branches.append(embed_hints(inputs[1], 8, width))
    context = layers.ReLU()(layers.Add()(branches))
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
        if factor == 4:
            x = apply_self_attention(x, "attention_16")
        for _ in range(BLOCKS):
            x = apply_bottleneck(x, width)
    # With zeros, training starts from the gray photo, not from random colors.
    chroma = layers.Conv2D(
        2, 1, kernel_initializer="zeros", dtype="float32", name="chroma"
    )(x)
    rgb = join_at_full_size(gray, chroma)
    return keras.Model(inputs if hints else gray, rgb, name=name)


def scale_chroma(generator: keras.Model, factor: float, knee: float) -> keras.Model:
    """Returns a generator with more vivid colors, and fainter faint colors.

    Chroma c becomes factor * c * |c| / (|c| + knee). Training on errors gives cautious
    colors, so the factor makes them vivid. Chroma below the knee is mostly doubt, and
    would tint a gray wall or coat.

    Args:
        generator: a model by `build_generator`. Both models share their layers, so
            training one trains the other. This scaling replaces an earlier one.
        factor: the factor for chroma far above the knee.
        knee: the |(Cb, Cr)| that gets half of the factor. 0 scales all colors alike.
    """
    chroma = generator.get_layer("chroma").output
    # 1e-8, because the root has no gradient at 0.
    length = ops.sqrt(ops.sum(ops.square(chroma), axis=-1, keepdims=True) + 1e-8)
    chroma = factor * length / (length + knee) * chroma
    gray, *_ = generator.inputs
    rgb = join_at_full_size(gray, chroma)
    return keras.Model(generator.input, rgb, name=generator.name)


def add_likely(generator: keras.Model, width: int = 128) -> keras.Model:
    """Returns a generator with a second output, `likely`.

    Zhang, Isola and Efros, "Colorful image colorization" (2016). The new layers read
    the features of the chroma layer. No gradient passes to these features, so training
    the new layers does not change the colors.

    Args:
        generator: a model by `build_generator` or `scale_chroma`. Both models share
            their layers.
        width: the channels of the new convolution.

    Returns:
        A functional model to RGB (B, H, W, 3) and `likely`, the probabilities of
        `suggestions.CHROMA_BINS`, (B, H / 4, W / 4, bins).
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


def build_discriminator(width: int = 64, name: str = "discriminator") -> keras.Model:
    """Builds a classifier that tells real photos from generated ones.

    A small head at each of four strides judges the frozen ImageNet features of the
    encoder (Sauer et al., "Projected GANs converge faster", 2021). So from the first
    step, it sees skin and grass rather than pixels.

    Args:
        width: the channels of the heads' convolutions.
        name: the model's name.

    Returns:
        A functional model: RGB (B, H, W, 3) in [0, 1] to logits
        (B, H / 32, W / 32, 4), one for each patch of the photo and each head. A logit
        above 0 means real.

    Example:

    ```python
    gan = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
    ```
    """
    photo = keras.Input((None, None, 3), name="photo")
    encoder = build_encoder(channels=3)
    encoder.trainable = False
    verdicts = []
    for x, halvings in zip(encoder(photo)[1:], (3, 2, 1, 0), strict=True):
        x = layers.Rescaling(FEATURE_SCALE)(x)
        for strides in [2] * halvings or [1]:
            x = SpectralNormalization(layers.Conv2D(width, 4, strides, padding="same"))(
                x
            )
            x = layers.LeakyReLU(0.2)(x)
        verdicts.append(SpectralNormalization(layers.Conv2D(1, 1))(x))
    logits = layers.Concatenate(dtype="float32", name="logits")(verdicts)
    return keras.Model(photo, logits, name=name)


@keras.saving.register_keras_serializable("colorizer_tf")
class SpectralNormalization(layers.SpectralNormalization):
    """Keras' layer, without its case for a kernel of zeros.

    That condition takes a quarter of the time before the first training step.
    """

    def call(self, inputs, training=False):
        if training:
            vector_u, kernel = self.normalized_weights()
            self.vector_u.assign(vector_u)
            self.kernel.assign(kernel)
        return ops.cast(self.layer(inputs), inputs.dtype)


def apply_conv(x, width, size=3, activation="relu"):
    """Applies a convolution with a square kernel."""
    return layers.Conv2D(
        width,
        size,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal",
    )(x)


def apply_bottleneck(x, width):
    """Applies a bottleneck, and adds the input, which has the same width.

    A 1x1 convolution halves the width, and another one restores it, so the 3x3
    convolution between them costs a quarter (He et al., "Deep residual learning for
    image recognition", 2015).
    """
    residual = apply_conv(apply_conv(x, width // 2, 1), width // 2)
    return layers.ReLU()(layers.Add()([x, apply_conv(residual, width, 1, None)]))


def apply_self_attention(x, name):
    """Applies self-attention over all places, and adds the result to the input.

    Vaswani et al., "Attention is all you need" (2017). Queries keep height and width,
    which may be free. Keys and values are a list of places. Before training, the
    result is zero.

    Args:
        x: features (B, h, w, C).
        name: the prefix of the names of its layers.

    Returns:
        Features (B, h, w, C).
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
    """Copies the weights of a generator to another one with the same layers.

    The target may have the output `likely` in addition; its layers keep their weights.
    Each model may be scaled by `scale_chroma`.

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
    """Returns the layers that Keras named, in the order in which they were made."""
    unnamed = [
        layer for layer in model.layers if layer.weights and not _is_named(layer)
    ]

    def order(layer):
        number = re.search(r"_(\d+)$", layer.name)
        return type(layer).__name__, int(number[1]) if number else 0

    return sorted(unnamed, key=order)


def embed_hints(hints, factor, width):
    """Brings hints, (B, h, w, 3), to (B, h / factor, w / factor, width).

    A cell has the mean chroma of its hints. So a single hint also has its full effect
    at coarse levels, where it reaches far. No hints give zeros.
    """
    mean = layers.AveragePooling2D(factor, dtype="float32")(hints)
    mask, chroma = mean[..., :1], mean[..., 1:]
    # The mean mask is 0, or at least one of factor**2 cells.
    chroma = HINT_SCALE * chroma / ops.maximum(mask, 1 / factor**2)
    mask = ops.minimum(factor**2 * mask, 1)
    return layers.Conv2D(width, 1, use_bias=False, kernel_initializer="he_normal")(
        ops.concatenate([mask, chroma], axis=-1)
    )


def join_at_full_size(gray, chroma):
    """Returns RGB, (B, H, W, 3), of chroma, (B, H / 4, W / 4, 2), and the gray photo.

    The layer `LIMITED` has the chroma of the result; an export returns it.
    """
    chroma = limit_chroma(gray, upsample_bilinear(chroma, CHROMA_STRIDE))
    return add_chroma(gray, layers.Identity(dtype="float32", name=LIMITED)(chroma))


def upsample_bilinear(x, factor):
    """Enlarges (B, h, w, C) to (B, factor * h, factor * w, C)."""
    # `UpSampling2D("bilinear")` cannot be exported with free sizes, so this is a
    # transposed convolution with a fixed kernel. Without padding, it would fade to 0
    # at the border.
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
    """Returns a copy of a model that computes in float32 alone.

    A saved model keeps the mixed precision of its training, and is slow on processors
    without it.
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
