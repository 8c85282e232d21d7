"""EfficientNet-Lite0, an encoder pretrained on ImageNet.

Mingxing Tan and Quoc Le, "EfficientNet: Rethinking model scaling for convolutional
neural networks" (2019). TensorFlow published the variant Lite0 in 2020, with ReLU6 and
without squeeze-and-excitation. The package contains the weights, with batch
normalization folded into them (see benchmarks/convert_encoder.py).
"""

from pathlib import Path

import numpy as np
from keras import layers

from colorizer_tf.training import keras

WEIGHTS = Path(__file__).parents[1] / "weights/efficientnet_lite0.npz"
STEM_WIDTH = 32
# expansion, kernel, strides, channels and blocks of each stage
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def build_encoder(
    channels: int = 1, weights: str | None = "imagenet", name: str = "encoder"
) -> keras.Model:
    """Builds EfficientNet-Lite0 without its head.

    Args:
        channels: 3 for RGB, 1 for gray. With the same weights, a gray photo gives the
            features of its three equal RGB channels.
        weights: "imagenet", or None for random weights.
        name: the model's name.

    Returns:
        A functional model: photos (B, H, W, channels) in [0, 1] to a list of features
        at strides 2, 4, 8, 16 and 32, of 16, 24, 40, 112 and 320 channels. H and W are
        free, and best multiples of 32.

    Raises:
        ValueError: the weights or the number of channels are unknown.

    Example:

    ```python
    encoder = ct.build_encoder(channels=3)
    features = encoder(photos)  # photos: (B, H, W, 3) in [0, 1]
    ```
    """
    if weights not in ("imagenet", None):
        raise ValueError(f'weights must be "imagenet" or None. Received: {weights!r}')
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3. Received: {channels}")
    photo = keras.Input((None, None, channels), name="photo")
    x = layers.Rescaling(255 / 128, -127 / 128)(photo)
    x = layers.Conv2D(
        STEM_WIDTH, 3, 2, "same", kernel_initializer="he_normal", name="stem"
    )(x)
    x = _relu6(x)
    features = []
    for stage, (expansion, kernel, strides, width, blocks) in enumerate(STAGES, 1):
        if strides == 2:
            features.append(x)
        for block in range(blocks):
            x = apply_inverted_residual(
                x, expansion, kernel, 1 if block else strides, width, f"{stage}{block}"
            )
    encoder = keras.Model(photo, [*features, x], name=name)
    if weights:
        load_imagenet_weights(encoder)
    return encoder


def apply_inverted_residual(x, expansion, kernel, strides, width, name):
    """Applies a 1x1 expansion, a depthwise convolution and a 1x1 projection.

    The input is added to the output if both have the same shape (Sandler et al.,
    "MobileNetV2: inverted residuals and linear bottlenecks", 2018).
    """
    shortcut = x
    if expansion > 1:
        x = layers.Conv2D(
            expansion * x.shape[-1],
            1,
            kernel_initializer="he_normal",
            name=f"{name}_expand",
        )(x)
        x = _relu6(x)
    x = layers.DepthwiseConv2D(
        kernel,
        strides,
        "same",
        # He initialization: Keras' own would count all channels as fan-in here.
        depthwise_initializer=keras.initializers.RandomNormal(0, 2**0.5 / kernel),
        # In bfloat16, oneDNN takes 10 to 30 times as long for the gradients.
        dtype="float32",
        name=f"{name}_depthwise",
    )(x)
    x = _relu6(x)
    x = layers.Conv2D(
        width, 1, kernel_initializer="lecun_normal", name=f"{name}_project"
    )(x)
    if strides == 1 and shortcut.shape[-1] == width:
        x = layers.Add()([shortcut, x])
    return x


def _relu6(x):
    return layers.ReLU(6, dtype="float32")(x)


def load_imagenet_weights(encoder):
    """Loads the ImageNet weights into an encoder of `build_encoder`."""
    with np.load(WEIGHTS) as weights:
        for layer in encoder.layers:
            if not layer.weights:
                continue
            kernel = weights[f"{layer.name}_kernel"].astype("float32")
            if layer.name == "stem" and encoder.input_shape[-1] == 1:
                kernel = kernel.sum(axis=2, keepdims=True)
            layer.set_weights([kernel, weights[f"{layer.name}_bias"]])


def freeze_early_layers(encoder):
    """Freezes the first stages, up to stride 8, and all depthwise kernels.

    They hold a fiftieth of the weights, and detect edges and textures rather than
    objects. Training them would take two fifths of a training step.
    """
    for layer in encoder.layers:
        early = layer.name == "stem" or layer.name[0] in "123"
        layer.trainable = not (early or layer.name.endswith("depthwise"))
