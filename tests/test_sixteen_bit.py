"""Tests photos of more than 8 bits a channel, in every layout of files."""

import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from colorizer_tf.color import BLUE, GREEN, RED
from colorizer_tf.photos import PhotoError, read_gray, read_photo

HEIGHT, WIDTH = 37, 53


def noise(*shape):
    return np.random.default_rng(0).integers(0, 65536, shape, np.uint16)


def luma(levels):
    levels = levels.astype(float)
    return levels if levels.ndim == 2 else levels[..., :3] @ (RED, GREEN, BLUE)


def write_tiff(path, levels, planes="together", white_is_zero=False, **options):
    """Writes levels, (H, W) or (H, W, C)."""
    stored = 65535 - levels if white_is_zero else levels
    if levels.ndim == 2:
        options["photometric"] = "miniswhite" if white_is_zero else "minisblack"
    else:
        options["photometric"] = "rgb"
        options["planarconfig"] = "contig" if planes == "together" else "separate"
        if levels.shape[2] == 4:
            options.setdefault("extrasamples", ["unassalpha"])
    if planes == "apart":
        stored = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
    tifffile.imwrite(path, stored, **options)


COMPRESSIONS = {
    "none": {},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
}
LAYOUTS = {"strips": {"rowsperstrip": 10}, "tiles": {"tile": (16, 32)}}
KINDS = {
    "gray": (1, "together", False),
    "white is zero": (1, "together", True),
    "RGB": (3, "together", False),
    "RGB, planes apart": (3, "apart", False),
    "RGBA": (4, "together", False),
    "RGBA, planes apart": (4, "apart", False),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiff_of_any_layout_is_read_right(tmp_path, kind, layout, compression, order):
    channels, planes, white_is_zero = KINDS[kind]
    levels = noise(HEIGHT, WIDTH, channels).squeeze()
    options = LAYOUTS[layout] | COMPRESSIONS[compression]
    write_tiff(
        tmp_path / "a.tif", levels, planes, white_is_zero, byteorder=order, **options
    )

    photo, rgb = read_gray(tmp_path / "a.tif"), read_photo(tmp_path / "a.tif")

    assert photo.gray.dtype == np.uint16
    assert np.abs(photo.gray - luma(levels)).max() <= 1
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, levels[..., 3])
    else:
        assert photo.alpha is None
        assert np.abs(luma(rgb) - luma(levels) / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_planes_apart_are_turned_and_described(tmp_path, orientation):
    levels = noise(HEIGHT, WIDTH, 3)
    for planes in ("together", "apart"):
        write_tiff(
            tmp_path / f"{planes}.tif",
            levels,
            planes,
            resolution=(300, 300),
            resolutionunit="INCH",
            extratags=[(274, "H", 1, orientation, True)],
        )

    apart, together = (read_gray(tmp_path / f"{p}.tif") for p in ("apart", "together"))

    np.testing.assert_array_equal(apart.gray, together.gray)
    assert apart.metadata["dpi"] == together.metadata["dpi"] == (300, 300)


@pytest.mark.parametrize("compression", [5, 32773])
def test_lzw_and_packbits_are_read_with_planes_together(tmp_path, compression):
    levels, path = noise(HEIGHT, WIDTH, 3), str(tmp_path / "a.tif")
    cv2.imwrite(path, levels[..., ::-1], (cv2.IMWRITE_TIFF_COMPRESSION, compression))
    with Image.open(path) as image:
        assert image.tag_v2[Tag.Compression] == compression

    assert np.abs(read_gray(path).gray - luma(levels)).max() <= 1


@pytest.fixture
def planes_apart(tmp_path):
    """A deflated TIFF, planes apart, and a function that falsifies its tags."""
    path = tmp_path / "a.tif"
    write_tiff(path, noise(64, 64, 3), "apart", compression="zlib", tile=(64, 64))

    def falsify(tag, value):
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages.first.tags[tag].overwrite(value)

    return path, falsify


def test_lzw_with_planes_apart_is_refused_in_words(planes_apart):
    path, falsify = planes_apart
    falsify("Compression", 5)

    for read in (read_gray, read_photo):
        with pytest.raises(PhotoError, match=r"a\.tif .*planar, with LZW.*interleaved"):
            read(path)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("TileWidth", 2**22),
        ("TileByteCounts", [40, 40, 40]),
        ("TileOffsets", [2**31, 2**31, 2**31]),
    ],
)
def test_damaged_planes_are_refused(planes_apart, tag, value):
    path, falsify = planes_apart
    falsify(tag, value)

    with pytest.raises(PhotoError, match=r"a\.tif"):
        read_gray(path)


def test_a_plane_is_inflated_to_its_size_and_no_further(planes_apart):
    path, falsify = planes_apart
    compressor, zeros = zlib.compressobj(9), bytes(2**24)
    bomb = b"".join(compressor.compress(zeros) for _ in range(64)) + compressor.flush()
    start = path.stat().st_size
    with open(path, "ab") as file:
        file.write(bomb)
    falsify("TileOffsets", [start] * 3)
    falsify("TileByteCounts", [len(bomb)] * 3)
    tracemalloc.start()

    with pytest.raises(PhotoError, match="inflates"):
        read_gray(path)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26  # a plane would take 2**30 bytes


def test_a_fourth_channel_that_is_no_opacity_is_left_out(tmp_path):
    levels = noise(HEIGHT, WIDTH, 4)
    for planes in ("together", "apart"):
        write_tiff(tmp_path / "a.tif", levels, planes, extrasamples=["unspecified"])

        photo = read_gray(tmp_path / "a.tif")

        assert photo.alpha is None
        assert np.abs(photo.gray - luma(levels)).max() <= 1


def test_colors_that_hold_their_opacity_are_freed_of_it(tmp_path):
    levels = noise(HEIGHT, WIDTH, 4) // 2 + 32768
    stored = levels.astype(float)
    stored[..., :3] *= stored[..., 3:] / 65535
    stored = stored.round().astype(np.uint16)
    for planes in ("together", "apart"):
        write_tiff(tmp_path / "a.tif", stored, planes, extrasamples=["assocalpha"])

        photo = read_gray(tmp_path / "a.tif")

        np.testing.assert_array_equal(photo.alpha, levels[..., 3])
        assert np.abs(photo.gray - luma(levels)).max() <= 2


def test_12_bits_are_read_at_their_brightness(tmp_path):
    levels = noise(40, 50) >> 4
    first, second = levels[:, ::2], levels[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    tags = {256: 50, 257: 40, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 40}
    for tag, value in (tags | {279: packed.size}).items():
        directory[tag] = value
    head = b"II*\0\x08\0\0\0" + directory.tobytes(8)
    (tmp_path / "a.tif").write_bytes(head + packed.astype(np.uint8).tobytes())

    gray = read_gray(tmp_path / "a.tif").gray

    assert np.abs(gray / 65535 - levels / 4095).max() <= 1 / 4095


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_cmyk_of_16_bits_is_refused_in_words(tmp_path, planarconfig):
    levels = noise(HEIGHT, WIDTH, 4)
    if planarconfig == "separate":
        levels = np.ascontiguousarray(np.moveaxis(levels, -1, 0))
    tifffile.imwrite(
        tmp_path / "a.tif", levels, photometric="separated", planarconfig=planarconfig
    )

    with pytest.raises(PhotoError, match=r"a\.tif .*save it as RGB"):
        read_gray(tmp_path / "a.tif")
