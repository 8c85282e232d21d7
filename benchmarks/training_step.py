"""Compares the photos per second of a GAN step: ours and the original's networks.

Both run `ColorizationGAN.train_step` on batches of random photos, in one process. Ours
run at 128x128 with the defaults of `02_train`; the original's
(github.com/asskicker54/colorizer) run at their 120x120.

    python benchmarks/training_step.py
"""

import argparse
import os
import platform
import time

import colorizer_tf as ct
import keras
import numpy as np
from keras import layers


def build_original_generator():
    gray = keras.Input((120, 120, 1))
    x = gray
    skips = []
    for filters in ((16, 32, 32), (32, 64, 64), (64, 128, 128)):
        for width, kernel in zip(filters, (5, 3, 3), strict=True):
            x = layers.LeakyReLU()(layers.Conv2D(width, kernel)(x))
        skips.append(x)
    x = layers.Conv2D(128, 3, padding="same", activation="tanh")(x)
    for filters in ((128, 128, 64), (64, 64, 32), (32, 32, 3)):
        x = layers.Concatenate()([x, skips.pop()])
        for width, kernel in zip(filters, (3, 3, 5), strict=True):
            x = layers.Conv2DTranspose(width, kernel, activation="relu")(x)
    model = keras.Model(gray, x, name="original_generator")
    assert model.count_params() == 1_406_403, model.count_params()
    return model


def build_original_discriminator():
    photo = keras.Input((120, 120, 3))
    x = photo
    for width, kernel in ((32, 7), (64, 5), (128, 3), (256, 3)):
        for _ in range(2):
            x = layers.Conv2D(width, kernel, activation="relu")(x)
        x = layers.MaxPool2D()(x)
    x = layers.Flatten()(x)
    for width in (512, 128, 16):
        x = layers.Dense(width, activation="relu")(x)
    # Here the loss takes logits and includes the original's final sigmoid.
    model = keras.Model(photo, layers.Dense(1)(x), name="original_discriminator")
    assert model.count_params() == 1_907_905, model.count_params()
    return model


def photos_per_second(gan, image_size, batch_size, steps):
    rng = np.random.default_rng(0)
    color = rng.random((batch_size, image_size, image_size, 3), np.float32)
    inputs = color.mean(axis=-1, keepdims=True)
    if len(gan.generator.inputs) == 2:
        side = image_size // 4
        inputs = inputs, np.zeros((batch_size, side, side, 3), np.float32)
    gan.train_on_batch(inputs, color)  # builds the graph, warms up
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        gan.train_on_batch(inputs, color)
        seconds.append(time.perf_counter() - start)
    return batch_size / np.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="of ours, timed")
    parser.add_argument("--original-steps", type=int, default=2)
    parser.add_argument(
        "--precision", default="float32", help="or mixed_bfloat16, of ours alone"
    )
    args = parser.parse_args()

    keras.config.set_dtype_policy(args.precision)
    ours = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
    ours.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(2e-4))
    alone = ct.ColorizationGAN(ct.build_generator())
    alone.compile(keras.optimizers.Adam(1e-3))
    keras.config.set_dtype_policy("float32")
    original = ct.ColorizationGAN(
        build_original_generator(),
        build_original_discriminator(),
        adversarial_weight=0.0,
    )
    original.compile(keras.optimizers.Adam(5e-4), keras.optimizers.Adam(5e-4))

    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    rates = {}
    for name, gan, size, steps in (
        ("ours", ours, 128, args.steps),
        ("ours, pretraining", alone, 128, args.steps),
        ("the original", original, 120, args.original_steps),
    ):
        rates[name] = photos_per_second(gan, size, args.batch_size, steps)
        print(f"{name:>17}, {size}x{size}: {rates[name]:6.2f} photos/s", flush=True)
    print(f"ratio: {rates['ours'] / rates['the original']:.1f}")


if __name__ == "__main__":
    main()
