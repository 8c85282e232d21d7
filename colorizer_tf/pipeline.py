"""The steps from gray photos to their colors, for one photo or many at a time."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from colorizer_tf.painting import check_strength, fit_chroma, paint, paint_planes
from colorizer_tf.photos import GrayPhoto, write_jpeg_planes, write_photo

JPEG = (".jpg", ".jpeg")


@dataclass(eq=False)
class Photo:
    """A photo and the network's view of it.

    Attributes:
        source: the photo at full size.
        luma: the photo at the network's size, float32 (h, w), in [0, 1].
        grid: its hints, as from `Colorizer.encode_hints`.
        strength: the factor of the predicted color. Hints keep their color.
        chroma: (Cb, Cr), float32 (h, w, 2). `predict` sets it. At strength 0 without
            hints, `prepare` sets it to 0.
    """

    source: GrayPhoto
    luma: np.ndarray
    grid: np.ndarray | None
    strength: float = 1.0
    chroma: np.ndarray | None = None

    def paint(self):
        """Returns RGB of the source's size and type, (H, W, 3)."""
        return paint(self.source.gray, *self._fit())

    def write(self, path):
        """Writes the photo in color; see `photos.write_photo`."""
        gray = self.source.gray
        is_jpeg = Path(path).suffix.lower() in JPEG
        # A JPEG takes the three planes, which saves RGB at full size.
        if is_jpeg and gray.dtype == np.uint8 and self.source.alpha is None:
            planes = paint_planes(gray, *self._fit())
            write_jpeg_planes(path, gray, *planes, self.source)
        else:
            write_photo(path, self.paint(), self.source)

    def _fit(self):
        return fit_chroma(self.luma, self.chroma)


def prepare(colorizer, source, strength=1.0, hints=()):
    """Returns the `Photo` that `predict` takes.

    Args:
        colorizer: a `Colorizer`.
        source: a `GrayPhoto`.
        strength: the factor of the predicted color, at least 0. Hints keep their
            color.
        hints: a list of `Hint`.

    Raises:
        ValueError: there are hints, and the generator takes none; or the strength
            is below 0.
    """
    check_strength(strength)
    luma = colorizer.shrink(source.gray)
    photo = Photo(source, luma, colorizer.encode_hints(hints, luma), strength)
    if not strength and not hints:
        photo.chroma = np.zeros((*luma.shape, 2), np.float32)
    return photo


def predict(colorizer, photos):
    """Sets the chroma of photos. Photos of one network shape make one batch.

    Args:
        colorizer: a `Colorizer`.
        photos: a list of `Photo`. Those that have chroma are left alone.
    """

    def shape(photo):
        return colorizer.network_shape(*photo.luma.shape)

    photos = [photo for photo in photos if photo.chroma is None]
    for _, group in groupby(sorted(photos, key=shape), shape):
        group = list(group)
        chromas = colorizer.predict_chroma(
            [photo.luma for photo in group],
            [photo.grid for photo in group],
            [photo.strength for photo in group],
        )
        for photo, chroma in zip(group, chromas, strict=True):
            photo.chroma = chroma
