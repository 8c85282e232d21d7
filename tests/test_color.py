import math

import cv2
import numpy as np
import pytest
import tensorflow as tf
from skimage.color import deltaE_ciede2000

from colorizer_tf.color import (
    ciede2000,
    colorfulness,
    join_luma_chroma,
    rgb_to_chroma,
    rgb_to_luma,
)


@pytest.fixture
def rgb():
    return np.random.default_rng(0).random((40, 50, 3), np.float32)


@pytest.fixture
def luma():
    levels = np.random.default_rng(1).random((60, 50, 1), np.float32)
    levels[0], levels[1] = 0, 1
    return levels


@pytest.fixture
def far_chroma():
    return np.random.default_rng(2).uniform(-3, 3, (60, 50, 2)).astype(np.float32)


def test_luma_and_chroma_are_those_of_opencv(rgb):
    luma, cr, cb = np.moveaxis(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb), -1, 0)

    np.testing.assert_allclose(rgb_to_luma(rgb)[..., 0], luma, atol=1e-6)
    np.testing.assert_allclose(rgb_to_chroma(rgb)[..., 0], cb - 0.5, atol=5e-4)
    np.testing.assert_allclose(rgb_to_chroma(rgb)[..., 1], cr - 0.5, atol=5e-4)


def test_chroma_fills_its_range_and_is_zero_for_gray():
    blue_red_gray = np.float32([[0, 0, 1], [1, 0, 0], [0.3, 0.3, 0.3]])

    chroma = np.asarray(rgb_to_chroma(blue_red_gray))

    assert chroma[0, 0] == pytest.approx(0.5)
    assert chroma[1, 1] == pytest.approx(0.5)
    np.testing.assert_allclose(chroma[2], 0, atol=1e-7)


def test_join_gives_back_the_photo_that_was_taken_apart(rgb):
    joined = join_luma_chroma(rgb_to_luma(rgb), rgb_to_chroma(rgb))

    np.testing.assert_allclose(joined, rgb, atol=2e-6)


def test_join_keeps_luma_far_outside_the_gamut(luma, far_chroma):
    joined = np.asarray(join_luma_chroma(luma, far_chroma))

    red, green, blue = np.moveaxis(joined, -1, 0)
    np.testing.assert_allclose(
        0.299 * red + 0.587 * green + 0.114 * blue, luma[..., 0], atol=1e-6
    )


def test_join_stays_within_zero_and_one(luma, far_chroma):
    joined = np.asarray(join_luma_chroma(luma, far_chroma))

    assert joined.min() >= -1e-6
    assert joined.max() <= 1 + 1e-6


def test_join_keeps_the_hue_of_chroma_that_it_scales_back(luma, far_chroma):
    inside = luma[2:]
    chroma = rgb_to_chroma(np.asarray(join_luma_chroma(inside, far_chroma[2:])))

    lengths = np.linalg.norm(chroma, axis=-1, keepdims=True)
    wanted = far_chroma[2:] / np.linalg.norm(far_chroma[2:], axis=-1, keepdims=True)
    visible = lengths[..., 0] > 0.01
    np.testing.assert_allclose((chroma / lengths)[visible], wanted[visible], atol=1e-3)


def test_join_scales_chroma_back_no_more_than_needed(luma, far_chroma):
    joined = np.asarray(join_luma_chroma(luma, 10 * far_chroma))

    room = np.minimum(joined.min(axis=-1), 1 - joined.max(axis=-1))
    np.testing.assert_allclose(room, 0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("strength", [0.0, 5.0])
def test_gradients_are_finite(level, strength):
    luma, chroma = tf.fill((1, 1, 1, 1), level), tf.fill((1, 1, 1, 2), strength)
    with tf.GradientTape() as tape:
        tape.watch([luma, chroma])
        joined = join_luma_chroma(luma, chroma)
    for gradient in tape.gradient(joined, [luma, chroma]):
        assert np.isfinite(gradient).all()


def test_gradients_inside_the_gamut_are_those_of_the_jpeg_matrix():
    luma, chroma = tf.fill((1, 1), 0.5), tf.zeros((1, 2))
    with tf.GradientTape() as tape:
        tape.watch(chroma)
        joined = join_luma_chroma(luma, chroma)[0]
    matrix = tape.jacobian(joined, chroma)[:, 0]
    np.testing.assert_allclose(
        matrix, [[0, 1.402], [-0.344136, -0.714136], [1.772, 0]], atol=1e-5
    )


def test_colorfulness_of_red_beside_blue():
    photo = np.float32([[[1, 0, 0], [0, 0, 1]]])

    red_green, yellow_blue = (255, 0), (127.5, -255)
    deviation = math.hypot(np.std(red_green), np.std(yellow_blue))
    mean = math.hypot(np.mean(red_green), np.mean(yellow_blue))
    assert float(colorfulness(photo)) == pytest.approx(deviation + 0.3 * mean)
    assert float(colorfulness(photo)) == pytest.approx(272.6187, abs=1e-3)


def test_colorfulness_is_taken_for_each_photo():
    gray = np.full((4, 5, 3), 0.3, np.float32)
    red = np.zeros((4, 5, 3), np.float32) + np.float32([1, 0, 0])

    values = colorfulness(np.stack([gray, red]))

    np.testing.assert_allclose(values, [0, 0.3 * math.hypot(255, 127.5)], atol=1e-3)


def test_ciede2000_is_scikit_images():
    rng = np.random.default_rng(0)
    lab, other = rng.uniform((0, -100, -100), 100, (2, 500, 3))
    lab[:20, 1:] = 0
    other[10:30, 1:] = 0
    expected = deltaE_ciede2000(lab, other)
    np.testing.assert_allclose(ciede2000(lab, other), expected, atol=1e-9)
