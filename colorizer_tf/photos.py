"""Reads and writes photo files."""

import contextlib
import functools
import io
import logging
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import (
    ExifTags,
    Image,
    ImageOps,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from colorizer_tf.color import BLUE, GREEN, RED
from colorizer_tf.files import EXTENSIONS, atomic_write
from colorizer_tf.sixteen_bit import (
    MAX_PIXELS,
    is_16_bit,
    read_16_bit,
    to_8_bit,
    turn,
    write_16_bit_png,
    write_16_bit_tiff,
)

# Below 96, TurboJPEG computes a fast transform, which moves luma by up to 12 levels.
QUALITY = 96
# Damaged files raise these too, but more often our own mistake does: log them.
_BUGS = AssertionError, AttributeError, LookupError, NameError, TypeError
_log = logging.getLogger(__name__)
_TOO_LARGE = f"it has more than {MAX_PIXELS // 10**6} million pixels; scale it down"


class PhotoError(ValueError):
    """A photo cannot be read or written; the message names the file.

    Example:

    ```python
    try:
        photo = ct.read_photo("scan.jpg")
    except ct.PhotoError as error:
        print(error)
    ```
    """


class PhotoTooLargeError(PhotoError):
    """A photo has more than `MAX_PIXELS`."""


@dataclass
class GrayPhoto:
    """A photo file, read for coloring.

    Attributes:
        gray: luma, uint8 or uint16 (H, W), upright.
        alpha: opacity of the same type and size; None if the photo has none.
        metadata: what the result keeps: `dpi`, `exif` and `icc_profile`, as Pillow
            takes them, if the file has them.
    """

    gray: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)


@functools.cache
def _set_up_pillow():
    # `MAX_PIXELS` is the limit, so Pillow need not warn below it. `catch_warnings`
    # around each file would change the filters of all threads.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    # Pillow opens white-is-zero TIFFs of 16 bits in the other byte order only.
    TiffImagePlugin.OPEN_INFO.setdefault(
        (TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B")
    )


@contextlib.contextmanager
def open_photo(path, formats=None):
    """Opens a photo with Pillow in a `with` statement.

    Args:
        path: the file.
        formats: the names of the formats that Pillow tries; all by default.

    Raises:
        PhotoError: the file is missing, broken, or no photo. Any exception within
            the statement becomes a `PhotoError` too.
        PhotoTooLargeError: it has more than `MAX_PIXELS`, 134 million.
    """
    _set_up_pillow()
    try:
        # Given a path, Pillow 13 garbles a plain TIFF that EXIF turns by 90°.
        with open(path, "rb") as file, Image.open(file, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Image.DecompressionBombError as error:
        raise PhotoTooLargeError(
            f"{path} cannot be read as a photo: {_TOO_LARGE}"
        ) from error
    except UnidentifiedImageError as error:
        reason = "it is no JPEG, PNG, TIFF, WebP or BMP"
        raise PhotoError(f"{path} cannot be read as a photo: {reason}") from error
    except Exception as error:  # damaged files make Pillow raise errors of any kind
        if isinstance(error, _BUGS):
            _log.exception("%s cannot be read as a photo", path)
        reason = str(error) or type(error).__name__
        raise PhotoError(f"{path} cannot be read as a photo: {reason}") from error


def read_photo(path: str | os.PathLike, shorter_side: int | None = None) -> np.ndarray:
    """Reads a photo of any kind as RGB.

    It applies the EXIF orientation, reduces 16 bits to 8, converts CMYK and palettes,
    and puts transparent parts on white.

    Args:
        path: the file.
        shorter_side: scales the photo to this many pixels at its shorter side.

    Returns:
        uint8 RGB, (H, W, 3).

    Raises:
        PhotoError: the file is missing, broken, or no photo.

    Example:

    ```python
    photo = ct.read_photo("scan.jpg")
    small = ct.read_photo("scan.jpg", shorter_side=256)
    ```
    """
    with open_photo(path) as image:
        if shorter_side:
            # A JPEG decodes to an eighth of its size at almost no cost.
            image.draft("RGB", (2 * shorter_side, 2 * shorter_side))
        deep = is_16_bit(image)
        upright = to_8_bit(path, image) if deep else _apply_orientation(image)
        image = _to_rgb(upright)
    if shorter_side and min(image.size) != shorter_side:
        scale = shorter_side / min(image.size)
        size = [max(shorter_side, round(scale * side)) for side in image.size]
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def to_gray(photo: np.ndarray) -> np.ndarray:
    """Returns the luma of a photo (BT.601; see `color`).

    Args:
        photo: uint8 or uint16; (H, W), (H, W, 1), RGB (H, W, 3) or RGBA
            (H, W, 4), whose transparency is dropped.

    Returns:
        Luma of the photo's type, (H, W).

    Raises:
        ValueError: another type or shape, or a photo without pixels.

    Example:

    ```python
    gray = ct.to_gray(ct.read_photo("scan.jpg"))
    ```
    """
    photo = np.ascontiguousarray(photo)
    if photo.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"The photo must be uint8 or uint16. Received: {photo.dtype}")
    channels = photo.shape[2] if photo.ndim == 3 else 1
    if photo.ndim not in (2, 3) or channels not in (1, 3, 4) or not photo.size:
        raise ValueError(
            "The photo must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), and not "
            f"empty. Received: shape {photo.shape}"
        )
    if channels == 1:
        return photo.reshape(photo.shape[:2])
    # cv2.cvtColor is exact to a level for 8 bits, but not for 16.
    weights = np.zeros((1, channels))
    weights[0, :3] = RED, GREEN, BLUE
    return cv2.transform(photo, weights)


def shrink_photo(photo, longer_side):
    """Scales a photo, (H, W, 3), down to at most this many pixels a side."""
    height, width = photo.shape[:2]
    scale = longer_side / max(height, width)
    if scale >= 1:
        return photo
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def read_gray(path: str | os.PathLike) -> GrayPhoto:
    """Reads a photo of any kind for coloring, with 8 or 16 bits as in the file.

    Of several pages, it reads the first.

    Returns:
        A `GrayPhoto`.

    Raises:
        PhotoError: the file is missing, broken, no photo, or has more than
            `MAX_PIXELS`, 134 million.
    """
    with open_photo(path) as image:
        if is_16_bit(image):
            gray, alpha = read_16_bit(path, image)
        else:
            gray, alpha = _read_jpeg_luma(path, image), None
            if gray is None:
                upright = _apply_orientation(image)
                gray = np.asarray(_to_luma(upright))
                if upright.has_transparency_data:
                    alpha = np.asarray(upright.convert("RGBA").getchannel("A"))
        return GrayPhoto(gray, alpha, _read_metadata(image))


def _read_jpeg_luma(path, image):
    """Returns the upright luma of an intact gray or RGB JPEG; None for other files."""
    # This skips the chroma. Pillow reads more of a damaged file, and converts CMYK.
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    try:
        gray = simplejpeg.decode_jpeg(Path(path).read_bytes(), "GRAY")[..., 0]
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF makes Pillow raise errors of any kind
        return None
    return np.ascontiguousarray(turn(gray, orientation))


def photo_size(path):
    """Returns the (height, width) that a photo file names, without its orientation.

    Raises:
        PhotoError: as for `read_gray`. It does not notice damaged pixels.
    """
    with open_photo(path) as image:
        return image.height, image.width


def write_photo(
    path: str | os.PathLike, rgb: np.ndarray, source: GrayPhoto | None = None
) -> None:
    """Writes a photo in the format that its extension names.

    JPEG and WebP have quality 96. PNG and TIFF keep 16 bits; other formats get 8.
    PNG, TIFF and WebP keep transparency; other formats get a white background.

    Args:
        path: the file. It is written completely or not at all.
        rgb: uint8 or uint16, (H, W, 3).
        source: a `GrayPhoto`, whose transparency and metadata the file gets.

    Raises:
        PhotoError: the file cannot be written, or the format is unknown.
    """
    path = Path(path)
    source = source or GrayPhoto(rgb)
    if path.suffix.lower() not in EXTENSIONS:
        raise PhotoError(
            f"{path} cannot be written: its ending must be one of "
            f"{', '.join(EXTENSIONS)}."
        )
    file_format = Image.registered_extensions()[path.suffix.lower()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Waiting for the disk is slow, and a result can be made again.
        with atomic_write(path, sync=False) as temporary:
            if rgb.dtype == np.uint8 or file_format not in ("PNG", "TIFF"):
                _write_with_pillow(temporary, file_format, rgb, source)
            elif file_format == "PNG":
                write_16_bit_png(temporary, _with_alpha(rgb, source), source.metadata)
            else:
                write_16_bit_tiff(temporary, _with_alpha(rgb, source), source.metadata)
    except Exception as error:  # a full disk, or a photo that the format cannot hold
        raise PhotoError(f"{path} cannot be written: {error}") from error


def write_jpeg_planes(path, luma, cb, cr, source):
    """Writes a JPEG from its planes, at quality 96.

    Args:
        path: the file. It is written completely or not at all.
        luma: uint8 (H, W).
        cb, cr: uint8, 128 for gray, (ceil(H / 2), ceil(W / 2)).
        source: a `GrayPhoto`, whose metadata the file gets.

    Raises:
        PhotoError: the file cannot be written.
    """
    path = Path(path)
    try:
        luma, cb, cr = map(np.ascontiguousarray, (luma, cb, cr))
        height, width = luma.shape
        bottom, right = height % 2, width % 2
        if bottom or right:  # the encoder reads luma up to an even height and width
            luma = cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        encoded = simplejpeg.encode_jpeg_yuv_planes(
            luma[:height, :width], cb, cr, QUALITY
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=False) as temporary:
            with open(temporary, "wb") as file:
                metadata = source.metadata
                file.write(_jpeg_head(metadata) if metadata else _bare_jpeg_head())
                file.write(memoryview(encoded)[2:])
    except Exception as error:  # a full disk, or a photo that JPEG cannot hold
        raise PhotoError(f"{path} cannot be written: {error}") from error


def _jpeg_head(metadata):
    """Returns the first bytes of a JPEG, up to the end of its metadata."""
    tiny = io.BytesIO()
    Image.new("L", (1, 1)).save(tiny, "JPEG", **metadata)
    data, end = tiny.getvalue(), 2
    while 0xE0 <= data[end + 1] <= 0xEF:  # APP0 to APP15
        end += 2 + int.from_bytes(data[end + 2 : end + 4], "big")
    return data[:end]


@functools.cache
def _bare_jpeg_head():
    return _jpeg_head({})


def _apply_orientation(image):
    try:
        return ImageOps.exif_transpose(image)
    except OSError:
        raise
    except Exception:  # Pillow fails to write damaged EXIF
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return Image.fromarray(turn(np.asarray(_to_rgb(image)), orientation))


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


def _to_luma(image):
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        image = _to_rgb(image)
    return image.convert("L")


def _read_metadata(image):
    metadata = {}
    dpi = tuple(map(float, image.info.get("dpi", ())))
    if dpi and all(0 < dots < 2**16 for dots in dpi):  # damaged ones may be NaN
        metadata["dpi"] = dpi
    with contextlib.suppress(Exception):  # the pixels of a photo outweigh its EXIF
        if exif := _read_exif(image):
            metadata["exif"] = exif
    # A profile for gray or CMYK does not fit an RGB photo.
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"RGB ":
        metadata["icc_profile"] = profile
    return metadata


def _read_exif(image):
    """Returns the EXIF tags that describe the photo rather than the file."""
    source = image.getexif()
    if not source:
        return None
    exif = Image.Exif()
    for tag in (*range(269, 273), *range(305, 317), 33432, *range(40091, 40096)):
        if tag in source:
            exif[tag] = _keep_bytes(source[tag])
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        ifd = {name: _keep_bytes(value) for name, value in source.get_ifd(tag).items()}
        if ifd:
            exif.get_ifd(tag).update(ifd)
            exif[tag] = ifd  # Pillow's TIFF writer reads it here
    return exif if exif.tobytes() != Image.Exif().tobytes() else None


def _keep_bytes(value):
    # Pillow reads any text as Latin-1, but writes ASCII alone.
    if isinstance(value, str) and not value.isascii():
        return value.encode("latin-1", "replace")
    return value


def _with_alpha(rgb, source):
    return rgb if source.alpha is None else np.dstack([rgb, source.alpha])


def _write_with_pillow(path, file_format, rgb, source):
    pixels = _with_alpha(rgb, source)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    image = Image.fromarray(pixels)
    if source.alpha is not None and file_format not in ("PNG", "TIFF", "WEBP"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    options = {"PNG": {"compress_level": 3}}.get(file_format, {"quality": QUALITY})
    image.save(path, file_format, **options, **source.metadata)
