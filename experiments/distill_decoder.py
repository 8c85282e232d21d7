"""Teaches the decoder of a new generator what an old generator's decoder computes.

    python experiments/distill_decoder.py old.keras new.keras data/photos photos/more \
        --shares shares.tsv --photo-steps 100000

The old generator may have other blocks in its decoder. The new one takes over its
encoder, which stays frozen. The loss compares the features after each stride of the
decoder, and the chroma, each relative to its mean square (Romero et al., "FitNets:
hints for thin deep nets", 2014). Photos are drawn as in `continue_training.py`, some
with hints. The result is written after each round; `--start` goes on from one, and
`--first-round` keeps it from drawing the same photos again.
"""

import argparse
import time

import keras
from continue_training import (
    FINAL,
    WARM_UP,
    count_rounds,
    list_photos,
    make_round,
    read_shares,
)
from keras import ops
from train_pretrained import falling

import colorizer_tf as ct
from colorizer_tf.training import datasets, tf
from colorizer_tf.training.models import build_generator, copy_weights

# What counts in the end are the colors.
CHROMA_WEIGHT = 8
# The convolutions of the context and of the branches at a stride; and the strides.
CONTEXT, BRANCHES, STRIDES = 3, 3, 3


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--shares", help="a table of prefixes and shares")
    parser.add_argument("--start", help="a result to start at")
    parser.add_argument("--first-round", type=int, default=0)
    parser.add_argument("--photo-steps", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200, help="of a round")
    parser.add_argument("--size", type=int, default=128, help="of the squares")
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()

    keras.config.set_dtype_policy("mixed_bfloat16")
    datasets.CACHE_BYTES = 0
    keras.utils.set_random_seed(0)
    old = ct.Colorizer.load(args.old).generator
    new = build_generator()
    # A model whose graph was split cannot be saved.
    written = build_generator()
    copy_shared(old, new)
    if args.start:
        copy_weights(keras.models.load_model(args.start, compile=False), new)
    teacher, student = split_decoder(old), split_decoder(new)
    rounds = count_rounds(args)
    whole = Distillation(new.get_layer("encoder"), teacher, student)
    whole.compile(make_adam(args.rate, rounds * args.steps))
    shares, (photos, _) = read_shares(args.shares), list_photos(args.photos)
    for number in range(args.first_round, args.first_round + rounds):
        begin = time.monotonic()
        pairs = make_round(photos, shares, args, 2, number)
        logs = whole.fit(pairs, verbose=0).history
        live = student.get_weights()
        whole.optimizer.finalize_variable_values(student.trainable_variables)
        copy_weights(new, written)
        written.save(args.new)
        student.set_weights(live)
        losses = "  ".join(f"{name} {value[-1]:.4f}" for name, value in logs.items())
        seconds = time.monotonic() - begin
        print(f"round {number + 1}  {seconds:.0f} s  {losses}", flush=True)


def make_adam(rate, steps):
    """Returns Adam with a rate that falls, and averaged weights."""
    rate = falling(rate, FINAL, steps, min(WARM_UP, steps // 2))
    return keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.99)


def copy_shared(old, new):
    """Copies the encoder, and the convolutions outside of the decoder's blocks."""
    for name in ("encoder", "chroma"):
        new.get_layer(name).set_weights(old.get_layer(name).get_weights())
    for source, target in zip(list_shared(old), list_shared(new), strict=True):
        target.set_weights(source.get_weights())


def list_shared(model):
    """Returns three convolutions of the context and three of each stride."""
    unnamed = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.name.startswith("conv2d")
    ]
    unnamed.sort(key=lambda layer: int((layer.name + "_0").split("_")[1]))
    start, size = CONTEXT, (len(unnamed) - CONTEXT) // STRIDES
    shared = unnamed[:start]
    for first in range(start, len(unnamed), size):
        shared += unnamed[first : first + BRANCHES]
    return shared


def split_decoder(model):
    """Returns a model from the encoder's features and hints to what the loss compares.

    These are the features after each stride, and the chroma.
    """
    *_, hints = model.inputs
    chroma = model.get_layer("chroma")
    projections = [
        layer.input._keras_history.operation
        for layer in model.layers
        if isinstance(layer, keras.layers.UpSampling2D)
    ]
    results = [layer.input for layer in projections] + [chroma.input, chroma.output]
    coarse_first = [
        layer.input for layer in model.layers if layer.name.startswith("rescaling")
    ]
    return keras.Model([*coarse_first, hints], results)


class Distillation(keras.Model):
    """Trains the student on what the teacher computes from the same features."""

    def __init__(self, encoder, teacher, student):
        super().__init__()
        self.encoder, self.teacher, self.student = encoder, teacher, student
        self.encoder.trainable = self.teacher.trainable = False
        self.built = True

    def call(self, inputs):
        raise NotImplementedError

    def train_step(self, data):
        (gray, hints), _ = data
        _, *features = self.encoder(gray)
        features = [*features[::-1], hints]
        wanted = self.teacher(features)
        with tf.GradientTape() as tape:
            results = self.student(features, training=True)
            losses = [
                ops.mean(ops.square(ops.cast(one, "float32") - other))
                / ops.mean(ops.square(other))
                for one, other in zip(results, wanted, strict=True)
            ]
            loss = sum(losses[:-1]) + CHROMA_WEIGHT * losses[-1]
        variables = self.student.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {f"part_{number}": loss for number, loss in enumerate(losses)}


if __name__ == "__main__":
    main()
