"""Coloring photos is light: it imports no TensorFlow and no plotting."""

import json
import subprocess
import sys

import pytest

import colorizer_tf as ct

HEAVY = {"keras", "tensorflow", "matplotlib", "skimage", "pandas", "sklearn", "ray"}
REPORT = "import sys, json; print(json.dumps([*sys.modules]), file=sys.stderr)"


def modules_after(code, *arguments):
    """Returns the packages that a new process imports to run some code."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = json.loads(ended.stderr.splitlines()[-1])
    return {name.partition(".")[0] for name in modules}


@pytest.fixture
def photos(write_photos, tmp_path):
    return write_photos(tmp_path / "photos", 2)


def test_a_heavy_package_would_be_seen():
    assert "matplotlib" in modules_after("import matplotlib")


def test_the_import_alone_is_all_but_free():
    assert "numpy" not in modules_after("import colorizer_tf")


def test_a_colorizer_is_light():
    code = (
        "import colorizer_tf as ct, numpy as np; colorizer = ct.Colorizer.pretrained()"
    )
    photo, hints = "np.zeros((40, 60), np.uint8)", "[ct.Hint(0, 0, '#ff0000')]"
    run = f"colorizer.colorize({photo}, hints={hints})"
    assert not HEAVY & modules_after(f"{code}\n{run}")


def test_the_command_is_light(photos, tmp_path):
    code = "import sys\nfrom colorizer_tf.__main__ import main\n"
    code += "assert not main(sys.argv[1:])"
    result = tmp_path / "result.jpg"
    assert not HEAVY & modules_after(code, "colorize", photos[0], result)
    assert result.exists()
    out = tmp_path / "out"
    assert not HEAVY & modules_after(code, "colorize", photos[0].parent, out)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("skimage", "ct.load_split"),
        ("tensorflow", "ct.build_generator"),
        ("keras", "from colorizer_tf.training import keras"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(missing, line):
    code = f"import sys; sys.modules['{missing}'] = None; import colorizer_tf as ct"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{line}"], capture_output=True, text=True
    )
    assert ended.stderr.splitlines()[-1].endswith(
        f"needs {missing}, which is not installed: pip install "
        '"colorizer_tf[train]", or pip install -e ".[train]" in the project\'s folder.'
    )


@pytest.mark.parametrize("name", ct.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ct, name).__name__.split(".")[-1] == name
