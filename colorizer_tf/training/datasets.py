"""Makes training pairs from photo files, with tf.data."""

import hashlib
import itertools
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from colorizer_tf.color import rgb_to_luma
from colorizer_tf.hints import HINT_STRIDE
from colorizer_tf.photos import PhotoError, photo_size, read_photo
from colorizer_tf.training import tf
from colorizer_tf.training.augmentation import (
    KEEP_TONE,
    ZOOM,
    apply_tone,
    central_square,
    paste_rectangle,
    random_mask,
    random_square,
    random_stretched_square,
    random_tone,
    reveal_chroma,
)
from colorizer_tf.training.workers import count_workers, require_same

CUTMIX_SHARE = 0.4
CACHE_BYTES = 3 * 2**30


def make_dataset(
    photos: Iterable[str | os.PathLike],
    image_size: int = 128,
    batch_size: int = 64,
    training: bool = False,
    seed: int = 0,
    first_epoch: int = 0,
    hints: bool = False,
    strong: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> tf.data.Dataset:
    """Builds a dataset of (gray, color) pairs from photos.

    Without `training`, each photo gives its central square, in the order of `photos`.
    In training:

    - Every epoch has a new order.
    - Each photo gives a random square, randomly mirrored. Its side is half of the
      photo's shorter side or more, and at least four fifths of `image_size`.
    - Half of the squares are made paler, darker or harder, like old prints. Their
      chroma stays.
    - All this depends on `seed` and the number of the epoch alone.

    A warning names each photo that cannot be read. The next readable photo takes its
    place, so the number of pairs stays the same.

    Args:
        photos: paths of photos.
        image_size: height and width of the pairs, in pixels.
        batch_size: the number of pairs in a batch; the last batch may have fewer.
        training: whether to shuffle and augment.
        seed: the seed of order and augmentation.
        first_epoch: the number of the first epoch. A run that continues passes the
            number of its finished epochs.
        hints: whether the pairs are ((gray, hints), color). In training, three photos
            in five have 1 to 100 hints, mostly few. Other photos have none.
        strong: whether to augment more, for many epochs on the same photos. Squares
            shrink to two fifths of the photo and are stretched by up to a quarter. Two
            photos in five get a rectangle of another photo.
        strategy: as from `training_strategy`. Each worker reads its share of each
            batch; the batches are those of one machine. All workers must have the
            same photos under the same names.

    Returns:
        Batches of gray, float32 (B, image_size, image_size, 1), and color, float32
        (B, image_size, image_size, 3), both in [0, 1]. Hints are float32
        (B, image_size / 4, image_size / 4, 3): 1 and the cell's mean chroma, or zeros.

    Raises:
        ValueError: there are no photos, or the replicas of several workers do not
            divide `batch_size`, or the workers have different photos.

    Example:

    ```python
    train = ct.make_dataset(split.train, image_size=64, training=True, hints=True)
    validation = ct.make_dataset(split.validation, image_size=64, hints=True)
    ```
    """
    photos = [str(path) for path in photos]
    if not photos:
        raise ValueError("There are no photos to make a dataset of.")
    epochs = itertools.count(first_epoch)
    cells = image_size // HINT_STRIDE
    read = _PhotoCache(photos, image_size, ZOOM * image_size if training else None)

    def order():
        if not training:
            yield from ((index, 0) for index in range(len(photos)))
            return
        rng = np.random.default_rng([seed, next(epochs)])
        for index in rng.permutation(len(photos)):
            yield index, rng.integers(2**62)

    def read_or_next(index):
        for step in range(len(photos)):
            photo = read((index + step) % len(photos))
            if photo is not None:
                return photo
        raise PhotoError("None of the photos can be read.")

    def square(index, crop_seed):
        photo = read_or_next(int(index))
        if not training:
            none = np.zeros((cells, cells, 1), np.float32)
            return central_square(photo, image_size), KEEP_TONE, none
        rng = np.random.default_rng(crop_seed)
        cut = random_stretched_square if strong else random_square
        color = cut(photo, image_size, rng)
        if strong and rng.random() < CUTMIX_SHARE:
            other = read_or_next(rng.integers(len(photos)))
            color = paste_rectangle(color, cut(other, image_size, rng), rng)
        return (
            color,
            random_tone(rng),
            random_mask(cells, rng),
        )

    def load(index, crop_seed):
        color, tone, mask = tf.numpy_function(
            square, (index, crop_seed), (tf.uint8, tf.float32, tf.float32)
        )
        return (
            tf.ensure_shape(color, (image_size, image_size, 3)),
            tf.ensure_shape(tone, 3),
            tf.ensure_shape(mask, (cells, cells, 1)),
        )

    def to_pair(color, tone, mask):
        color = tf.cast(color, tf.float32) / 255
        if training:
            color = apply_tone(color, tone)
        gray = rgb_to_luma(color)
        return ((gray, reveal_chroma(color, mask)) if hints else gray), color

    def load_batches(order, count, batch_size):
        scalar = tf.TensorSpec((), tf.int64)
        return (
            tf.data.Dataset.from_generator(order, output_signature=(scalar, scalar))
            .apply(tf.data.experimental.assert_cardinality(count))
            .map(load, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size)
        )

    def to_pairs(batches):
        return batches.map(to_pair).prefetch(2)

    if strategy is None or count_workers(strategy) == 1:
        return to_pairs(load_batches(order, len(photos), batch_size))

    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"batch_size is that of all {replicas} replicas together, and must be a "
            f"multiple of {replicas}. Received: {batch_size}"
        )
    names = "\n".join(Path(path).name for path in photos)
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    require_same("photos", f"{len(photos)}, SHA-256 of the names {digest}", strategy)

    def load_share(context):
        worker, workers = context.input_pipeline_id, context.num_input_pipelines

        def is_mine(position):
            return position % batch_size % workers == worker

        def my_order():
            yield from (photo for i, photo in enumerate(order()) if is_mine(i))

        mine = sum(map(is_mine, range(len(photos))))
        batches = load_batches(my_order, mine, batch_size // replicas)
        # All workers must take part in the last step, even one without photos.
        missing = -(-len(photos) // batch_size) * replicas // workers - len(batches)
        if missing:
            empty = tf.nest.map_structure(
                lambda spec: tf.zeros((0, *spec.shape[1:]), spec.dtype),
                batches.element_spec,
            )
            empty = tf.data.Dataset.from_tensors(empty)
            batches = batches.concatenate(empty.repeat(missing))
        return to_pairs(batches)

    return strategy.distribute_datasets_from_function(load_share)


class _PhotoCache:
    """Reads photos, and keeps the first ones in memory, up to `CACHE_BYTES`.

    With a new order in each epoch, keeping the last ones would save fewer reads.
    """

    def __init__(self, photos, shortest, longest):
        self.photos = photos
        self.shortest = shortest
        self.longest = longest
        self.kept = {}
        self.room = CACHE_BYTES

    def __call__(self, index):
        """Returns a photo, uint8 (H, W, 3), or None if it cannot be read."""
        path = self.photos[index]
        if path in self.kept:
            return self.kept[path]
        try:
            photo = self._read(path)
        except PhotoError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
            photo = None
        size = 0 if photo is None else photo.nbytes
        if size <= self.room:
            self.kept[path] = photo
            self.room -= size
        return photo

    def _read(self, path):
        side = self.shortest
        if self.longest:
            # More pixels than the photo has would blur its squares.
            side = int(np.clip(min(photo_size(path)), self.shortest, self.longest))
        return read_photo(path, shorter_side=side)
