import shutil
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from keras import layers

import colorizer_tf as ct
from colorizer_tf import network as network_module
from colorizer_tf.network import KerasNetwork, Network, load_network
from colorizer_tf.training import export as export_module
from colorizer_tf.training.export import export_network

EXAMPLES = sorted((Path(ct.__file__).parent / "service/static/examples").glob("*.jpg"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def saved(build_vivid_generator, tmp_path):
    """A generator with hints, in a file."""
    path = tmp_path / "generator.keras"
    build_vivid_generator(hints=True).save(path)
    return path


def inputs(count=3, height=64, width=96):
    rng = np.random.default_rng(0)
    gray = rng.random((count, height, width, 1), np.float32)
    hints = np.zeros((count, height // 4, width // 4, 3), np.float32)
    hints[0, 3, 4] = 1, 0.2, -0.1
    return gray, hints


def test_the_export_gives_the_chroma_of_keras(saved, tmp_path):
    generator = keras.models.load_model(saved)
    export_network(generator, tmp_path / "generator.xml")

    exported = Network(tmp_path / "generator.xml", precision="f32")

    expected = KerasNetwork(generator)(*inputs())
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(exported(*inputs()), expected, atol=2e-6)
    assert exported.takes_hints
    assert (exported.stride, exported.fixed_size) == (32, None)


def test_the_generator_of_the_package_is_exported_as_it_is():
    exported = load_network(ct.Colorizer.WEIGHTS)
    assert exported.path == ct.Colorizer.WEIGHTS.with_suffix(".xml")
    gray, hints = inputs(2, 128, 160)
    gray = (gray + np.linspace(0, 1, 160, dtype="f4")[None, None, :, None]) / 2

    chroma = exported(gray, hints)

    expected = KerasNetwork(exported.generator)(gray, hints)
    assert np.abs(chroma - expected).mean() < TOLERANCE
    np.testing.assert_array_equal(exported(gray[:1], hints[:1]), chroma[:1])


def test_in_float32_the_export_of_the_package_equals_keras():
    exported = Network(ct.Colorizer.WEIGHTS.with_suffix(".xml"), precision="f32")
    expected = KerasNetwork(
        keras.models.load_model(ct.Colorizer.WEIGHTS, compile=False)
    )
    given = inputs(2, 128, 160)
    for result, own in zip(
        exported.with_likely(*given), expected.with_likely(*given), strict=True
    ):
        assert own.max() > 0.1
        np.testing.assert_allclose(result, own, atol=1e-5)
    np.testing.assert_allclose(exported(*given), expected(*given), atol=2e-6)


def test_an_export_of_an_earlier_version_gives_the_same(tmp_path, monkeypatch):
    """It returns chroma at full size."""
    monkeypatch.setattr(export_module, "LIMITED", "no such layer")
    generator = keras.models.load_model(ct.Colorizer.WEIGHTS, compile=False)
    export_network(generator, tmp_path / "generator.xml")
    earlier, package = (
        Network(path, precision="f32")
        for path in (
            tmp_path / "generator.xml",
            ct.Colorizer.WEIGHTS.with_suffix(".xml"),
        )
    )
    given = inputs(2, 128, 160)

    np.testing.assert_allclose(earlier(*given), package(*given), atol=2e-6)


# Chroma; a level is 0.004.
TOLERANCE = 0.004


def test_the_first_layers_stay_in_float32(saved, tmp_path):
    """Up to a branch, which the tiny generator has after its first convolution."""
    export_network(keras.models.load_model(saved), tmp_path / "generator.xml")
    package = ct.Colorizer.WEIGHTS.with_suffix(".xml")
    for path, count in ((tmp_path / "generator.xml", 1), (package, 5)):
        precise = [
            layer.find("rt_info/attribute[@name='precise']") is not None
            for layer in ElementTree.parse(path).iterfind("layers/layer")
            if "Convolution" in layer.get("type")
        ]
        assert precise == [True] * count + [False] * (len(precise) - count)


@pytest.mark.parametrize("photo", EXAMPLES, ids=lambda path: path.stem)
def test_bfloat16_moves_the_colors_by_less_than_half_a_level(photo):
    gray = ct.to_gray(ct.read_photo(photo))
    chromas = []
    for precision in "f32", "bf16":
        export = ct.Colorizer.WEIGHTS.with_suffix(".xml")
        colorizer = ct.Colorizer(Network(export, precision=precision))
        chromas += colorizer.predict_chroma([colorizer.shrink(gray)])
    assert np.abs(np.subtract(*chromas)).mean() < 0.5 / 255


def test_a_model_is_exported_once(saved, cache, monkeypatch):
    first = load_network(saved)
    assert isinstance(first, Network)
    assert first.path.is_relative_to(cache)

    monkeypatch.setattr(network_module, "load_generator", None)  # not needed again
    assert load_network(saved).digest == first.digest


def test_another_model_under_the_same_name_is_exported_anew(saved, tmp_path):
    export_network(
        keras.models.load_model(saved),
        tmp_path / "generator.xml",
        network_module.hash_file(saved),
    )
    before = load_network(saved)
    assert before.path == tmp_path / "generator.xml"
    generator = keras.models.load_model(saved)
    generator.set_weights([0 * weights for weights in generator.get_weights()])
    generator.save(saved)

    after = load_network(saved)

    assert after.digest != before.digest
    assert np.abs(after(*inputs())).max() < 1e-6


def test_without_a_cache_a_model_runs_on_keras(saved, monkeypatch):
    monkeypatch.setattr(network_module, "cache_folder", lambda: None)
    assert isinstance(load_network(saved), KerasNetwork)


def test_a_model_that_cannot_be_exported_runs_on_keras(tmp_path):
    gray = keras.Input((None, None, 1))
    x = layers.UpSampling2D(2, interpolation="bilinear")(
        layers.AveragePooling2D(2)(gray)
    )
    path = tmp_path / "generator.keras"
    keras.Model(gray, layers.Conv2D(3, 1)(x)).save(path)

    colorizer = ct.Colorizer.load(path)

    assert isinstance(colorizer.network, KerasNetwork)
    assert colorizer.colorize(np.full((40, 50), 128, np.uint8)).any()


def test_a_broken_export_is_named(saved, tmp_path):
    export_network(keras.models.load_model(saved), tmp_path / "generator.xml")
    shutil.copy(tmp_path / "generator.bin", tmp_path / "whole.bin")
    (tmp_path / "generator.xml").write_text("nothing")
    with pytest.raises(ValueError, match=r"generator\.xml is no generator"):
        ct.Colorizer.load(tmp_path / "generator.xml")


def test_a_photo_alone_is_the_same_as_among_others(saved):
    colorizer = ct.Colorizer.load(saved, working_size=32)
    lumas = list(np.random.default_rng(1).random((21, 32, 40), np.float32))
    together = colorizer.predict_chroma(lumas)
    for luma, chroma in zip(lumas, together, strict=True):
        np.testing.assert_array_equal(colorizer.predict_chroma([luma])[0], chroma)


def test_a_result_does_not_depend_on_the_number_of_threads():
    gray, hints = inputs(3, 192, 192)
    one, three = (load_network(ct.Colorizer.WEIGHTS, threads) for threads in (1, 3))
    np.testing.assert_array_equal(one(gray, hints), three(gray, hints))
