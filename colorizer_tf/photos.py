"""Photo files: found in a folder, read whatever they are, written whole."""

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class PhotoError(ValueError):
    """A file that is no readable photo; the message names it and says why."""


def find_photos(folder):
    """Returns the photos below a folder, as a sorted list of paths.

    Photos are known by their extension, in upper or lower case; hidden files
    are passed over.

    Raises:
        FileNotFoundError: no such folder, or no photo in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()}.")
    photos = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not path.name.startswith(".")
        and path.is_file()
    )
    if not photos:
        raise FileNotFoundError(
            f"No photos in {folder.absolute()} or the folders below it: looked "
            f"for files ending in {', '.join(EXTENSIONS)}."
        )
    return photos


def read_photo(path, shorter_side=None):
    """Reads a photo of any kind as uint8 RGB, (H, W, 3).

    EXIF orientation is applied, 16 bits are brought to 8, CMYK and palettes
    become RGB, transparent parts lie on white.

    Args:
        path: the file.
        shorter_side: if given, the photo is scaled so that its shorter side
            has this many pixels.

    Raises:
        PhotoError: the file is missing, broken, or no photo.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if shorter_side:
                    # JPEG decodes to an eighth at almost no cost.
                    image.draft("RGB", (2 * shorter_side, 2 * shorter_side))
                image = _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error) or type(error).__name__
        raise PhotoError(f"{path} cannot be read as a photo: {reason}") from error
    if shorter_side and min(image.size) != shorter_side:
        scale = shorter_side / min(image.size)
        size = [max(shorter_side, round(scale * side)) for side in image.size]
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def _to_rgb(image):
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("more than 16 bits a pixel; save it with 8 or 16")
        return Image.fromarray((levels / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


@contextlib.contextmanager
def whole_file(path):
    """A temporary path that takes the place of `path` when all went well.

    Whatever interrupts the writing, `path` holds either what it held before or
    all of what is new. A file left behind by a kill is taken over by the
    next writing of the same `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".partial.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
