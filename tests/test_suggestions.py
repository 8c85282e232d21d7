import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import colorizer_tf as ct
from colorizer_tf.__main__ import main
from colorizer_tf.color import (
    ciede2000,
    join_luma_chroma,
    rgb_to_chroma,
    rgb_to_lab,
)
from colorizer_tf.network import KerasNetwork, Network
from colorizer_tf.suggestions import (
    CHROMA_BINS,
    choose_variants,
    compress_chroma,
    suggest_colors,
)
from colorizer_tf.training.export import export_network
from colorizer_tf.training.models import add_likely, build_generator, copy_weights


def rgb_of(color):
    return np.float32(list(bytes.fromhex(color[1:]))) / 255


def nearest_bin(color):
    return np.argmin(np.square(CHROMA_BINS - rgb_to_chroma(rgb_of(color))).sum(axis=1))


@pytest.fixture(scope="module")
def likely_generator():
    """A generator with `add_likely`, untrained."""
    keras.utils.set_random_seed(3)
    generator = build_generator(None, widths=(8, 8, 8, 8))
    chroma = generator.get_layer("chroma")
    rng = np.random.default_rng(0)
    chroma.set_weights([rng.normal(0, 0.05, x.shape) for x in chroma.get_weights()])
    return generator, add_likely(generator, width=8)


def test_every_color_has_a_bin_that_looks_like_it():
    levels = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    luma = rgb @ np.float32([0.299, 0.587, 0.114])
    bins = join_luma_chroma(luma[:, None, None], CHROMA_BINS + 0 * luma[:, None, None])
    nearest = ciede2000(rgb_to_lab(bins), rgb_to_lab(rgb)[:, None]).min(axis=1)
    assert nearest.max() < 10
    assert np.median(nearest) < 4


def test_the_scale_of_the_bins_is_even():
    steps = np.unique(np.round(compress_chroma(CHROMA_BINS), 4))
    np.testing.assert_allclose(np.diff(steps), np.diff(steps)[0], atol=2e-3)


def test_suggestions_are_the_likely_colors_distinct_and_of_the_luma():
    probabilities = np.zeros(len(CHROMA_BINS), np.float32)
    for color, share in (("#a03030", 0.5), ("#3050a0", 0.3), ("#a06030", 0.2)):
        probabilities[nearest_bin(color)] += share

    suggestions = suggest_colors(probabilities, 0.4)

    colors, shares = zip(*suggestions, strict=True)
    assert shares == pytest.approx((0.5, 0.3, 0.2), abs=1e-3)
    for color, wanted in zip(colors, ("#a03030", "#3050a0", "#a06030"), strict=True):
        assert ciede2000(*(rgb_to_lab(rgb_of(x)) for x in (color, wanted))) < 12
        assert rgb_of(color) @ [0.299, 0.587, 0.114] == pytest.approx(0.4, abs=0.01)


def test_the_automatic_color_comes_first():
    probabilities = np.zeros(len(CHROMA_BINS), np.float32)
    probabilities[nearest_bin("#a03030")] = 0.7
    green = rgb_to_chroma(rgb_of("#309030"))
    (first, share), (second, _) = suggest_colors(probabilities, 0.4, green)
    assert rgb_of(first).argmax() == 1
    assert share == 0
    assert rgb_of(second).argmax() == 0


def test_what_looks_alike_is_suggested_once():
    colors = [
        color for color, _ in suggest_colors(np.full(len(CHROMA_BINS), 0.004), 0.5)
    ]
    assert len(colors) == 6
    lab = rgb_to_lab(np.stack([rgb_of(color) for color in colors]))
    distances = ciede2000(lab[:, None], lab[None]) + 100 * np.eye(6)
    assert distances.min() > 9.5  # levels are rounded


def test_variants_differ_where_the_doubt_is():
    likely = np.zeros((16, 16, len(CHROMA_BINS)), np.float32)
    likely[..., nearest_bin("#808080")] = 1
    likely[2:9, 9:15] = 0  # a large thing that is red or blue
    likely[2:9, 9:15, nearest_bin("#b03030")] = 0.6
    likely[2:9, 9:15, nearest_bin("#3030b0")] = 0.4
    gray = np.zeros((64, 64, 2), np.float32)

    variants = choose_variants(likely, gray, np.full((64, 64), 0.3, "f4"), 4)

    (first,), _, _, (second,) = variants
    for hint in (first, second):
        assert 9 / 16 <= hint.x <= 15 / 16
        assert 2 / 16 <= hint.y <= 9 / 16
    assert first.rgb.argmax() == 0
    assert second.rgb.argmax() == 2


def test_two_variants_are_a_cooler_and_a_warmer_tone():
    likely = np.zeros((16, 16, len(CHROMA_BINS)), np.float32)
    likely[:, :, nearest_bin("#808080")] = 1
    likely[:, 4:] = 0  # the rest is red or blue
    likely[:, 4:, nearest_bin("#b03030")] = 0.6
    likely[:, 4:, nearest_bin("#3030b0")] = 0.4
    gray, luma = np.zeros((64, 64, 2), np.float32), np.full((64, 64), 0.3, "f4")

    _, cooler, warmer = choose_variants(likely, gray, luma, 3)

    assert len(cooler) == len(warmer) > 2
    for cold, warm in zip(cooler, warmer, strict=True):
        assert (cold.x, cold.y) == (warm.x, warm.y)
        change = warm.rgb - cold.rgb
        if cold.x < 0.15:  # the network is certain here
            assert np.abs(change).max() < 0.02
        elif cold.x > 0.35:
            assert change[0] > 0.1
            assert change[2] < -0.1
    assert max(hint.x for hint in cooler) - min(hint.x for hint in cooler) > 0.3


def test_there_are_no_variants_where_the_network_is_certain():
    likely = np.zeros((8, 8, len(CHROMA_BINS)), np.float32)
    likely[..., nearest_bin("#b03030")] = 1
    gray, luma = np.zeros((32, 32, 2), np.float32), np.full((32, 32), 0.3, "f4")
    assert choose_variants(likely, gray, luma, 3) == []


def test_the_second_output_leaves_the_colors_as_they_are(likely_generator, tmp_path):
    generator, whole = likely_generator
    export_network(whole, tmp_path / "generator.xml")
    network = Network(tmp_path / "generator.xml", precision="f32")
    gray = np.random.default_rng(0).random((2, 64, 96, 1), np.float32)
    hints = np.zeros((2, 16, 24, 3), np.float32)

    chroma, likely = network.with_likely(gray, hints)

    assert network.suggests
    np.testing.assert_array_equal(chroma, network(gray, hints))
    expected = KerasNetwork(generator)(gray, hints)
    np.testing.assert_allclose(chroma, expected, atol=2e-6)
    assert likely.shape == (2, 16, 24, len(CHROMA_BINS))
    np.testing.assert_allclose(likely.sum(axis=-1), 1, atol=1e-5)
    _, on_keras = KerasNetwork(whole).with_likely(gray, hints)
    np.testing.assert_allclose(likely, on_keras, atol=1e-5)


def test_the_gradient_of_the_second_output_reaches_no_other_layer(likely_generator):
    _, whole = likely_generator
    with tf.GradientTape() as tape:
        likely = whole([tf.ones((1, 32, 32, 1)), tf.zeros((1, 8, 8, 3))])[1]
        loss = tf.reduce_sum(likely[..., 5])
    variables = whole.trainable_variables
    reached = {
        variable.path.split("/")[0]
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables), strict=True
        )
        if gradient is not None
    }
    assert reached == {"likely", "likely_features"}


def test_the_colorizer_suggests_and_varies(likely_generator):
    _, whole = likely_generator
    colorizer = ct.Colorizer(whole, working_size=64)
    photo = np.random.default_rng(1).integers(0, 255, (90, 70), dtype=np.uint8)

    assert 1 <= len(colorizer.suggest(photo, x=0.4, y=0.3, count=3)) <= 3
    results = colorizer.variants(photo, count=3)

    np.testing.assert_array_equal(results[0], colorizer.colorize(photo))
    assert 2 <= len(results) <= 3
    for other in results[1:]:
        assert other.shape == (90, 70, 3)
        assert np.abs(results[0].astype(int) - other).max() > 10


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_result(likely_generator, tmp_path, count):
    colorizer = ct.Colorizer(likely_generator[1], working_size=64)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "old.png")
    for ask in (
        lambda: colorizer.variants(np.zeros((64, 64), np.uint8), count),
        lambda: colorizer.colorize_variants(tmp_path / "old.png", tmp_path, count),
    ):
        with pytest.raises(ValueError, match=f"count .* Received: {count}"):
            ask()


def test_a_generator_without_it_says_so(build_vivid_generator):
    colorizer = ct.Colorizer(build_vivid_generator(hints=True))
    for ask in (
        lambda: colorizer.suggest(np.zeros((64, 64), np.uint8), 0.5, 0.5),
        lambda: colorizer.variants(np.zeros((64, 64), np.uint8)),
    ):
        with pytest.raises(ValueError, match="suggests no colors"):
            ask()


def test_the_command_writes_variants(likely_generator, tmp_path, capsys):
    _, whole = likely_generator
    whole.save(tmp_path / "generator.keras")
    photo = np.random.default_rng(1).integers(0, 255, (90, 70), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "old.png")
    command = ["colorize", str(tmp_path / "old.png"), str(tmp_path / "new.png")]
    command += ["--weights", str(tmp_path / "generator.keras"), "--variants", "3"]

    assert main(command) == 0

    paths = [tmp_path / f"new ({number}).png" for number in (1, 2, 3)]
    written = [path for path in paths if path.exists()]
    assert capsys.readouterr().out.split("\n")[:-1] == [str(path) for path in written]
    results = [ct.read_photo(path).astype(int) for path in written]
    assert len(results) >= 2
    assert np.abs(results[0] - results[1]).max() > 10
    assert main(command) == 1
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command[:-1], "13"])


def test_a_generator_without_it_starts_from_one_with_it(likely_generator):
    generator, whole = likely_generator
    plain = build_generator(None, widths=(8, 8, 8, 8))
    copy_weights(whole, plain)
    inputs = [np.full((1, 32, 32, 1), 0.4), np.zeros((1, 8, 8, 3))]
    np.testing.assert_array_equal(plain(inputs), generator(inputs))
