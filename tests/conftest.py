import colorizer_tf.training  # noqa: F401

# isort: split
# The package comes first: it configures TensorFlow before its start.
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import papermill
import pytest
from PIL import Image
from tiny_networks import build_tiny_discriminator, build_tiny_generator

matplotlib.use("Agg")

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A writable copy of the project, even if the project is read-only."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("colorizer_tf", "examples", "notebooks"):
        shutil.copytree(
            PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    return folder


@pytest.fixture
def run_notebook(checkout, tmp_path, monkeypatch):
    """A function that runs a notebook by papermill, from a folder not its own.

    It checks that only progress is written to the standard error.
    """
    path = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.strip(os.pathsep))

    def run(name, **parameters):
        source = checkout / f"notebooks/{name}.ipynb"
        assert parameters.keys() <= papermill.inspect_notebook(source).keys()
        notebook = papermill.execute_notebook(
            source,
            tmp_path / f"{name}.ipynb",
            parameters,
            cwd=tmp_path,
            progress_bar=False,
            execution_timeout=300,
        )
        errors = [
            line
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if output.get("name") == "stderr"
            for line in output.text.replace("\r", "\n").splitlines()
        ]
        progress = re.compile("(photo|frame)/s|s/(photo|frame)")
        assert [line for line in errors if line and not progress.search(line)] == []
        return notebook

    return run


@pytest.fixture
def interruptible():
    """Makes Ctrl-C work in child processes, even if the tests' caller ignores it.

    A process that ignores a signal, such as `nohup`, passes this on to its children.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def make_photo():
    """A function that makes a smooth, colorful uint8 RGB photo."""

    def make(height, width, seed=0):
        patches = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
        return cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)

    return make


@pytest.fixture(scope="session")
def write_photos(make_photo):
    """A function that writes PNG photos to a folder and returns their paths."""

    def write(folder, count, height=20, width=24):
        folder.mkdir(exist_ok=True)
        paths = [folder / f"photo_{number:02}.png" for number in range(count)]
        for number, path in enumerate(paths):
            Image.fromarray(make_photo(height, width, seed=number)).save(path)
        return paths

    return write


@pytest.fixture(scope="session")
def build_vivid_generator():
    """A function that builds a tiny untrained generator with strong colors."""

    def build(hints=False):
        generator = build_tiny_generator(hints)
        kernel, bias = generator.get_layer("chroma").get_weights()
        rng = np.random.default_rng(0)
        generator.get_layer("chroma").set_weights(
            [rng.normal(0, 0.5, kernel.shape), rng.normal(0, 0.1, bias.shape)]
        )
        return generator

    return build


@pytest.fixture
def generator(build_vivid_generator):
    return build_vivid_generator()


@pytest.fixture
def discriminator():
    return build_tiny_discriminator()
