"""Color queries: what the whole photo says about the color of each place.

Kang et al., "DDColor" (2023), made small. `continue_training.py --queries 32` trains a
generator with them.
"""

import keras
import numpy as np
from keras import layers, ops

from colorizer_tf.training.models import HEAD_WIDTH, HEADS, join_at_full_size

ROUNDS = 2


def add_color_queries(generator, count, width=128):
    """Returns a generator whose chroma also depends on learned queries.

    The queries look at the features at strides 32 and 16, and at each other. Their
    likeness to the decoder's features gives `count` maps, which the last layer reads.
    At first it ignores them.

    Args:
        generator: a model by `build_generator`. Both models share their layers.
        count: the number of queries.
        width: the channels of a query.
    """
    gray, *_ = generator.inputs
    old = generator.get_layer("chroma")
    features = old.input
    tokens = ops.concatenate(
        [
            layers.Dense(width)(layers.Reshape((-1, x.shape[-1]))(x))
            for x in (
                generator.get_layer(f"attention_{stride}_norm").output
                for stride in (32, 16)
            )
        ],
        axis=1,
    )
    numbers = ops.zeros_like(tokens[:, :1, 0], "int32") + np.arange(count)
    queries = layers.Embedding(count, width)(numbers)
    for _ in range(ROUNDS):
        x = layers.LayerNormalization()(queries)
        queries = queries + layers.MultiHeadAttention(HEADS, HEAD_WIDTH)(x, tokens)
        x = layers.LayerNormalization()(queries)
        queries = queries + layers.MultiHeadAttention(HEADS, HEAD_WIDTH)(x, x)
        x = layers.LayerNormalization()(queries)
        queries = queries + layers.Dense(width)(layers.Dense(2 * width, "relu")(x))
    places = layers.Dense(width)(features)
    maps = ops.einsum("bhwc,bkc->bhwk", places, queries) / width**0.5
    new = layers.Conv2D(2, 1, dtype="float32", name="chroma")
    chroma = new(ops.concatenate([features, maps], axis=-1))
    kernel, bias = old.get_weights()
    new.set_weights([np.pad(kernel, [(0, 0), (0, 0), (0, count), (0, 0)]), bias])
    rgb = join_at_full_size(gray, chroma)
    return keras.Model(generator.input, rgb, name=generator.name)
