import colorizer_tf as ct  # noqa: F401

# isort: split
# The package comes first: it says how TensorFlow is to start.
import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_tiny_discriminator, build_tiny_generator

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def make_photo():
    """A function that makes a smooth uint8 RGB photo full of colour."""

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
    """A function that builds a tiny generator that already gives strong colours."""

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
