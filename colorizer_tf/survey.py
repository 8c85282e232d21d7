"""Surveys photos: sizes, formats, color, duplicates, broken files."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from colorizer_tf.photos import PhotoError, read_photo, shrink_photo

NEAR_GRAY = 4


@dataclass
class PhotoFacts:
    """The facts about one photo file.

    Attributes:
        path: the file.
        error: why it cannot be read; then all below are None. None if it can be read.
        size: (height, width) of the upright photo, in pixels.
        format: "JPEG", "PNG" and so on.
        luma: mean luma, 0 to 255.
        chroma: mean CIE chroma, the distance from gray in CIELAB's ab plane.
        thumbnail: the photo resized to 16x16 pixels, uint8 (16, 16, 3).
    """

    path: Path
    error: str | None = None
    size: tuple[int, int] | None = None
    format: str | None = None
    luma: float | None = None
    chroma: float | None = None
    thumbnail: np.ndarray | None = None

    @property
    def near_gray(self) -> bool:
        """Whether the mean CIE chroma is below 4."""
        return self.chroma is not None and self.chroma < NEAR_GRAY


def survey_photos(photos: Iterable[str | os.PathLike]) -> list[PhotoFacts]:
    """Reads photos and returns the facts about them.

    Args:
        photos: paths of photos.

    Returns:
        A `survey.PhotoFacts` for each photo, in the same order.

    Example:

    ```python
    facts = ct.survey_photos(ct.find_photos("scans"))
    broken = [fact.path for fact in facts if fact.error]
    ```
    """
    photos = list(photos)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = pool.map(survey_photo, photos)
        return list(
            tqdm(facts, "reading photos", len(photos), unit="photo", mininterval=1)
        )


def survey_photo(path: str | os.PathLike) -> PhotoFacts:
    """Reads one photo and returns its `PhotoFacts`."""
    path = Path(path)
    try:
        photo = read_photo(path)
    except PhotoError as error:
        return PhotoFacts(path, error=str(error))
    with Image.open(path) as image:
        file_format = image.format
    size = photo.shape[:2]
    photo = shrink_photo(photo, 512)
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return PhotoFacts(
        path,
        size=size,
        format=file_format,
        luma=float(gray.mean()),
        chroma=float(np.hypot(lab[..., 1], lab[..., 2]).mean()),
        thumbnail=cv2.resize(photo, (16, 16), interpolation=cv2.INTER_AREA),
    )


def find_duplicates(
    facts: Iterable[PhotoFacts], distance: float = 16
) -> list[tuple[Path, Path]]:
    """Returns the pairs of photos that look alike.

    Args:
        facts: the photos, as from `survey_photos`.
        distance: the largest root mean square difference of two thumbnails, in levels
            of 255. In the project's own set, true duplicates differ by less than 15,
            other pairs by more than 17.

    Returns:
        Pairs of paths.

    Example:

    ```python
    for one, other in ct.find_duplicates(ct.survey_photos(ct.find_photos("scans"))):
        print(one, other)
    ```
    """
    found = [(x.path, x.thumbnail.ravel()) for x in facts if x.thumbnail is not None]
    paths = [path for path, _ in found]
    thumbnails = np.array([thumbnail for _, thumbnail in found], np.float32)
    return [
        (paths[i], paths[i + 1 + j])
        for i, thumbnail in enumerate(thumbnails)
        for j in np.flatnonzero(
            np.square(thumbnails[i + 1 :] - thumbnail).mean(axis=1) <= distance**2
        )
    ]
