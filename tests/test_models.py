import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from colorizer_tf.color import join_luma_chroma
from colorizer_tf.models import (
    build_discriminator,
    build_generator,
    to_float32,
    upsample_bilinear,
)

BARE_KERAS = """
import sys, keras, numpy
generator = keras.models.load_model("generator.keras")
numpy.save("rgb.npy", generator(numpy.load("gray.npy")))
assert "colorizer_tf" not in sys.modules
"""


def gray_photos(height=16, width=16, count=2):
    return np.random.default_rng(0).random((count, height, width, 1), np.float32)


def luma(rgb):
    red, green, blue = np.moveaxis(np.asarray(rgb), -1, 0)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[..., None]


@pytest.fixture(scope="module", autouse=True)
def reloading(tmp_path_factory, build_vivid_generator):
    """A process that reloads a saved generator, beside the other tests."""
    folder = tmp_path_factory.mktemp("reloading")
    generator, gray = build_vivid_generator(), gray_photos()
    generator.save(folder / "generator.keras")
    np.save(folder / "gray.npy", gray)
    process = subprocess.Popen([sys.executable, "-c", BARE_KERAS], cwd=folder)
    yield SimpleNamespace(
        process=process, result=folder / "rgb.npy", expected=generator(gray)
    )
    process.kill()
    process.wait()


def test_the_generator_takes_any_multiple_of_its_strides(generator):
    for size in [(8, 8), (16, 40), (64, 24)]:
        assert generator(gray_photos(*size)).shape == (2, *size, 3)


def test_the_generator_gives_colour_with_the_luma_of_its_input(generator):
    gray = gray_photos(32, 32)

    rgb = np.asarray(generator(gray))

    assert np.ptp(rgb, axis=-1).mean() > 0.1
    np.testing.assert_allclose(luma(rgb), gray, atol=1e-5)


def test_the_generator_gives_rgb_in_zero_to_one(generator):
    gray = gray_photos(32, 32)
    gray[0, :8], gray[0, 8:16] = 0, 1
    kernel, bias = generator.get_layer("chroma").get_weights()
    generator.get_layer("chroma").set_weights([100 * kernel, bias])

    rgb = np.asarray(generator(gray))

    assert rgb.min() >= -1e-6
    assert rgb.max() <= 1 + 1e-6


def test_training_starts_from_the_gray_photo():
    gray = gray_photos()

    rgb = build_generator(widths=(8, 16))(gray)

    np.testing.assert_allclose(rgb, np.repeat(gray, 3, axis=-1), atol=1e-6)


def test_a_constant_chroma_reaches_the_border(generator):
    kernel, _ = generator.get_layer("chroma").get_weights()
    chroma = np.float32([0.1, -0.05])
    generator.get_layer("chroma").set_weights([np.zeros_like(kernel), chroma])
    gray = np.full((1, 16, 24, 1), 0.5, np.float32)

    expected = np.zeros((1, 16, 24, 3)) + join_luma_chroma(np.float32([0.5]), chroma)
    np.testing.assert_allclose(generator(gray), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_that_of_tensorflow(factor):
    chroma = np.random.default_rng(0).normal(size=(2, 5, 7, 2)).astype(np.float32)
    x = keras.Input((None, None, 2))
    model = keras.Model(x, upsample_bilinear(x, factor))

    expected = tf.image.resize(chroma, (factor * 5, factor * 7), "bilinear")
    np.testing.assert_allclose(model(chroma), expected, atol=1e-5)
    assert not model.trainable_variables


def test_the_default_generator_has_at_most_12_million_parameters():
    generator = build_generator()

    assert generator.count_params() <= 12e6
    assert generator.input_shape == (None, None, None, 1)
    assert generator.output_shape == (None, None, None, 3)


def test_widths_and_blocks_make_a_larger_generator():
    small = build_generator(widths=(8, 16)).count_params()

    assert build_generator(widths=(8, 16), blocks=2).count_params() > small
    assert build_generator(widths=(8, 24)).count_params() > small
    assert build_generator(widths=(8, 16, 16))(gray_photos()).shape == (2, 16, 16, 3)


def test_an_exported_generator_serves_any_size(generator, tmp_path):
    generator.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))

    for gray in (gray_photos(16, 24), gray_photos(32, 8, count=1)):
        np.testing.assert_allclose(served.serve(gray), generator(gray), atol=1e-5)


def test_the_discriminator_gives_a_logit_for_each_patch():
    discriminator = build_discriminator(image_size=32, widths=(8, 16))

    assert discriminator.output_shape == (None, 4, 4, 1)
    assert discriminator(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 4, 4, 1)


def test_the_default_discriminator_has_patches_of_16_pixels():
    assert build_discriminator(image_size=128).output_shape == (None, 8, 8, 1)


def test_the_discriminator_takes_any_size_where_none_is_named():
    discriminator = build_discriminator(image_size=None, widths=(8, 16))

    assert discriminator(np.zeros((1, 16, 40, 3), np.float32)).shape == (1, 2, 5, 1)


def test_logits_are_not_squashed_into_probabilities(discriminator):
    photos = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    logits = np.asarray(discriminator(photos))

    for shift in (-5, 5):
        discriminator.get_layer("logits").bias.assign([shift])
        np.testing.assert_allclose(discriminator(photos), logits + shift, atol=1e-5)


def test_a_patch_depends_on_its_part_of_the_photo(discriminator):
    photos = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    changed = photos.copy()
    changed[0, 0, 0] = 1 - changed[0, 0, 0]

    difference = np.abs(discriminator(photos) - discriminator(changed))

    assert difference[0, 0, 0, 0] > 0


def test_a_saved_generator_reloads_in_bare_keras(reloading):
    assert reloading.process.wait() == 0

    np.testing.assert_allclose(np.load(reloading.result), reloading.expected, atol=1e-6)


def test_mixed_precision_is_left_behind():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_generator(widths=(8, 16))
    finally:
        keras.config.set_dtype_policy("float32")
    chroma = mixed.get_layer("chroma")
    chroma.kernel.assign(np.random.default_rng(0).normal(0, 0.1, chroma.kernel.shape))
    gray = gray_photos()
    assert mixed(gray).dtype == "float32"
    np.testing.assert_allclose(luma(mixed(gray)), gray, atol=1e-6)

    exact = to_float32(mixed)

    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    np.testing.assert_allclose(exact(gray), mixed(gray), atol=0.02)
    assert not np.array_equal(exact(gray), mixed(gray))
