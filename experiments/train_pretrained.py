"""Trains a generator by the recipe of the pretrained one.

    python experiments/train_pretrained.py data/photos more large

The first folder is the project's own set, from `make photos`. The others hold more
color photos, whose names begin with their source and "_". Scenes count twice. With
`--steps 0.001`, the whole recipe runs in minutes, as a test without useful results.
"""

import argparse

import colorizer_tf as ct
from colorizer_tf.training import keras
from colorizer_tf.training.encoder import freeze_early_layers
from colorizer_tf.training.models import scale_chroma, to_float32


def main():
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders")
    parser.add_argument("--steps", type=float, default=1, help="a fraction of them")
    parser.add_argument("--output", default="generator.keras")
    args = parser.parse_args()

    keras.config.set_dtype_policy("mixed_bfloat16")
    photos = gather(*args.photos)
    generator = ct.build_generator()
    train_on_error(generator, photos, args.steps)
    cautious = generator.get_weights()
    train_against_discriminator(generator, photos, args.steps)
    both = zip(cautious, generator.get_weights(), strict=True)
    generator.set_weights([0.6 * one + 0.4 * other for one, other in both])
    generator = scale_chroma(generator, factor=1.4, knee=0.01)
    to_float32(generator).save(args.output)


def gather(own, *folders):
    """Returns the training photos, with scenes twice, because they are few."""
    photos = list(ct.load_split(own).train)
    scenes = list(photos)
    for folder in folders:
        split = ct.split_photos(ct.find_photos(folder), validation_fraction=0)
        photos += split.train
        scenes += [path for path in split.train if path.name.startswith("intel_")]
    return photos + scenes


def train_on_error(generator, photos, fraction):
    """Trains on the squared error: first the decoder alone, then later stages too."""
    encoder = generator.get_layer("encoder")
    pairs = ct.make_dataset(photos, 128, 256, training=True, hints=True, strong=True)
    for frozen, rate, to, steps in ((True, 1e-3, 0.5, 670), (False, 4e-4, 0.01, 4100)):
        encoder.trainable = not frozen
        if not frozen:
            freeze_early_layers(encoder)
        steps = max(2, round(fraction * steps))
        adam = keras.optimizers.AdamW(
            falling(rate, to, steps, warmup=min(100, steps // 2)),
            weight_decay=0.3,
            use_ema=True,
            ema_momentum=0.999,
        )
        biases = [value for value in generator.variables if value.ndim == 1]
        adam.exclude_from_weight_decay(encoder.variables + biases)
        gan = ct.ColorizationGAN(generator)
        gan.compile(adam)
        fit(gan, pairs, steps)


def train_against_discriminator(generator, photos, fraction):
    """Trains with Charbonnier's loss and the discriminator, for a short time."""
    pairs = ct.make_dataset(photos, training=True, seed=31, hints=True)
    gan = ct.ColorizationGAN(
        generator,
        ct.build_discriminator(),
        adversarial_weight=0.15,
        pixel_loss="charbonnier",
    )
    steps = max(2, round(fraction * 400))
    warmup = min(30, steps // 2)
    g_optimizer = keras.optimizers.Adam(
        falling(1.5e-4, 0.1, 1.4 * steps, warmup),
        beta_1=0.5,
        use_ema=True,
        ema_momentum=0.99,
    )
    gan.compile(g_optimizer, keras.optimizers.Adam(2e-4, beta_1=0.5))
    fit(gan, pairs, steps)


def falling(rate, to, steps, warmup):
    """Returns a learning rate that first rises, then falls along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        rate / warmup, steps - warmup, to, warmup_target=rate, warmup_steps=warmup
    )


def fit(gan, pairs, steps):
    """Trains, and gives the generator the average of its weights."""
    gan.fit(pairs.repeat(), steps_per_epoch=steps, epochs=1, shuffle=False)
    gan.g_optimizer.finalize_variable_values(gan.generator.trainable_variables)


if __name__ == "__main__":
    main()
