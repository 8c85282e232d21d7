"""Photo files: found in a folder, read whatever they are, written whole."""

import contextlib
import math
import os
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import (
    ExifTags,
    Image,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)
from PIL.ExifTags import Base as Tag

from colorizer_tf.color import BLUE, GREEN, RED

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
QUALITY = 95
PNG_HEAD = 33
# More is refused unread: a small file can claim a size that fills the memory.
MAX_PIXELS = 2**27
# Which is why Pillow need not warn of less. Not by `catch_warnings` around a file:
# that is one for all threads.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# White-is-zero TIFFs of 16 bits, which Pillow opens in the other byte order only.
TiffImagePlugin.OPEN_INFO.setdefault(
    (TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B")
)
_UNPACKED, _DEFLATED = (1,), (8, 32946)  # compressions of a TIFF
_TOO_LARGE = f"it has more than {MAX_PIXELS // 10**6} million pixels; scale it down"


class PhotoError(ValueError):
    """A photo that cannot be read, or written; the message names the file."""


class PhotoTooLargeError(PhotoError):
    """A photo of more than `MAX_PIXELS`."""


@dataclass
class GrayPhoto:
    """A photo file as it is colorized.

    Attributes:
        gray: luma, uint8 or uint16 (H, W), turned as EXIF says.
        alpha: opacity of the same type and size; None if the photo has none.
        metadata: what goes along to the result: `dpi`, `exif` and `icc_profile`,
            as Pillow takes them; each is there only if the file has it.
    """

    gray: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)


def find_photos(folder):
    """Returns the photos below a folder, as a sorted list of paths.

    Photos are known by their extension, in upper or lower case; hidden files
    are passed over.

    Raises:
        FileNotFoundError: no such folder, or no photo in it.
    """
    folder = Path(folder)
    return [folder / name for name in find_names(folder)]


def find_names(folder):
    """Returns what `find_photos` finds as names below the folder, "/" between."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()}.")
    names = [name for name in _list_files(folder) if is_photo_name(name)]
    if not names:
        raise no_photos(folder.absolute())
    names.sort(key=name_order)
    return names


def is_photo_name(name):
    """Whether a file of this name counts as a photo."""
    name = name.rpartition("/")[2]
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def name_order(name):
    """What names below a folder are sorted by: as paths are."""
    return name.replace("/", "\0")


def no_photos(place):
    """Returns the error for a place where no photo is."""
    return FileNotFoundError(
        f"No photos in {place} or the folders below it: looked for files ending in "
        f"{', '.join(EXTENSIONS)}."
    )


def _list_files(folder, above=""):
    # A folder that may not be looked into is passed over.
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _list_files(entry.path, f"{above}{entry.name}/")
            elif entry.is_file():
                yield above + entry.name


@contextlib.contextmanager
def open_photo(path, formats=None):
    """Opens a photo with Pillow, in a `with` statement that speaks in `PhotoError`.

    Args:
        path: the file.
        formats: the names of those that Pillow tries; by default all it knows.

    Raises:
        PhotoError: the file is missing, broken, or no photo; also for whatever is
            raised within the statement.
        PhotoTooLargeError: it has more than `MAX_PIXELS`, 134 million.
    """
    try:
        # From a path, Pillow 13 garbles a plain TIFF that EXIF turns by 90°.
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
    except Exception as error:  # damaged files make Pillow raise of all kinds
        reason = str(error) or type(error).__name__
        raise PhotoError(f"{path} cannot be read as a photo: {reason}") from error


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
    with open_photo(path) as image:
        if shorter_side:
            # JPEG decodes to an eighth at almost no cost.
            image.draft("RGB", (2 * shorter_side, 2 * shorter_side))
        deep = _is_deep(image)
        upright = _shallow(path, image) if deep else _apply_orientation(image)
        image = _to_rgb(upright)
    if shorter_side and min(image.size) != shorter_side:
        scale = shorter_side / min(image.size)
        size = [max(shorter_side, round(scale * side)) for side in image.size]
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def to_gray(photo):
    """Returns the luma of a photo as its own type, (H, W).

    Args:
        photo: uint8 or uint16; (H, W), (H, W, 1), RGB (H, W, 3) or RGBA
            (H, W, 4), whose transparency is dropped.

    Raises:
        ValueError: another type or shape, or a photo without pixels.
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
    """Scales a photo, (H, W, 3), down to this many pixels at its longer side."""
    height, width = photo.shape[:2]
    scale = longer_side / max(height, width)
    if scale >= 1:
        return photo
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def read_gray(path):
    """Reads a photo of any kind for colorizing, at its own depth.

    Pillow reads it, and where a channel has 12 or 16 bits, of which Pillow drops
    half in RGB, OpenCV; and tifffile, where the planes of such a TIFF lie apart.
    Of several pages, the first is taken.

    Returns:
        A `GrayPhoto`.

    Raises:
        PhotoError: the file is missing, broken, no photo, or has more than
            `MAX_PIXELS`, 134 million.
    """
    with open_photo(path) as image:
        if _is_deep(image):
            gray, alpha = _read_deep(path, image)
        else:
            # JPEG holds luma as such: its chroma need not even be decoded.
            image.draft("L", None)
            upright = _apply_orientation(image)
            gray, alpha = np.asarray(_to_luma(upright)), None
            if upright.has_transparency_data:
                alpha = np.asarray(upright.convert("RGBA").getchannel("A"))
        return GrayPhoto(gray, alpha, _read_metadata(image))


def photo_size(path):
    """Returns the (height, width) of a photo as its file says, not turned.

    Raises:
        PhotoError: as `read_gray`; damage to the pixels goes unnoticed.
    """
    with open_photo(path) as image:
        return image.height, image.width


def write_photo(path, rgb, source=None):
    """Writes a photo in the format that the ending of its name says.

    JPEG and WebP are written at quality 95. 16 bits stay 16 in PNG, written by
    OpenCV, and TIFF, by tifffile; all else is written by Pillow at 8 bits.
    Transparency stays in PNG, TIFF and WebP, and lies on white elsewhere.

    Args:
        path: the file, which is there as a whole or not at all.
        rgb: uint8 or uint16, (H, W, 3).
        source: a `GrayPhoto`, whose transparency and metadata go along.

    Raises:
        PhotoError: the file cannot be written, or there is no such format.
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
        # A photo can be made again: no waiting for the disk, a third of the time.
        with whole_file(path, sync=False) as temporary:
            if rgb.dtype == np.uint8 or file_format not in ("PNG", "TIFF"):
                _write_with_pillow(temporary, file_format, rgb, source)
            elif file_format == "PNG":
                _write_deep_png(temporary, _with_alpha(rgb, source), source.metadata)
            else:
                _write_deep_tiff(temporary, _with_alpha(rgb, source), source.metadata)
    except Exception as error:  # the full disk, and what no format can hold
        raise PhotoError(f"{path} cannot be written: {error}") from error


def _apply_orientation(image):
    try:
        return ImageOps.exif_transpose(image)
    except OSError:
        raise
    except Exception:  # damaged EXIF, which Pillow fails to write again
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return Image.fromarray(_turn(np.asarray(_to_rgb(image)), orientation))


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


def _is_deep(image):
    """Whether a channel has more than 8 bits, which Pillow would not read right."""
    if image.format == "TIFF":
        return 8 < max(image.tag_v2.get(Tag.BitsPerSample, (1,))) <= 16
    return image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile)


def _read_deep(path, image):
    levels = _read_levels(path, image)
    if levels.ndim == 2:
        return levels, None
    # OpenCV's channels are blue, green, red; its cvtColor is a level off here.
    gray = cv2.transform(levels[..., :3], np.array([[BLUE, GREEN, RED]]))
    alpha = np.ascontiguousarray(levels[..., 3]) if levels.shape[2] == 4 else None
    return gray, alpha


def _shallow(path, image):
    """A deep photo as a Pillow image of 8 bits, upright."""
    levels = cv2.convertScaleAbs(_read_levels(path, image), alpha=1 / 257)
    return Image.fromarray(levels if levels.ndim == 2 else _swap_red_blue(levels))


def _read_levels(path, image):
    """The uint16 levels of a deep photo, upright: (H, W), BGR or BGRA (H, W, C)."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if tags.get(Tag.PhotometricInterpretation, 1) > 2:
        raise ValueError("16 bits a channel, and neither gray nor RGB; save it as RGB")
    apart = tags.get(Tag.PlanarConfiguration) == 2 and image.mode.startswith("RGB")
    if apart:
        levels = _read_planes(path)
    else:
        levels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16:
        raise ValueError("OpenCV cannot read its 16-bit pixels")
    if sorted(levels.shape[:2]) != sorted(image.size):
        raise ValueError("it names two sizes")
    if apart or not tags:  # of other TIFFs, OpenCV applies the orientation itself
        levels = _turn(levels, image.getexif().get(Tag.Orientation, 1))
    if tags.get(Tag.PhotometricInterpretation) == 0:
        levels = 65535 - levels  # 0 is white
    if tags.get(Tag.ExtraSamples) == (0,):  # a fourth channel that is no opacity
        levels = levels[..., :3]
    if tags.get(Tag.ExtraSamples) == (1,):  # colours times opacity
        *colours, opacity = cv2.split(levels)
        for place, colour in enumerate(colours):
            levels[..., place] = cv2.divide(colour, opacity, scale=65535)
    return np.ascontiguousarray(levels)


def _read_planes(path):
    """The levels of a TIFF whose planes lie apart, which OpenCV and Pillow garble."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        channels, depth, height, width, _ = page.shaped
        size = page.dtype.itemsize * math.prod(page.chunks)
        if channels > 4 or depth > 1 or max(height * width, size // 2) > MAX_PIXELS:
            raise ValueError("it names two sizes")
        if page.compression not in (*_UNPACKED, *_DEFLATED):
            raise ValueError(
                f"its planes lie apart, with {page.compression.name} compression; "
                "save it with planes together (interleaved), or uncompressed"
            )
        if len(page.dataoffsets) != math.prod(page.chunked):
            raise ValueError("image file is truncated")
        if page.compression in _DEFLATED:
            # tifffile would inflate it all, however much it is.
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


def _turn(pixels, orientation):
    """Applies an EXIF orientation to an array, (H, W) or (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _read_metadata(image):
    metadata = {}
    dpi = tuple(map(float, image.info.get("dpi", ())))
    if dpi and all(0 < dots < 2**16 for dots in dpi):  # damaged ones may be NaN
        metadata["dpi"] = dpi
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to fail
        if exif := _read_exif(image):
            metadata["exif"] = exif
    # A profile for gray or CMYK makes no sense of an RGB photo.
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"RGB ":
        metadata["icc_profile"] = profile
    return metadata


def _read_exif(image):
    """The EXIF that describes the photo, without what describes the file."""
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
            exif[tag] = ifd  # Pillow's TIFF writer looks for it here
    return exif if exif.tobytes() != Image.Exif().tobytes() else None


def _keep_bytes(value):
    # Pillow reads text as Latin-1, whatever it is, and writes ASCII.
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


def _write_deep_png(path, pixels, metadata):
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


def _write_deep_tiff(path, pixels, metadata):
    """Writes a TIFF of 16 bits; of EXIF, the plain texts alone go along."""
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


@contextlib.contextmanager
def whole_file(path, sync=True):
    """A temporary path that takes the place of `path` when all went well.

    Whatever interrupts the writing, `path` holds either what it held before or
    all of what is new. A file left behind by a kill is taken over by the
    next writing of the same `path`.

    Args:
        path: the file.
        sync: wait until the disk has it, so that not even a power cut leaves an
            empty file.
    """
    path = Path(path)
    temporary = path.with_name(f".partial.{path.name}")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
