"""The graph that browsers compute with."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

import colorizer_tf as ct
from colorizer_tf import site
from colorizer_tf.color import join_luma_chroma
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
    # OpenCV's Lab, which fits hints to the luma, is interpolated from tables.
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
