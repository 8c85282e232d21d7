import struct

import pytest
from PIL import Image

from colorizer_tf.photos import PhotoError

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from colorizer_tf.service import validation
from colorizer_tf.service.validation import (
    result_name,
    safe_name,
    unique_name,
    validate_photo,
)


@pytest.mark.parametrize(
    ("ending", "file_format"),
    [(".bmp", "BMP"), (".jpg", "JPEG"), (".png", "PNG"), (".tif", "TIFF")],
)
def test_a_photo_is_known_by_its_content(tmp_path, ending, file_format):
    Image.new("L", (30, 20)).save(tmp_path / "a.webp", file_format)
    assert validate_photo(tmp_path / "a.webp") == (ending, (20, 30))


def test_what_is_no_photo_of_these_formats_is_refused(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "a.gif")
    with pytest.raises(PhotoError, match="cannot be read"):
        validate_photo(tmp_path / "a.gif")


def test_a_jpeg_of_too_many_scans_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "MAX_SCANNED_PIXELS", 20 * 64 * 64)
    path = tmp_path / "a.jpg"
    Image.new("L", (64, 64), 90).save(path, progressive=True)
    assert validate_photo(path) == (".jpg", (64, 64))
    content = path.read_bytes()
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + 20 * last_scan + content[-2:])

    with pytest.raises(PhotoError, match="scans"):
        validate_photo(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_too_many_strips_is_refused(tmp_path, order, big):
    head = {"<": b"II", ">": b"MM"}[order]
    if big:
        head += struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
        table = struct.pack(f"{order}QHHQQ", 1, 273, 4, 2**20, 0)
    else:
        head += struct.pack(f"{order}HI", 42, 8)
        table = struct.pack(f"{order}HHHII", 1, 273, 4, 2**20, 0)
    (tmp_path / "a.tif").write_bytes(head + table)

    with pytest.raises(PhotoError, match="strips"):
        validate_photo(tmp_path / "a.tif")


def test_a_tiff_of_strips_is_identified(tmp_path):
    Image.new("L", (30, 400)).save(tmp_path / "a.tif", strip_size=30)
    assert validate_photo(tmp_path / "a.tif") == (".tif", (400, 30))


def test_names():
    assert safe_name("../a b.jpeg") == "a b.jpeg"
    assert safe_name("..\\..\\x.png", ".jpg") == "x.jpg"
    assert safe_name("мама.tif", ".tif") == "мама.tif"
    assert safe_name("a.JPEG", ".jpg") == "a.JPEG"
    assert safe_name("") == safe_name("..") == safe_name(None) == "photo"
    assert safe_name("a\0\n:b.png") == "a_b.png"
    assert len(safe_name("x" * 1000 + ".png")) < 80
    assert result_name("../a b.jpeg", ".jpg") == "a b colour.jpeg"
    assert result_name("x.png", ".tif") == "x colour.tif"
    taken = {"a.png"}
    assert unique_name("A.png", taken) == "A (2).png"
    assert unique_name("a.png", taken) == "a (3).png"
