"""Where the files of jobs lie, for how long, and under which names."""

import os

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from running import encode

from colorizer_tf.service.jobs import safe_name, unique_name


def test_what_the_page_keeps_expires(service):
    old = service.store.page_folder / "old/photo.png"
    old.parent.mkdir()
    old.write_bytes(encode())
    os.utime(old, (0, 0))
    os.utime(old.parent, (0, 0))
    service.store.remove_expired()
    assert not old.exists()
    assert all(path.exists() for path in service.store.permanent)


def test_names():
    assert safe_name("../a b.jpeg") == "a b.jpeg"
    assert safe_name("..\\..\\x.png", ".jpg") == "x.jpg"
    assert safe_name("мама.tif", ".tif") == "мама.tif"
    assert safe_name("a.JPEG", ".jpg") == "a.JPEG"
    assert safe_name("") == safe_name("..") == safe_name(None) == "photo"
    assert safe_name("a\0\n:b.png") == "a_b.png"
    assert len(safe_name("x" * 1000 + ".png")) < 80
    taken = {"a.png"}
    assert unique_name("A.png", taken) == "A (2).png"
    assert unique_name("a.png", taken) == "a (3).png"
