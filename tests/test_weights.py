"""The generator in the box."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

import colorizer_tf as ct

PROJECT = Path(__file__).parent.parent
MEGABYTES = 25


@pytest.fixture(scope="module")
def colorizer():
    return ct.Colorizer.pretrained()


def test_it_is_nearer_to_the_real_colours_than_gray(colorizer, tmp_path):
    for name in ("astronaut", "cat", "coffee", "rocket"):
        photo = getattr(skimage.data, name)()
        Image.fromarray(photo).save(tmp_path / f"{name}.png")

    evaluation = ct.evaluate(colorizer, tmp_path.iterdir())

    assert evaluation.colorized.psnr > evaluation.gray.psnr + 0.8
    assert evaluation.colorized.ciede2000 < evaluation.gray.ciede2000 - 1
    assert 0.3 < evaluation.colorized.colourfulness < 1.2
    assert evaluation.colorized.detail < 1


def test_it_comes_with_the_package_and_its_card(tmp_path):
    assert ct.Colorizer.WEIGHTS.stat().st_size < MEGABYTES * 1e6

    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, PROJECT], check=True
    )

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        names = set(package.namelist())
        name = "colorizer_tf/weights/generator.keras"
        assert package.getinfo(name).file_size == ct.Colorizer.WEIGHTS.stat().st_size
    assert "colorizer_tf/weights/README.md" in names
    modules = (PROJECT / "colorizer_tf").rglob("*.py")
    assert {str(path.relative_to(PROJECT)) for path in modules} <= names
