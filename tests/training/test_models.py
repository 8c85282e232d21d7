import subprocess
import sys
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from colorizer_tf.color import join_luma_chroma
from colorizer_tf.training.encoder import build_encoder
from colorizer_tf.training.models import (
    SpectralNormalization,
    apply_self_attention,
    build_discriminator,
    build_generator,
    copy_weights,
    embed_hints,
    scale_chroma,
    to_float32,
    upsample_bilinear,
)

BARE_KERAS = """
import sys, keras, numpy
generator = keras.models.load_model("generator.keras")
numpy.save("rgb.npy", generator([numpy.load("gray.npy"), numpy.load("hints.npy")]))
assert "colorizer_tf" not in sys.modules
"""


def gray_photos(height=32, width=32, count=2):
    return np.random.default_rng(0).random((count, height, width, 1), np.float32)


def no_hints(gray):
    count, height, width, _ = gray.shape
    return np.zeros((count, height // 4, width // 4, 3), np.float32)


def colorize(generator, gray):
    return np.asarray(generator([gray, no_hints(gray)]))


def luma(rgb):
    red, green, blue = np.moveaxis(np.asarray(rgb), -1, 0)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[..., None]


def make_vivid(generator):
    """Gives a generator strong colors without training."""
    kernel, bias = generator.get_layer("chroma").get_weights()
    rng = np.random.default_rng(0)
    generator.get_layer("chroma").set_weights(
        [rng.normal(0, 0.05, kernel.shape), rng.normal(0, 0.05, bias.shape)]
    )
    return generator


@pytest.fixture(scope="module")
def whole_generator():
    keras.utils.set_random_seed(0)
    return make_vivid(build_generator())


@pytest.fixture
def generator(whole_generator):
    """The default generator; a test may change its weights."""
    weights = whole_generator.get_weights()
    yield whole_generator
    whole_generator.set_weights(weights)


@pytest.fixture(scope="module", autouse=True)
def reloading(tmp_path_factory, whole_generator):
    """A process that reloads a saved generator while other tests run."""
    folder = tmp_path_factory.mktemp("reloading")
    gray = gray_photos()
    hints = no_hints(gray)
    hints[:, 2, 3] = 1, 0.2, -0.1
    whole_generator.save(folder / "generator.keras")
    np.save(folder / "gray.npy", gray)
    np.save(folder / "hints.npy", hints)
    process = subprocess.Popen([sys.executable, "-c", BARE_KERAS], cwd=folder)
    yield SimpleNamespace(
        process=process,
        result=folder / "rgb.npy",
        expected=whole_generator([gray, hints]),
    )
    process.kill()
    process.wait()


def test_the_generator_takes_any_multiple_of_its_strides(generator):
    for size in [(32, 32), (32, 96), (160, 64)]:
        assert colorize(generator, gray_photos(*size)).shape == (2, *size, 3)


def test_the_generator_gives_color_with_the_luma_of_its_input(generator):
    gray = gray_photos()

    rgb = colorize(generator, gray)

    assert np.ptp(rgb, axis=-1).mean() > 0.05
    np.testing.assert_allclose(luma(rgb), gray, atol=1e-5)


def test_the_generator_gives_rgb_in_zero_to_one(generator):
    gray = gray_photos()
    gray[0, :8], gray[0, 8:16] = 0, 1
    kernel, bias = generator.get_layer("chroma").get_weights()
    generator.get_layer("chroma").set_weights([100 * kernel, bias])

    rgb = colorize(generator, gray)

    assert rgb.min() >= -1e-6
    assert rgb.max() <= 1 + 1e-6


def test_training_starts_from_the_gray_photo(generator):
    chroma = generator.get_layer("chroma")
    assert not build_generator(None).get_layer("chroma").kernel.numpy().any()
    chroma.set_weights([np.zeros_like(weights) for weights in chroma.get_weights()])
    gray = gray_photos()

    rgb = colorize(generator, gray)

    np.testing.assert_allclose(rgb, np.repeat(gray, 3, axis=-1), atol=1e-6)


def test_a_constant_chroma_reaches_the_border(generator):
    kernel, _ = generator.get_layer("chroma").get_weights()
    chroma = np.float32([0.1, -0.05])
    generator.get_layer("chroma").set_weights([np.zeros_like(kernel), chroma])
    gray = np.full((1, 32, 64, 1), 0.5, np.float32)

    expected = np.zeros((1, 32, 64, 3)) + join_luma_chroma(np.float32([0.5]), chroma)
    np.testing.assert_allclose(colorize(generator, gray), expected, atol=1e-5)


@pytest.mark.parametrize(
    "knee, chroma", [(0.02, 0.002), (0.02, 0.02), (0.02, 0.2), (0, 0.1), (0.02, 0)]
)
def test_scaled_chroma_keeps_its_hue_and_is_fainter_where_it_is_faint(
    generator, knee, chroma
):
    kernel, _ = generator.get_layer("chroma").get_weights()
    chroma = np.float32([0.6 * chroma, -0.8 * chroma])
    generator.get_layer("chroma").set_weights([np.zeros_like(kernel), chroma])
    gray = np.full((1, 32, 64, 1), 0.5, np.float32)
    length = np.hypot(*chroma)

    scaled = scale_chroma(generator, 1.5, knee)

    chroma *= 1.5 * length / max(length + knee, 1e-9)
    expected = np.zeros((1, 32, 64, 3)) + join_luma_chroma(np.float32([0.5]), chroma)
    np.testing.assert_allclose(colorize(scaled, gray), expected, atol=1e-4)


def test_a_scaled_generator_has_a_gradient_at_no_color_at_all_and_is_saved(
    generator, tmp_path
):
    layer = generator.get_layer("chroma")
    layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    gray = gray_photos()
    scaled = scale_chroma(generator, 1.5, 0.02)

    with tf.GradientTape() as tape:
        error = tf.reduce_mean(scaled([gray, no_hints(gray)])[..., 0])
    gradient = np.asarray(tape.gradient(error, layer.bias.value))
    assert np.isfinite(gradient).all() and gradient.any()

    make_vivid(scaled)
    to_float32(scaled).save(tmp_path / "generator.keras")
    saved = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(colorize(saved, gray), colorize(scaled, gray), atol=1e-5)


def test_a_scaled_generator_of_gray_alone_takes_gray_alone():
    gray = gray_photos()
    generator = make_vivid(build_generator(None, hints=False))

    scaled = scale_chroma(generator, 1, 0)

    assert not isinstance(scaled.input, list)
    np.testing.assert_allclose(scaled(gray), generator(gray), atol=1e-4)


def test_a_single_hint_is_heard_where_it_is_and_near_it(generator):
    gray = gray_photos(128, 128, count=1)
    hints = no_hints(gray)
    without = colorize(generator, gray)
    hints[0, 16, 16] = 1, 0.1, -0.1

    change = np.abs(np.asarray(generator([gray, hints])) - without).mean(axis=-1)[0]

    assert change[64:68, 64:68].mean() > 0.01
    assert change[56:76, 56:76].mean() > 2 * change[:24, :24].mean()


def test_a_single_hint_reaches_the_far_side(generator):
    gray = gray_photos(32, 256, count=1)
    hints = no_hints(gray)
    without = colorize(generator, gray)
    hints[0, 4, 16] = 1, 0.1, -0.1

    change = np.abs(np.asarray(generator([gray, hints])) - without)

    assert change[0, :, 160:].max() > 0  # 96 pixels away


def test_a_cell_has_the_mean_chroma_of_its_hints_alone():
    hints = keras.Input((None, None, 3))
    embedding = keras.Model(hints, embed_hints(hints, 4, 3))
    embedding.layers[-1].set_weights([np.eye(3)[None, None]])
    cells = np.zeros((1, 8, 8, 3), np.float32)
    cells[0, 1, 1] = 1, 0.5, -0.25
    cells[0, 4, 5] = 1, 0.25, 0
    cells[0, 6, 7] = 1, 0, 0.125

    seen = np.asarray(embedding(cells))[0]

    np.testing.assert_allclose(seen[0, 0], [1, 4, -2], atol=1e-6)
    np.testing.assert_allclose(seen[1, 1], [1, 1, 0.5], atol=1e-6)
    assert not seen[0, 1].any()
    assert not seen[1, 0].any()


def test_a_generator_of_gray_photos_alone():
    generator = build_generator(hints=False)

    assert generator.input_shape == (None, None, None, 1)
    assert generator(gray_photos()).shape == (2, 32, 32, 3)


def test_a_pretrained_encoder_is_frozen_where_it_sees_edges_and_textures():
    trained = {variable.path for variable in build_generator().trainable_variables}

    assert "70_project/kernel" in trained
    assert "40_expand/kernel" in trained
    assert "30_expand/kernel" not in trained
    assert "70_depthwise/kernel" not in trained


def test_from_scratch_everything_is_trained_and_the_seed_decides():
    keras.utils.set_random_seed(1)
    one = build_generator(None)
    keras.utils.set_random_seed(1)
    same = build_generator(None)
    assert len(one.trainable_variables) > len(build_generator().trainable_variables)
    for value, other in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    assert not np.array_equal(
        one.get_layer("encoder").get_weights()[0],
        build_encoder().get_weights()[0],
    )


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_that_of_tensorflow(factor):
    chroma = np.random.default_rng(0).normal(size=(2, 5, 7, 2)).astype(np.float32)
    x = keras.Input((None, None, 2))
    model = keras.Model(x, upsample_bilinear(x, factor))

    expected = tf.image.resize(chroma, (factor * 5, factor * 7), "bilinear")
    np.testing.assert_allclose(model(chroma), expected, atol=1e-5)
    assert not model.trainable_variables


def test_the_default_generator_is_light(whole_generator):
    assert whole_generator.count_params() < 6.5e6
    assert whole_generator.input_shape == [(None, None, None, 1), (None, None, None, 3)]
    assert whole_generator.output_shape == (None, None, None, 3)


def test_an_exported_generator_serves_any_size(generator, tmp_path):
    generator.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))

    for gray in (gray_photos(32, 64), gray_photos(96, 32, count=1)):
        np.testing.assert_allclose(
            served.serve([gray, no_hints(gray)]), colorize(generator, gray), atol=1e-5
        )


@pytest.fixture
def attention():
    """Self-attention alone, over 8 channels, whose output is no longer zero."""
    x = keras.Input((None, None, 8))
    model = keras.Model(x, apply_self_attention(x, "attention"))
    output = model.get_layer("attention_output")
    kernel = np.random.default_rng(0).normal(size=output.kernel.shape)
    output.set_weights([kernel, np.zeros(8)])
    return model


def test_attention_reaches_every_place(attention):
    x = np.random.default_rng(0).normal(size=(1, 2, 40, 8)).astype(np.float32)
    changed = x.copy()
    changed[0, 0, 0, 0] += 1

    change = np.abs(np.asarray(attention(changed)) - attention(x))[0]

    assert (change.max(axis=-1) > 0).all()


def test_attention_does_not_mind_where_places_are(attention):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)

    np.testing.assert_allclose(
        attention(x[:, ::-1, ::-1]),
        np.asarray(attention(x))[:, ::-1, ::-1],
        atol=1e-5,
    )


def test_attention_is_exported_with_open_sizes(attention, tmp_path):
    attention.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))

    for shape in [(1, 2, 5, 8), (3, 4, 1, 8)]:
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(served.serve(x), attention(x), atol=1e-5)


def test_weights_are_copied_from_a_scaled_generator(generator):
    attention = generator.get_layer("attention_32_output")
    attention.set_weights([np.ones_like(x) for x in attention.get_weights()])
    copy = build_generator(None)
    gray = gray_photos(64, 32)

    copy_weights(scale_chroma(generator, 1, 0), copy)

    np.testing.assert_allclose(colorize(copy, gray), colorize(generator, gray))


def test_weights_of_a_generator_of_other_layers_are_not_copied(generator):
    with pytest.raises(ValueError, match="same layers"):
        copy_weights(generator, build_generator(None, hints=False))


@pytest.fixture(scope="module")
def whole_discriminator():
    keras.utils.set_random_seed(1)
    return build_discriminator()


def test_each_head_gives_a_logit_for_each_patch(whole_discriminator):
    photos = np.random.default_rng(0).random((2, 64, 96, 3), np.float32)

    logits = np.asarray(whole_discriminator(photos))

    assert logits.shape == (2, 2, 3, 4)
    assert (logits.std(axis=(0, 1, 2)) > 0).all()
    assert logits.min() < 0 < logits.max()  # logits, not probabilities


def test_every_head_tells_color_from_gray(whole_discriminator):
    rng = np.random.default_rng(0)
    color = cv2.resize(rng.random((4, 4, 3), np.float32), (64, 64))[None]
    gray = np.repeat(luma(color), 3, axis=-1)

    difference = np.abs(whole_discriminator(color) - whole_discriminator(gray))

    assert (difference.max(axis=(0, 1, 2)) > 0).all()


def test_spectral_normalization_is_that_of_keras():
    photos = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    results = []
    for kind in (keras.layers.SpectralNormalization, SpectralNormalization):
        keras.utils.set_random_seed(0)
        layer = kind(keras.layers.Conv2D(4, 3))
        before = layer(photos, training=False)
        after = layer(photos, training=True)
        assert np.abs(after - before).max() > 0.01
        results.append([before, after, *layer.get_weights()])
    for keras_own, ours in zip(*results, strict=True):
        np.testing.assert_array_equal(keras_own, ours)


def test_the_discriminator_learns_by_its_heads_alone(whole_discriminator):
    features = whole_discriminator.get_layer("encoder")

    assert not features.trainable_variables
    assert len(whole_discriminator.trainable_variables) == 2 * (4 + 3 + 2 + 2)


def test_a_saved_generator_reloads_in_bare_keras(reloading):
    assert reloading.process.wait() == 0

    np.testing.assert_allclose(np.load(reloading.result), reloading.expected, atol=1e-6)


def test_mixed_precision_is_left_behind():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = make_vivid(build_generator())
    finally:
        keras.config.set_dtype_policy("float32")
    gray = gray_photos()
    np.testing.assert_allclose(luma(colorize(mixed, gray)), gray, atol=1e-6)

    exact = to_float32(mixed)

    layers = [*exact.layers, *exact.get_layer("encoder").layers]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    difference = np.abs(colorize(exact, gray) - colorize(mixed, gray))
    assert 0 < difference.mean() < 0.01
    assert len(exact.trainable_variables) == len(mixed.trainable_variables)
