import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from colorizer_tf import photos as photos_module
from colorizer_tf import sixteen_bit
from colorizer_tf.color import BLUE, GREEN, RED
from colorizer_tf.files import atomic_write, find_photos
from colorizer_tf.photos import GrayPhoto, PhotoError, read_photo, write_jpeg_planes
from colorizer_tf.sixteen_bit import MAX_PIXELS


@pytest.fixture
def photo(make_photo):
    return make_photo(20, 30)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "A.TIFF", "A.PNG"])
def test_lossless_formats_are_read_exactly(tmp_path, photo, name):
    Image.fromarray(photo).save(tmp_path / name)

    read = read_photo(tmp_path / name)

    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, photo)


@pytest.mark.parametrize("name", ["a.jpg", "A.JPG", "a.jpeg", "A.JPEG", "a.webp"])
def test_lossy_formats_are_read(tmp_path, photo, name):
    Image.fromarray(photo).save(tmp_path / name, quality=95)

    read = read_photo(tmp_path / name)

    assert read.shape == photo.shape
    assert np.abs(np.int16(read) - photo).mean() < 4


@pytest.mark.parametrize("name", ["gray.png", "gray.jpg", "gray.webp"])
def test_a_gray_photo_has_three_equal_channels(tmp_path, name):
    levels = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None], 8, axis=0)
    Image.fromarray(levels).save(tmp_path / name, quality=95)

    read = read_photo(tmp_path / name)

    assert read.shape == (8, 25, 3)
    np.testing.assert_allclose(read, np.repeat(levels[..., None], 3, -1), atol=3)


def test_a_bilevel_photo_is_black_and_white(tmp_path):
    Image.fromarray(np.eye(6, dtype=bool)).save(tmp_path / "a.png")

    np.testing.assert_array_equal(
        read_photo(tmp_path / "a.png")[..., 1], 255 * np.eye(6)
    )


def test_transparent_parts_lie_on_white(tmp_path):
    pixels = np.uint8([[[255, 0, 0, 255], [255, 0, 0, 0], [255, 0, 0, 51]]])
    Image.fromarray(pixels).save(tmp_path / "a.png")

    np.testing.assert_array_equal(
        read_photo(tmp_path / "a.png"),
        [[[255, 0, 0], [255, 255, 255], [255, 204, 204]]],
    )


def test_gray_with_alpha_lies_on_white(tmp_path):
    pixels = np.uint8([[[40, 255], [40, 0]]])
    Image.fromarray(pixels, mode="LA").save(tmp_path / "a.png")

    np.testing.assert_array_equal(
        read_photo(tmp_path / "a.png"), [[[40, 40, 40], [255, 255, 255]]]
    )


def palette_photo():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


def test_a_palette_becomes_rgb(tmp_path):
    palette_photo().save(tmp_path / "a.png")

    np.testing.assert_array_equal(
        read_photo(tmp_path / "a.png"), [[[10, 20, 30], [200, 100, 50]]]
    )


def test_a_transparent_palette_entry_lies_on_white(tmp_path):
    palette_photo().save(tmp_path / "a.png", transparency=1)

    np.testing.assert_array_equal(
        read_photo(tmp_path / "a.png"), [[[10, 20, 30], [255, 255, 255]]]
    )


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_gray_is_brought_to_8_bits(tmp_path, name):
    levels = np.uint16([[0, 257, 128 * 257, 65535], [100, 200, 40000, 65400]])
    cv2.imwrite(str(tmp_path / name), levels)

    read = read_photo(tmp_path / name)

    assert read.dtype == np.uint8
    for channel in np.moveaxis(read, -1, 0):
        np.testing.assert_array_equal(
            channel, [[0, 1, 128, 255], [0, 1, 156, 254]], strict=False
        )


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_rgb_is_brought_to_8_bits(tmp_path, photo, name):
    deep = 257 * photo.astype(np.uint16)
    cv2.imwrite(str(tmp_path / name), deep[..., ::-1])

    np.testing.assert_array_equal(read_photo(tmp_path / name), photo)


@pytest.mark.parametrize("pixels", [np.int32([[70000, 1]]), np.float32([[0.5, 0.1]])])
def test_more_than_16_bits_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "deep.tif")

    with pytest.raises(PhotoError, match=r"deep\.tif.*8 or 16"):
        read_photo(tmp_path / "deep.tif")


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)

    np.testing.assert_allclose(
        read_photo(tmp_path / "a.jpg"), np.full((16, 16, 3), [255, 0, 0]), atol=3
    )


@pytest.mark.parametrize(("green_bits", "masks"), [(6, (0xF800, 0x7E0, 0x1F)), (5, ())])
def test_a_bmp_of_16_bits_a_pixel_is_not_deep(tmp_path, green_bits, masks):
    bits = np.array([5, green_bits, 5])
    red, green, blue = np.random.default_rng(0).integers(0, 2**bits, (9, 14, 3)).T
    pixels = (red << 5 + green_bits | green << 5 | blue).T.astype("<u2")
    start = 54 + 4 * len(masks)
    head = struct.pack("<2sIII", b"BM", start + pixels.nbytes, 0, start)
    compression = 3 if masks else 0
    head += struct.pack("<IiiHHIIiiII", 40, 14, 9, 1, 16, compression, 0, 0, 0, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    (tmp_path / "a.bmp").write_bytes(head + pixels[::-1].tobytes())

    rgb = read_photo(tmp_path / "a.bmp")
    gray = photos_module.read_gray(tmp_path / "a.bmp").gray

    expected = np.dstack([red.T, green.T, blue.T]) * 255 / (2**bits - 1)
    assert np.abs(rgb - expected).max() <= 1
    assert gray.dtype == np.uint8
    assert np.abs(gray - expected @ (RED, GREEN, BLUE)).max() <= 1.5


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_photo_is_turned_as_exif_says(tmp_path, photo, name, value):
    Image.fromarray(photo).save(tmp_path / name, exif=orientation(value))

    np.testing.assert_array_equal(read_photo(tmp_path / name), UPRIGHT[value](photo))


def test_a_turned_jpeg_is_scaled_by_its_own_shorter_side(tmp_path, make_photo):
    photo = make_photo(320, 480)
    Image.fromarray(photo).save(
        tmp_path / "a.jpg", exif=orientation(6), quality=95, subsampling=0
    )

    read = read_photo(tmp_path / "a.jpg", shorter_side=32)

    expected = cv2.resize(np.rot90(photo, -1), (32, 48), interpolation=cv2.INTER_AREA)
    assert read.shape == expected.shape
    assert np.abs(np.int16(read) - expected).mean() < 3


def test_a_broken_exif_tag_does_not_spoil_a_photo(tmp_path, photo):
    # Two entries: the maker, wrongly as a rational number, and orientation 6.
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08\0\x02"
        b"\x01\x0f\0\x05\0\0\0\x01\0\0\0\x26"
        b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
        b"\0\0\0\0\0\0\0\x01\0\0\0\x01"
    )
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)

    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.rot90(photo, -1))


def truncated_jpeg(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


BROKEN = {
    "truncated": truncated_jpeg,
    "text": lambda path: path.write_text("this is no photo"),
    "empty": lambda path: path.touch(),
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("shorter_side", [None, 16])
def test_what_is_no_photo_raises_an_error_that_names_it(tmp_path, kind, shorter_side):
    path = tmp_path / "broken.jpg"
    BROKEN[kind](path)

    with pytest.raises(PhotoError) as error:
        read_photo(path, shorter_side=shorter_side)

    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((30, 97), (16, 52)),
        ((97, 30), (52, 16)),
        ((5, 9), (16, 29)),
        ((31, 31), (16, 16)),
        ((16, 23), (16, 23)),
        ((1, 400), (16, 6400)),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_shorter_side_is_met_and_the_aspect_kept(
    tmp_path, make_photo, size, expected, name
):
    Image.fromarray(make_photo(*size)).save(tmp_path / name)

    read = read_photo(tmp_path / name, shorter_side=16)

    assert read.shape == (*expected, 3)


def test_photos_are_found_sorted_in_any_folder_below(tmp_path):
    names = [
        "b.jpg",
        "a.PNG",
        "sub/c.Webp",
        "sub/deep/d.TIFF",
        "e.jpeg",
        "f.bmp",
        "g.tif",
    ]
    others = ["notes.txt", "h.gif", ".hidden.jpg", "jpg"]
    (tmp_path / "sub/deep").mkdir(parents=True)
    (tmp_path / "folder.jpg").mkdir()
    for name in names + others:
        (tmp_path / name).touch()

    assert find_photos(tmp_path) == sorted(tmp_path / name for name in names)
    assert find_photos(str(tmp_path)) == find_photos(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_photos(tmp_path / "nowhere")


def test_a_folder_without_photos_says_where_and_for_what_was_looked(tmp_path):
    (tmp_path / "notes.txt").touch()

    with pytest.raises(FileNotFoundError) as error:
        find_photos(tmp_path)

    assert str(tmp_path) in str(error.value)
    assert ".jpg" in str(error.value)


def test_a_atomic_write_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_writing_that_fails_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half of the ne")
        raise error

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_left_behind_by_a_kill_does_not_disturb(tmp_path):
    path = tmp_path / "file.txt"
    unfinished = atomic_write(path)
    with unfinished as temporary:
        temporary.write_text("new")
    temporary.write_text("left behind, and longer than what comes")

    with atomic_write(path) as temporary:
        temporary.write_text("newer")

    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_pixels_of_another_size_than_the_header_are_refused(tmp_path, monkeypatch):
    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(MAX_PIXELS)
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(tmp_path / "a.tif")
    other = np.zeros((200, 300), np.uint16)
    monkeypatch.setattr(sixteen_bit.cv2, "imdecode", lambda *_: other)
    with pytest.raises(PhotoError, match="different sizes"):
        photos_module.read_gray(tmp_path / "a.tif")


def test_a_resolution_that_is_none_is_left_out(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "a.tif", dpi=(300, 300))
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(struct.pack("<II", 300, 1)) >= 1
    broken = content.replace(struct.pack("<II", 300, 1), struct.pack("<II", 0, 0))
    (tmp_path / "a.tif").write_bytes(broken)

    photo = photos_module.read_gray(tmp_path / "a.tif")

    assert "dpi" not in photo.metadata
    rgb = np.zeros((20, 30, 3), np.uint8)
    photos_module.write_photo(tmp_path / "b.jpg", rgb, photo)


def test_a_bug_is_logged_with_its_traceback(tmp_path, monkeypatch, caplog):
    Image.new("L", (8, 8)).save(tmp_path / "fine.png")
    monkeypatch.setattr(photos_module, "_to_luma", lambda image: image.nothing)
    with pytest.raises(PhotoError, match=r"fine\.png"):
        photos_module.read_gray(tmp_path / "fine.png")
    assert "AttributeError" in caplog.text


def test_a_jpeg_of_planes_depends_on_nothing_beside_them(tmp_path, make_photo):
    photo = make_photo(59, 45)[..., 0]
    chroma = np.full((30, 23), 128, np.uint8)
    contents = set()
    for level in (0, 255):  # the memory behind the photo
        memory = np.full(photo.size + 1000, level, np.uint8)
        luma = memory[: photo.size].reshape(photo.shape)
        luma[:] = photo
        write_jpeg_planes(tmp_path / "a.jpg", luma, chroma, chroma, GrayPhoto(luma))
        contents.add((tmp_path / "a.jpg").read_bytes())
    assert len(contents) == 1
