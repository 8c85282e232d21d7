"""Reads and writes 16-bit PNG and TIFF with OpenCV and tifffile.

Pillow reduces their RGB to 8 bits.
"""

import math
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, PngImagePlugin
from PIL.ExifTags import Base as Tag

from colorizer_tf.color import BLUE, GREEN, RED

PNG_HEAD = 33
# Larger photos are refused unread: a small file can claim a size that fills memory.
MAX_PIXELS = 2**27
_UNPACKED, _DEFLATED = (1,), (8, 32946)  # compressions of a TIFF


def is_16_bit(image):
    """Returns whether a channel of a Pillow image has 9 to 16 bits."""
    if image.format == "TIFF":
        return 8 < max(image.tag_v2.get(Tag.BitsPerSample, (1,))) <= 16
    return image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile)


def read_16_bit(path, image):
    """Reads the luma and opacity of a 16-bit photo, upright.

    Args:
        path: the file.
        image: the file, as Pillow has opened it.

    Returns:
        Luma, uint16 (H, W), and opacity, uint16 (H, W) or None.

    Raises:
        ValueError: the photo is broken, or is stored in a way that neither OpenCV
            nor this module reads.
    """
    levels = _read_levels(path, image)
    if levels.ndim == 2:
        return levels, None
    # OpenCV's channels are blue, green, red. Its cvtColor is off by a level here.
    gray = cv2.transform(levels[..., :3], np.array([[BLUE, GREEN, RED]]))
    alpha = np.ascontiguousarray(levels[..., 3]) if levels.shape[2] == 4 else None
    return gray, alpha


def to_8_bit(path, image):
    """Reads a 16-bit photo as a Pillow image of 8 bits, upright; see `read_16_bit`."""
    levels = cv2.convertScaleAbs(_read_levels(path, image), alpha=1 / 257)
    return Image.fromarray(levels if levels.ndim == 2 else _swap_red_blue(levels))


def _read_levels(path, image):
    """Returns uint16 levels, upright: (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if tags.get(Tag.PhotometricInterpretation, 1) > 2:
        raise ValueError("16 bits a channel, and neither gray nor RGB; save it as RGB")
    planar = tags.get(Tag.PlanarConfiguration) == 2 and image.mode.startswith("RGB")
    if planar:
        levels = _read_planar(path)
    else:
        levels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16:
        raise ValueError("OpenCV cannot read its 16-bit pixels")
    if sorted(levels.shape[:2]) != sorted(image.size):
        raise ValueError("its header and its pixels have different sizes")
    if planar or not tags:  # OpenCV applies the orientation of other TIFFs itself
        levels = turn(levels, image.getexif().get(Tag.Orientation, 1))
    if tags.get(Tag.PhotometricInterpretation) == 0:
        levels = 65535 - levels  # 0 is white
    if tags.get(Tag.ExtraSamples) == (0,):  # the fourth channel is not opacity
        levels = levels[..., :3]
    if tags.get(Tag.ExtraSamples) == (1,):  # the colors are multiplied by opacity
        *colors, opacity = cv2.split(levels)
        for place, color in enumerate(colors):
            levels[..., place] = cv2.divide(color, opacity, scale=65535)
    return np.ascontiguousarray(levels)


def _read_planar(path):
    """Reads the levels of a planar TIFF, which OpenCV and Pillow garble."""
    import tifffile  # few photos need it, and its import takes longer than a photo

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        channels, depth, height, width, _ = page.shaped
        size = page.dtype.itemsize * math.prod(page.chunks)
        if channels > 4 or depth > 1 or max(height * width, size // 2) > MAX_PIXELS:
            raise ValueError(
                "it is planar, with more than 4 channels or "
                f"{MAX_PIXELS // 10**6} million pixels; save it interleaved"
            )
        if page.compression not in (*_UNPACKED, *_DEFLATED):
            raise ValueError(
                f"it is planar, with {page.compression.name} compression; "
                "save it interleaved, or uncompressed"
            )
        if len(page.dataoffsets) != math.prod(page.chunked):
            raise ValueError("image file is truncated")
        if page.compression in _DEFLATED:
            # tifffile would inflate any amount of data.
            for part, _ in tiff.filehandle.read_segments(
                page.dataoffsets, page.databytecounts
            ):
                if part and len(zlib.decompressobj().decompress(part, size + 1)) > size:
                    raise ValueError("it inflates to more than its size")
        levels = np.zeros((height, width, channels), page.dtype)
        for part, (plane, _, top, left, _), shape in page.segments(maxworkers=1):
            if part is not None:
                place = levels[top : top + shape[1], left : left + shape[2]]
                place[..., (2, 1, 0, 3)[plane]] = part[
                    0, : place.shape[0], : place.shape[1], 0
                ]
    return levels


def turn(pixels, orientation):
    """Applies an EXIF orientation to an array, (H, W) or (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def write_16_bit_png(path, pixels, metadata):
    """Writes RGB or RGBA, uint16 (H, W, C), as PNG.

    Args:
        path: the file.
        pixels: the levels.
        metadata: as in `photos.GrayPhoto`.
    """
    done, encoded = cv2.imencode(".png", _swap_red_blue(pixels))
    if not done:
        raise ValueError("OpenCV cannot encode it")
    with open(path, "wb") as file:
        file.write(encoded[:PNG_HEAD].data)
        if "icc_profile" in metadata:
            profile = zlib.compress(metadata["icc_profile"])
            PngImagePlugin.putchunk(file, b"iCCP", b"ICC Profile\0\0", profile)
        if "dpi" in metadata:
            x, y = (round(dots / 0.0254) for dots in metadata["dpi"])
            PngImagePlugin.putchunk(file, b"pHYs", struct.pack(">IIB", x, y, 1))
        if "exif" in metadata:
            exif = metadata["exif"].tobytes().removeprefix(b"Exif\0\0")
            PngImagePlugin.putchunk(file, b"eXIf", exif)
        file.write(encoded[PNG_HEAD:].data)


def write_16_bit_tiff(path, pixels, metadata):
    """Writes RGB or RGBA, uint16 (H, W, C), as TIFF.

    Of EXIF, the file gets the text tags alone.

    Args:
        path: the file.
        pixels: the levels.
        metadata: as in `photos.GrayPhoto`.
    """
    import tifffile

    texts = {
        tag: value if isinstance(value, bytes) else value.encode()
        for tag, value in metadata.get("exif", {}).items()
        if isinstance(value, str | bytes)
    }
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        resolution=metadata.get("dpi"),
        resolutionunit="INCH",
        iccprofile=metadata.get("icc_profile"),
        extratags=[(tag, "s", 0, text, True) for tag, text in texts.items()],
        software=False,
        metadata=None,
    )


def _swap_red_blue(pixels):
    alpha = pixels.shape[2] == 4
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if alpha else cv2.COLOR_RGB2BGR)
