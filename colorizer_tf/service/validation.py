"""What an uploaded file is, found out before it can do any harm."""

import struct
from functools import partial

from colorizer_tf.photos import PhotoError, open_photo

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
