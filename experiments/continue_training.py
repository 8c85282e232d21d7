"""Continues the training of a generator on more photos.

    python experiments/continue_training.py runs/longer data/photos photos/more \
        --shares shares.tsv --photo-steps 300000
    python experiments/continue_training.py runs/vivid data/photos photos/more \
        --shares shares.tsv --photo-steps 25600 --loss adversarial \
        --weights runs/longer/generator_last.keras

The loss is the squared error ("mse"), Charbonnier's ("charbonnier"), or Charbonnier's
and the verdict of a new discriminator ("adversarial"). With the squared error, photos
are augmented strongly.

After each round, the run folder gets `checkpoint.weights.h5` (weights, optimizer and
history), written whole. It also gets `generator_last.keras` with the average of the
weights; its chroma is not scaled. The same command continues a killed run, and repeats
at most one round. `--photo-steps` may then differ; the learning rate falls towards the
new end. New photos in the folders join at the next round.

A round draws its photos with replacement, by the share of their prefix: the part of the
name before the first "_". The table of shares has the columns `prefix` and `share`; a
prefix that it lacks has a share of 1. The test side of `split_photos`, a tenth of the
photos, is held out; a part of it is measured after each round. A file `stop` in the run
folder ends the run after the current round.
"""

import argparse
import csv
from pathlib import Path

import keras
import numpy as np
from color_queries import add_color_queries
from train_pretrained import falling

import colorizer_tf as ct
from colorizer_tf.sources import hash_position
from colorizer_tf.training import datasets
from colorizer_tf.training.models import copy_weights

KEPT_OUT = 0.1
VALIDATION_PHOTOS = 256
WARM_UP, FINAL = 100, 0.02  # steps, and the share of the rate at the end
LOSSES = "mse", "charbonnier", "adversarial"


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--shares", help="a table of prefixes and shares")
    parser.add_argument("--weights", default=str(ct.Colorizer.WEIGHTS))
    parser.add_argument("--photo-steps", type=int, default=300_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50, help="of a round")
    parser.add_argument("--size", type=int, default=128, help="of the squares")
    parser.add_argument("--queries", type=int, default=0, help="color queries")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--loss", choices=LOSSES, default=LOSSES[0])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = vars(args).copy()
    for name in ("run_dir", "photos", "photo_steps", "shares"):
        del settings[name]
    shares = read_shares(args.shares)
    rounds = count_rounds(args)
    finished = ct.open_run(args.run_dir, settings)

    keras.config.set_dtype_policy("mixed_bfloat16")
    datasets.CACHE_BYTES = 0  # a round reads a photo once, and its cache stays
    keras.utils.set_random_seed(args.seed)
    generator = ct.build_generator()
    copy_weights(ct.Colorizer.load(args.weights).generator, generator)
    if args.queries:
        generator = add_color_queries(generator, args.queries)
    steps = rounds * args.steps
    if args.loss == "adversarial":
        gan = ct.ColorizationGAN(
            generator, ct.build_discriminator(), 0.15, pixel_loss="charbonnier"
        )
        gan.compile(*make_gan_optimizers(args.rate, steps))
    else:
        gan = ct.ColorizationGAN(generator, pixel_loss=args.loss)
        gan.compile(make_optimizer(generator, args.rate, steps))
    _, kept_out = list_photos(args.photos)
    rng = np.random.default_rng(args.seed)
    validation = ct.make_dataset(
        draw(kept_out, VALIDATION_PHOTOS, shares, rng), args.size, 64, hints=True
    )
    for number in range(finished, rounds):
        if (args.run_dir / "stop").exists():
            print("halted: there is a file stop", flush=True)
            break
        photos, _ = list_photos(args.photos)
        strong = args.loss == LOSSES[0]
        pairs = make_round(
            photos, shares, args, args.seed, number, seed=args.seed, strong=strong
        )
        # The callbacks read the checkpoint, so each round starts as after a kill.
        gan.fit(
            pairs,
            validation_data=validation,
            epochs=number + 1,
            shuffle=False,
            verbose=0,
            callbacks=ct.training_callbacks(args.run_dir),
        )


def make_optimizer(generator, rate, steps):
    """Returns AdamW with a rate that falls to a fiftieth, and averaged weights."""
    optimizer = keras.optimizers.AdamW(
        falling(rate, FINAL, steps, min(WARM_UP, steps // 2)),
        weight_decay=0.05,
        use_ema=True,
        ema_momentum=0.998,
    )
    biases = [value for value in generator.variables if value.ndim == 1]
    encoder = generator.get_layer("encoder").variables
    optimizer.exclude_from_weight_decay(encoder + biases)
    return optimizer


def make_gan_optimizers(rate, steps):
    """Returns Adam for a generator, with averaged weights, and for a discriminator."""
    return (
        keras.optimizers.Adam(
            falling(rate, FINAL, steps, min(WARM_UP, steps // 2)),
            beta_1=0.5,
            use_ema=True,
            ema_momentum=0.99,
        ),
        keras.optimizers.Adam(2e-4, beta_1=0.5),
    )


def list_photos(folders):
    """Returns the photos for training and the held-out ones: two sorted lists."""
    sides = [], []
    for folder in folders:
        for path in ct.find_photos(folder):
            sides[hash_position(path) < KEPT_OUT].append(path)
    return tuple(sorted(side) for side in sides)


def draw(photos, count, shares, rng):
    """Draws photos with replacement, by the shares of their prefixes."""
    weights = np.array([shares.get(prefix(path), 1.0) for path in photos])
    chosen = rng.choice(len(photos), count, p=weights / weights.sum())
    return [photos[index] for index in chosen]


def count_rounds(args):
    """Returns the number of rounds that have at least `--photo-steps` photos."""
    return -(-args.photo_steps // (args.steps * args.batch_size))


def make_round(photos, shares, args, stream, number, **options):
    """Returns the pairs of a round, with hints; (stream, number) seeds the draw."""
    rng = np.random.default_rng([stream, number])
    return ct.make_dataset(
        draw(photos, args.steps * args.batch_size, shares, rng),
        args.size,
        args.batch_size,
        training=True,
        first_epoch=number,
        hints=True,
        **options,
    )


def prefix(path):
    """Returns the part of a photo's name before the first "_", or ""."""
    return path.stem.split("_")[0] if "_" in path.stem else ""


def read_shares(path):
    """Returns a dictionary, prefix -> share, from a table separated by tabs."""
    if not path:
        return {}
    with open(path, newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["prefix"] or "": float(row["share"]) for row in rows}


if __name__ == "__main__":
    main()
