"""What is taken from clients, and what an uploaded file is, before it does harm."""

import os
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException

from colorizer_tf.photos import PhotoError, PhotoTooLargeError, open_photo

# The longest side that a format can hold.
MAX_SIDE = {".jpg": 65500, ".webp": 16383}

# Strips or tiles of a TIFF: Pillow makes a Python number of each as it opens one.
MAX_STRIPS = 2**17
# Pixels times scans of a JPEG, which is some 40 seconds: each scan of a progressive
# one is a pass over all pixels.
MAX_SCANNED_PIXELS = 2**36
_EXTENSIONS = {
    "BMP": ".bmp",
    "JPEG": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
# Of a TIFF, plain and big: where its first directory's place stands, and as what;
# the number of entries; and of an entry, the tag, the type and the count.
_TIFF_LAYOUTS = {42: (4, "I", "H", "HHI4x"), 43: (8, "Q", "Q", "HHQ8x")}
_STRIP_TAGS = (273, 279, 324, 325)


@dataclass(frozen=True)
class Limits:
    """What the service takes; sizes are in bytes.

    Attributes:
        photo_bytes: of one photo.
        photos: in one request.
        request_bytes: of a request as a whole.
        received_bytes: of all requests under way together.
        queue_photos: waiting or at work.
        stall_seconds: without a byte from a client, or to it.
        upload_seconds: for a request to come in.
        response_seconds: for all of it, until the response has been taken.
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
    """Why a photo, or a request as a whole, gives no result.

    Attributes:
        status_code: of HTTP.
        code: a word for programs, such as "not_a_photo", "damaged", "too_large",
            "too_many_pixels", "too_many_photos", "wrong_format", "wrong_hints",
            "wrong_field", "full" or "failed".
        detail: the reason, in plain words.
    """

    def __init__(self, status_code, code, detail):
        super().__init__(status_code, detail)
        self.code = code


def check_photo(path, name, photo_format, longest_side, limits):
    """Looks whether a client's file is a photo that the service takes.

    Args:
        path: the file.
        name: what the reason calls it.
        photo_format: of the result; by default that of the photo.
        longest_side: of the result; None for that of the photo.
        limits: `Limits`.

    Returns:
        The extension of the result, and the (height, width) of the photo.

    Raises:
        RequestError: it is not.
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
            f"{name} is not a photo that can be read here: JPEG, PNG, TIFF, WebP and "
            "BMP are."
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
    """Returns what a photo is by its content, whatever its name says.

    Returns:
        The extension of its format, one of `EXTENSIONS`, and its (height, width),
        not turned.

    Raises:
        PhotoError: as `photo_size`, for a format without such an extension, and for
            what is made to take hours or gigabytes to read.
    """
    if _count_strips(path) > MAX_STRIPS:
        raise PhotoError(f"{path} cannot be read as a photo: it has too many strips")
    with open_photo(path, tuple(_EXTENSIONS)) as image:
        # A phone's JPEG of several pictures opens as MPO.
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
    """The length of a TIFF's longest table of strips or tiles; 0 for other files."""
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
            return 0  # no TIFF that can be opened
    return max((count for tag, _, count in tags if tag in _STRIP_TAGS), default=0)


def safe_name(name, extension=None):
    """Returns a client's name of a file as one that is safe in any folder.

    "../a b.jpeg" gives "a b.jpeg", and "a b.png" for the extension ".png".
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
    """Returns the name, with a number if it is in `taken`, and adds it there."""
    path, number = Path(name), 1
    while name.casefold() in taken:
        number += 1
        name = f"{path.stem} ({number}){path.suffix}"
    taken.add(name.casefold())
    return name
