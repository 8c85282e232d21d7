from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from keras import layers

from colorizer_tf.color import rgb_to_luma
from colorizer_tf.training.encoder import build_encoder

HEAD = Path(__file__).parent / "efficientnet_lite0_head.npz"


def classify(photo, channels):
    """Returns the ImageNet class of a photo; the package lacks this head."""
    encoder = build_encoder(channels)
    head = np.load(HEAD)

    def dequantize(name):
        return head[f"{name}_kernel"] * head[f"{name}_kernel_scale"]

    x = layers.Conv2D(1280, 1, activation="relu6", name="head")(encoder.outputs[-1])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1000, name="classes")(x)
    classifier = keras.Model(encoder.inputs[0], x)
    for name in ("head", "classes"):
        classifier.get_layer(name).set_weights([dequantize(name), head[f"{name}_bias"]])
    return int(np.argmax(classifier(photo[None])))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "known"), [("cat", 285), ("coffee", 967)])
def test_it_knows_what_it_sees(name, known, channels):
    photo = getattr(skimage.data, name)() / np.float32(255)
    side = min(photo.shape[:2])
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    photo = np.asarray(
        keras.ops.image.resize(photo[top:, left:][:side, :side], (224, 224))
    )
    if channels == 1:
        photo = rgb_to_luma(photo)
    assert classify(photo, channels) == known
