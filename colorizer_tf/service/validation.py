"""Limits for clients, and checks of uploaded files before they are read."""

import os
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException

from colorizer_tf.photos import PhotoError, PhotoTooLargeError, open_photo

# The longest side that a format can hold, in pixels.
MAX_SIDE = {".jpg": 65500, ".webp": 16383}

# The most strips or tiles of a TIFF: Pillow makes a Python number for each.
MAX_STRIPS = 2**17
# The most pixels times scans of a JPEG, some 40 seconds: each scan of a progressive
# JPEG is a pass over all pixels.
MAX_SCANNED_PIXELS = 2**36
_EXTENSIONS = {
    "BMP": ".bmp",
    "JPEG": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
# Layouts of TIFF (version 42) and BigTIFF (43), for `struct`: position and format of
# the first directory's offset; format of the number of entries; format of an entry's
# tag, type and count.
_TIFF_LAYOUTS = {42: (4, "I", "H", "HHI4x"), 43: (8, "Q", "Q", "HHQ8x")}
_STRIP_TAGS = (273, 279, 324, 325)


@dataclass(frozen=True)
class Limits:
    """The limits of the service.

    Attributes:
        photo_bytes: bytes of one photo.
        photos: photos in one request.
        request_bytes: bytes of a whole request.
        received_bytes: bytes of all requests that are not yet answered.
        queue_photos: photos that wait or are in progress.
        stall_seconds: time without a byte from a client, or to it.
        upload_seconds: time for a request to arrive.
        response_seconds: time from the start of a request to the end of its response.
    """

    photo_bytes: int = 2**26
    photos: int = 20
    request_bytes: int = 2**28
    received_bytes: int = 2**30
    queue_photos: int = 64
    stall_seconds: float = 20
    upload_seconds: float = 300
    response_seconds: float = 1800


class RequestError(HTTPException):
    """The error of a photo or of a whole request.

    Attributes:
        status_code: the HTTP status.
        code: a word for programs, such as "not_a_photo", "damaged", "too_large",
            "too_many_pixels", "too_many_photos", "wrong_format", "wrong_hints",
            "wrong_field", "full" or "failed".
        detail: the reason, in plain words.
    """

    def __init__(self, status_code, code, detail):
        super().__init__(status_code, detail)
        self.code = code


def check_photo(path, name, photo_format, longest_side, limits):
    """Checks that a client's file is a photo within the limits.

    Args:
        path: the file.
        name: its name in error messages.
        photo_format: of the result, such as "jpg"; None for that of the photo.
        longest_side: of the result, in pixels; None for that of the photo.
        limits: the `Limits`.

    Returns:
        The extension of the result, and the (height, width) of the photo.

    Raises:
        RequestError: the file is no photo or exceeds a limit.
    """
    if os.path.getsize(path) > limits.photo_bytes:
        reason = f"{name} is too large: at most {limits.photo_bytes / 2**20:.0f} MB."
        raise RequestError(413, "too_large", reason)
    try:
        extension, size = validate_photo(path)
    except PhotoTooLargeError as error:
        reason = f"{name} has too many pixels: at most 134 million."
        raise RequestError(413, "too_many_pixels", reason) from error
    except PhotoError as error:
        reason = (
            f"{name} is not a photo that can be read here. Use JPEG, PNG, TIFF, WebP "
            "or BMP."
        )
        raise RequestError(400, "not_a_photo", reason) from error
    if photo_format:
        extension = f".{photo_format}"
    side = min(max(size), longest_side or max(size))
    if side > MAX_SIDE.get(extension, side):
        reason = (
            f"{name} is too large for {extension[1:]}, which holds "
            f"{MAX_SIDE[extension]} pixels a side."
        )
        raise RequestError(422, "wrong_format", reason)
    return extension, size


def validate_photo(path):
    """Finds format and size of a photo by its content, whatever its name is.

    Returns:
        The extension of its format, one of `files.EXTENSIONS`, and its stored (height,
        width), before any rotation by EXIF.

    Raises:
        PhotoError: as `photos.open_photo`; or the file has so many strips or scans that
            reading it takes hours or gigabytes.
    """
    if _count_strips(path) > MAX_STRIPS:
        raise PhotoError(f"{path} cannot be read as a photo: it has too many strips")
    with open_photo(path, tuple(_EXTENSIONS)) as image:
        # A JPEG that holds several pictures, as phones write it, opens as MPO.
        extension = _EXTENSIONS.get(image.format, ".jpg")
        size = image.height, image.width
    if (
        extension == ".jpg"
        and _count_scans(path) * size[0] * size[1] > MAX_SCANNED_PIXELS
    ):
        raise PhotoError(f"{path} cannot be read as a photo: it has too many scans")
    return extension, size


def _count_scans(path):
    with open(path, "rb") as file:
        return sum(
            part.count(b"\xff\xda") for part in iter(partial(file.read, 2**20), b"")
        )


def _count_strips(path):
    """Returns the most strips or tiles in a TIFF's tables; 0 for other files."""
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if not order:
            return 0
        try:
            (version,) = struct.unpack_from(order + "H", head, 2)
            place, offset, number, entry = _TIFF_LAYOUTS[version]
            file.seek(*struct.unpack_from(order + offset, head, place))
            number, entry = struct.Struct(order + number), struct.Struct(order + entry)
            (entries,) = number.unpack(file.read(number.size))
            tags = [entry.unpack(file.read(entry.size)) for _ in range(entries)]
        except (KeyError, struct.error, OSError, OverflowError):
            return 0  # no valid TIFF
    return max((count for tag, _, count in tags if tag in _STRIP_TAGS), default=0)


def safe_name(name, extension=None):
    """Returns a file name that is safe in any folder, from a client's name.

    "../a b.jpeg" gives "a b.jpeg"; with the extension ".png", it gives "a b.png".
    """
    name = (name or "").replace("\\", "/").split("/")[-1]
    name = "".join(
        "_" if letter in '<>:"|?*' else letter
        for letter in name
        if letter.isprintable()
    )
    path = Path(name.strip(" .") or "photo")
    suffix = path.suffix if extension is None else extension
    if extension == ".jpg" and path.suffix.lower() in (".jpg", ".jpeg"):
        suffix = path.suffix
    return f"{path.stem[:60]}{suffix[:10]}"


def result_name(name, extension):
    """Returns the name of a result: "a b.jpeg" gives "a b colour.jpeg"."""
    path = Path(safe_name(name, extension))
    return f"{path.stem} colour{path.suffix}"


def unique_name(name, taken):
    """Returns a name, numbered if the set `taken` holds it, and adds it to the set."""
    path, number = Path(name), 1
    while name.casefold() in taken:
        number += 1
        name = f"{path.stem} ({number}){path.suffix}"
    taken.add(name.casefold())
    return name
