"""Trains the output `likely` of a generator, and leaves its colors unchanged.

    python experiments/train_likely.py generator.keras likely.keras data/photos \
        --shares shares.tsv --photo-steps 100000

The loss is the cross-entropy against soft-encoded real chroma, as in Zhang et al.
(2016); colorful places count more. Photos are drawn as in `continue_training.py`, some
with hints. The result is written after each round.
"""

import argparse
from pathlib import Path

import keras
from continue_training import (
    count_rounds,
    list_photos,
    make_optimizer,
    make_round,
    read_shares,
)
from keras import ops

from colorizer_tf.color import rgb_to_chroma
from colorizer_tf.hints import HINT_STRIDE
from colorizer_tf.suggestions import BIN_STEPS, CHROMA_BINS, compress_chroma
from colorizer_tf.training.models import add_likely

BINS = compress_chroma(CHROMA_BINS)
# The width of the soft encoding: half the distance of two bins.
SIGMA = 0.5 / BIN_STEPS
# The weight of a gray place, relative to a colorful one.
GRAY_WEIGHT, COLORFUL = 0.25, 0.1


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--shares", help="a table of prefixes and shares")
    parser.add_argument("--start", help="a generator whose output `likely` to start at")
    parser.add_argument("--photo-steps", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100, help="of a round")
    parser.add_argument("--size", type=int, default=128, help="of the squares")
    parser.add_argument("--rate", type=float, default=2e-3)
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    generator = keras.models.load_model(args.generator, compile=False)
    # The result is another copy, whose layers stay trainable.
    written = add_likely(keras.models.load_model(args.generator, compile=False))
    generator.trainable = False
    whole = add_likely(generator)
    if args.start:
        old = keras.models.load_model(args.start, compile=False)
        for layer in whole.layers[-2:]:
            layer.set_weights(old.get_layer(layer.name).get_weights())
    head = keras.Model(whole.input, whole.outputs[1])
    rounds = count_rounds(args)
    head.compile(make_optimizer(head, args.rate, rounds * args.steps), cross_entropy)
    shares = read_shares(args.shares)
    photos, _ = list_photos(args.photos)
    for number in range(rounds):
        pairs = make_round(photos, shares, args, 1, number, strong=True)
        pairs = pairs.map(lambda inputs, color: (inputs, encode(color)))
        head.fit(pairs, epochs=number + 1, initial_epoch=number, verbose=2)
        live = head.get_weights()
        head.optimizer.finalize_variable_values(head.trainable_variables)
        for layer in written.layers[-2:]:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
        written.save(args.result)
        head.set_weights(live)


def encode(color):
    """Returns weight and soft-encoded chroma, (B, H / 4, W / 4, 1 + bins)."""
    chroma = ops.average_pool(rgb_to_chroma(color), HINT_STRIDE, HINT_STRIDE)
    places = compress_chroma(chroma)[..., None, :]
    distance = ops.sum(ops.square(places - BINS), axis=-1)
    likely = ops.softmax(-distance / (2 * SIGMA**2))
    length = ops.sqrt(ops.sum(ops.square(chroma), axis=-1, keepdims=True))
    weight = GRAY_WEIGHT + ops.minimum(length / COLORFUL, 1)
    return ops.concatenate([weight, likely], axis=-1)


def cross_entropy(target, likely):
    """The weighted cross-entropy of each place."""
    weight, target = target[..., 0], target[..., 1:]
    return -weight * ops.sum(target * ops.log(likely + 1e-7), axis=-1)


if __name__ == "__main__":
    main()
