"""From photo files to training pairs: the split, and the tf.data pipeline."""

import hashlib
import itertools
import warnings
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
    photos,
    image_size=128,
    batch_size=64,
    training=False,
    seed=0,
    first_epoch=0,
    hints=False,
    strong=False,
    strategy=None,
):
    """Builds a `tf.data.Dataset` of (gray, color) pairs.

    In training, each photo gives a random square of it, up to twice smaller than
    its shorter side where it is large enough, and randomly mirrored; half of them
    are made paler, darker or harder, as old prints are, with the chroma they had;
    and every epoch is shuffled anew. All of this depends on `seed` and the number
    of the epoch alone. Otherwise the order is that of `photos`, and each gives
    its central square. A photo that cannot be read is named in a warning, and
    the next one that can takes its place: the number of pairs stays.

    Args:
        photos: paths of photos.
        image_size: height and width of the pairs.
        batch_size: pairs in a batch; the last one may have fewer.
        training: shuffle and augment.
        seed: the seed of both.
        first_epoch: the number of the first pass over the dataset; a run that
            is taken up again passes the number of epochs behind it.
        hints: the pairs are ((gray, hints), color), for a generator that takes
            colors that a person sets. In training, three photos in five have
            them, 1 to 100 each, most of them few, and else none.
        strong: augment more, for many passes over the same photos: squares
            down to two fifths of the photo, stretched by up to a quarter, and in
            two photos of five a rectangle of another one.
        strategy: of `workers.training_strategy`. Each of several workers reads
            its own share of each batch, which is the same as on one machine; all
            of them must have the same photos under the same names.

    Returns:
        Batches of gray photos, float32 (B, image_size, image_size, 1), and
        color photos, float32 (B, image_size, image_size, 3), both in [0, 1].
        Hints are float32 (B, image_size / 4, image_size / 4, 3): 1 and the mean
        chroma of the cell where there is one, else 0.
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

    if count_workers(strategy) == 1:
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
        # A worker that has no photos left takes part in the last step all the same.
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
    """Reads photos, and keeps the first of them, up to `CACHE_BYTES`.

    In an order that is new each time, keeping the last ones would serve less.
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
            # What a photo has, so that squares of it stay sharp.
            side = int(np.clip(min(photo_size(path)), self.shortest, self.longest))
        return read_photo(path, shorter_side=side)
