"""From photo files to training pairs: the split, and the tf.data pipeline."""

import hashlib
import itertools
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma, rgb_to_luma
from colorizer_tf.hints import HINT_STRIDE, random_mask, reveal_chroma
from colorizer_tf.photos import PhotoError, photo_size, read_photo
from colorizer_tf.survey import survey_photos
from colorizer_tf.workers import count_workers, require_same

ZOOM = 2
SHARPNESS = 0.8
STRONG_ZOOM = 0.4
STRETCH = 0.25
CUTMIX_SHARE = 0.4
KEEP_TONE = np.float32([1, 0, 1])
CACHE_BYTES = 3 * 2**30


@dataclass
class Split:
    """Photos by side, and those that were left out and why; lists of paths.

    `source` says where `load_split` took them from: a folder, or "sample".
    """

    train: list[Path] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    test: list[Path] = field(default_factory=list)
    near_gray: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    source: str = ""

    @property
    def photos(self):
        """All of them, those that were left out too, sorted."""
        kept = self.train + self.validation + self.test
        return sorted(kept + self.near_gray + self.unreadable)

    def __str__(self):
        return (
            f"{len(self.photos)} photos: {len(self.train)} for training, "
            f"{len(self.validation)} for validation, {len(self.test)} for the test; "
            f"left out: {len(self.near_gray)} near-gray, "
            f"{len(self.unreadable)} unreadable"
        )


def split_photos(
    photos, test_fraction=0.1, validation_fraction=0.05, seed=0, keep_near_gray=False
):
    """Divides photos into a training, a validation and a test side.

    A hash of `seed` and the photo's file name decides, so a photo keeps its
    side whatever the order of the folder, and when others are added. Photos
    that cannot be read, and near-gray ones (mean CIE chroma below 4: there is
    no colour in them to learn or to compare with), are left out; what was left
    out is printed.

    Args:
        photos: paths, as from `find_photos`.
        test_fraction, validation_fraction: the expected shares of these sides.
        seed: another seed gives another division.
        keep_near_gray: True keeps the near-gray ones.

    Returns:
        A `Split`.
    """
    split = Split()
    for facts in survey_photos(photos):
        if facts.error:
            warnings.warn(f"left out: {facts.error}", stacklevel=2)
            split.unreadable.append(facts.path)
        elif facts.near_gray and not keep_near_gray:
            split.near_gray.append(facts.path)
        else:
            position = hash_position(facts.path, seed)
            if position < test_fraction:
                split.test.append(facts.path)
            elif position < test_fraction + validation_fraction:
                split.validation.append(facts.path)
            else:
                split.train.append(facts.path)
    print(split)
    return split


def hash_position(path, seed=0):
    """Returns where `split_photos` puts a photo, by its name alone: in [0, 1)."""
    # macOS hands out decomposed names; the same photo must hash alike elsewhere.
    name = unicodedata.normalize("NFC", Path(path).name)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


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
    """Builds a `tf.data.Dataset` of (gray, colour) pairs.

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
        hints: the pairs are ((gray, hints), colour), for a generator that takes
            colours that a person sets. In training, three photos in five have
            them, 1 to 100 each, most of them few, and else none.
        strong: augment more, for many passes over the same photos: squares
            down to two fifths of the photo, stretched by up to a quarter, and in
            two photos of five a rectangle of another one.
        strategy: of `workers.training_strategy`. Each of several workers reads
            its own share of each batch, which is the same as on one machine; all
            of them must have the same photos under the same names.

    Returns:
        Batches of gray photos, float32 (B, image_size, image_size, 1), and
        colour photos, float32 (B, image_size, image_size, 3), both in [0, 1].
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
        colour = cut(photo, image_size, rng)
        if strong and rng.random() < CUTMIX_SHARE:
            other = read_or_next(rng.integers(len(photos)))
            colour = paste_rectangle(colour, cut(other, image_size, rng), rng)
        return (
            colour,
            random_tone(rng),
            random_mask(cells, rng),
        )

    def load(index, crop_seed):
        colour, tone, mask = tf.numpy_function(
            square, (index, crop_seed), (tf.uint8, tf.float32, tf.float32)
        )
        return (
            tf.ensure_shape(colour, (image_size, image_size, 3)),
            tf.ensure_shape(tone, 3),
            tf.ensure_shape(mask, (cells, cells, 1)),
        )

    def to_pair(colour, tone, mask):
        colour = tf.cast(colour, tf.float32) / 255
        if training:
            colour = apply_tone(colour, tone)
        gray = rgb_to_luma(colour)
        return ((gray, reveal_chroma(colour, mask)) if hints else gray), colour

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


def central_square(photo, image_size):
    """The centre of a photo whose shorter side has `image_size` pixels."""
    top, left = ((side - image_size) // 2 for side in photo.shape[:2])
    return photo[top : top + image_size, left : left + image_size]


def random_square(photo, image_size, rng):
    """A square of a photo, scaled to `image_size`.

    Its side is between the photo's shorter side and half of that, but has
    four fifths of `image_size` in pixels or more: less would be blurred.
    """
    longest = min(photo.shape[:2])
    shortest = min(longest, max(longest // ZOOM, round(SHARPNESS * image_size)))
    side = rng.integers(shortest, longest + 1)
    return _random_cut(photo, side, side, image_size, rng)


def random_stretched_square(photo, image_size, rng):
    """A part of a photo, scaled to a square of `image_size`.

    Its sides are around two fifths of the photo's shorter side or more, and one of
    them is longer than the other by up to a quarter or so.
    """
    side = min(photo.shape[:2]) * rng.uniform(STRONG_ZOOM, 1)
    height, width = _stretch(side, STRETCH, photo.shape[:2], rng)
    return _random_cut(photo, height, width, image_size, rng)


def _stretch(side, stretch, most, rng):
    """Returns a height and a width, at most `most`, about `side` each."""
    half = rng.uniform(-stretch, stretch) / 2
    return np.minimum(np.round(side * np.exp([half, -half])).astype(int), most)


def _random_cut(photo, height, width, image_size, rng):
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    cut = photo[top : top + height, left : left + width]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return cv2.resize(cut, (image_size, image_size), interpolation=cv2.INTER_AREA)


def paste_rectangle(square, other, rng):
    """A square with a tenth to half of it from another one, at the same place.

    Yun et al., "CutMix: regularization strategy to train strong classifiers with
    localizable features" (2019).
    """
    size = len(square)
    side = size * np.sqrt(rng.uniform(0.1, 0.5))
    height, width = _stretch(side, 0.5, size, rng)
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    place = np.s_[top : top + height, left : left + width]
    square = square.copy()
    square[place] = other[place]
    return square


def random_tone(rng):
    """Gamma, black and white level; every other time those of the photo itself."""
    if rng.random() < 0.5:
        return KEEP_TONE
    gamma = np.exp(rng.normal(0, 0.3))
    return np.float32([gamma, rng.uniform(-0.1, 0.2), rng.uniform(0.8, 1.1)])


def apply_tone(colour, tone):
    """Gives photos another luma, and keeps their chroma where there is room.

    Args:
        colour: RGB in [0, 1], (B, H, W, 3).
        tone: gamma, black and white level of each, (B, 3).
    """
    gamma, black, white = tf.split(tone[:, None, None, :], 3, axis=-1)
    luma = black + (white - black) * rgb_to_luma(colour) ** gamma
    return join_luma_chroma(tf.clip_by_value(luma, 0, 1), rgb_to_chroma(colour))
