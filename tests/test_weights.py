"""Tests the package's generator."""

import subprocess
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
import yaml
from PIL import Image

import colorizer_tf as ct

MEGABYTES = 20


@pytest.fixture(scope="module")
def colorizer():
    return ct.Colorizer.pretrained()


def test_it_is_nearer_to_the_real_colors_than_gray(colorizer, tmp_path):
    for name in ("astronaut", "cat", "coffee", "rocket"):
        photo = getattr(skimage.data, name)()
        Image.fromarray(photo).save(tmp_path / f"{name}.png")

    evaluation = ct.evaluate(colorizer, tmp_path.iterdir())

    assert evaluation.colorized.psnr > evaluation.gray.psnr + 0.8
    assert evaluation.colorized.ciede2000 < evaluation.gray.ciede2000 - 1
    assert 0.3 < evaluation.colorized.colorfulness < 1.2
    assert evaluation.colorized.detail < 1


def test_it_comes_with_the_package_and_its_card(checkout, tmp_path):
    assert ct.Colorizer.WEIGHTS.stat().st_size < MEGABYTES * 1e6

    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, checkout], check=True
    )

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        names = set(package.namelist())
        name = "colorizer_tf/weights/generator.keras"
        assert package.getinfo(name).file_size == ct.Colorizer.WEIGHTS.stat().st_size
        (scripts,) = (name for name in names if name.endswith("entry_points.txt"))
        entry = "colorizer-tf = colorizer_tf.__main__:main"
        assert entry in package.read(scripts).decode()
    assert wheel.name.startswith(f"colorizer_tf-{ct.__version__}-")
    assert "colorizer_tf/weights/README.md" in names
    files = (checkout / "colorizer_tf").rglob("*.*")
    code = [path for path in files if path.suffix in (".py", ".js", ".css")]
    assert {str(path.relative_to(checkout)) for path in code} <= names


def test_the_card_begins_with_what_the_hub_reads():
    card = (ct.Colorizer.WEIGHTS.parent / "README.md").read_text("utf-8")
    nothing, head, _ = card.split("---\n", 2)
    assert nothing == ""
    facts = yaml.safe_load(head)
    assert facts["library_name"] == "keras"
    assert facts["pipeline_tag"] == "image-to-image"
    assert facts["license"] == "other"
    assert {"license_name", "license_link"} <= facts.keys()
    assert "image-colorization" in facts["tags"]


@pytest.mark.parametrize("written", ["by keras", "as it is"])
def test_a_generator_comes_from_the_hub(written, generator, tmp_path, monkeypatch):
    def snapshot_download(repo_id, allow_patterns, **_):
        assert repo_id == "somebody/colorizer"
        if written == "by keras":
            keras.saving.save_model(generator, tmp_path, zipped=False)
            (tmp_path / "README.md").touch()
        else:
            generator.save(tmp_path / "generator.keras")
        for path in filter(Path.is_file, tmp_path.iterdir()):
            if not any(path.match(pattern) for pattern in allow_patterns):
                path.unlink()
        return str(tmp_path)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    colorizer = ct.Colorizer.load("hf://somebody/colorizer", working_size=64)

    assert colorizer.working_size == 64
    pairs = zip(colorizer.generator.get_weights(), generator.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_what_the_hub_has_not_is_named(monkeypatch):
    def snapshot_download(**_):
        raise OSError("404 Not Found")

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(ValueError, match=r"hf://somebody/nothing .*404"):
        ct.Colorizer.load("hf://somebody/nothing")


def test_a_repository_without_a_model_is_named(tmp_path, monkeypatch):
    hub = types.SimpleNamespace(snapshot_download=lambda **_: str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(ValueError, match=r"hf://somebody/photos holds no Keras model"):
        ct.Colorizer.load("hf://somebody/photos")
