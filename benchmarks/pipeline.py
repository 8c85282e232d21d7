"""Measures the photos per second of the input pipeline alone.

The pipeline is `make_dataset(..., training=True)` with the defaults of `02_train`. It
measures the first epoch, without a cache, and the second.

    python benchmarks/pipeline.py --photos data/photos
"""

import argparse
import time

import colorizer_tf as ct
import keras
from training_step import photos_per_second


def pipeline_rate(dataset):
    start = time.perf_counter()
    photos = sum(len(gray) for gray, _ in dataset)
    return photos / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="", help="a folder; as 02_train takes it")
    args = parser.parse_args()

    split = ct.load_split(args.photos)
    dataset = ct.make_dataset(split.train, training=True)
    first, second = pipeline_rate(dataset), pipeline_rate(dataset)
    gan = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(2e-4))
    training = photos_per_second(gan, image_size=128, batch_size=64, steps=5)
    print(
        f"pipeline, first epoch:  {first:6.0f} photos/s, {first / training:.1f} times"
    )
    print(f"pipeline, second epoch: {second:6.0f} photos/s")
    print(f"training:               {training:6.0f} photos/s")


if __name__ == "__main__":
    main()
