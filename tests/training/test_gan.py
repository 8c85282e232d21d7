import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import peak_signal_noise_ratio
from tiny_networks import build_tiny_generator

from colorizer_tf.training.gan import ColorizationGAN

LOGS = {"g_loss", "mse", "adversarial", "d_loss", "p_real", "p_fake"}


@pytest.fixture
def generator():
    generator = build_tiny_generator()
    kernel, bias = generator.get_layer("chroma").get_weights()
    kernel = np.random.default_rng(0).normal(0, 0.1, kernel.shape)
    generator.get_layer("chroma").set_weights([kernel, bias])
    return generator


def gray_of(color):
    return color @ np.float32([[0.299], [0.587], [0.114]])


def pairs(count=4):
    color = np.random.default_rng(0).random((count, 16, 16, 3), np.float32)
    return gray_of(color), color


def compiled(generator, discriminator, run_eagerly=True, **kwargs):
    gan = ColorizationGAN(generator, discriminator, **kwargs)
    gan.compile(
        keras.optimizers.Adam(1e-2),
        keras.optimizers.Adam(1e-3),
        run_eagerly=run_eagerly,
    )
    return gan


def clone(network):
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def assert_same_weights(network, expected):
    for value, other in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)


def cross_entropy(label, logits):
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(label * tf.ones_like(logits), logits)
    )


def step(optimizer, network, loss):
    with tf.GradientTape() as tape:
        value = loss()
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(value, variables), variables)


def test_a_step_trains_both_networks(generator, discriminator):
    gan = compiled(generator, discriminator)
    for network in (generator, discriminator):
        before = [variable.numpy() for variable in network.trainable_variables]
        gan.train_step(pairs())
        for value, variable in zip(before, network.trainable_variables, strict=True):
            assert not np.array_equal(value, variable), variable.path


PIXEL_LOSSES = {
    "mse": lambda error: tf.reduce_mean(error**2),
    "charbonnier": lambda error: tf.reduce_mean(tf.sqrt(error**2 + 1e-5)),
}


@pytest.mark.parametrize("pixel_loss", PIXEL_LOSSES)
@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("judged", [True, False])
def test_the_generator_is_updated_as_by_hand(
    generator, discriminator, weight, pixel_loss, judged
):
    gray, color = pairs()
    by_hand, judge = clone(generator), clone(discriminator)

    def loss():
        generated = by_hand(gray, training=True)
        error = PIXEL_LOSSES[pixel_loss](color - generated)
        if weight and judged:
            error += weight * cross_entropy(1.0, judge(generated))
        return error

    step(keras.optimizers.Adam(1e-2), by_hand, loss)

    kwargs = {"adversarial_weight": weight, "pixel_loss": pixel_loss}
    compiled(generator, discriminator if judged else None, **kwargs).train_step(
        (gray, color)
    )

    assert_same_weights(generator, by_hand)


def test_an_unknown_pixel_loss_is_named(generator):
    with pytest.raises(ValueError, match="pixel_loss must be"):
        ColorizationGAN(generator, pixel_loss="l1")


def test_a_discriminator_without_an_optimizer_is_refused(generator, discriminator):
    with pytest.raises(ValueError, match="d_optimizer"):
        ColorizationGAN(generator, discriminator).compile(keras.optimizers.Adam())


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_the_discriminator_is_updated_as_by_hand(generator, discriminator, smoothing):
    gray, color = pairs()
    by_hand = clone(discriminator)
    generated = clone(generator)(gray, training=True)

    def loss():
        real = cross_entropy(1.0 - smoothing, by_hand(color))
        return (real + cross_entropy(0.0, by_hand(generated))) / 2

    step(keras.optimizers.Adam(1e-3), by_hand, loss)

    compiled(generator, discriminator, label_smoothing=smoothing).train_step(
        (gray, color)
    )

    assert_same_weights(discriminator, by_hand)


def test_a_step_runs_the_generator_once_and_the_discriminator_twice(
    generator, discriminator, monkeypatch
):
    seen = {"generator": [], "discriminator": []}
    for network in (generator, discriminator):
        call = network.call

        def counting(photos, *args, call=call, name=network.name, **kwargs):
            seen[name].append(np.asarray(photos))
            return call(photos, *args, **kwargs)

        monkeypatch.setattr(network, "call", counting)
    gray, color = pairs()
    generated = np.asarray(clone(generator)(gray, training=True))

    compiled(generator, discriminator).train_step((gray, color))

    assert len(seen["generator"]) == 1
    assert len(seen["discriminator"]) == 2
    np.testing.assert_array_equal(seen["discriminator"][0], color)
    np.testing.assert_allclose(seen["discriminator"][1], generated, atol=1e-6)


def test_losses_on_inputs_made_by_hand(generator, discriminator):
    gan = compiled(
        generator, discriminator, adversarial_weight=0.1, label_smoothing=0.1
    )
    color = tf.zeros((2, 4, 4, 3))
    generated = tf.stack([tf.fill((4, 4, 3), 0.5), tf.zeros((4, 4, 3))])
    real_logits = tf.reshape([2.0, 2.0, 2.0, 2.0], (2, 2, 1, 1))
    fake_logits = tf.reshape([0.0, 0.0, math.log(3), math.log(3)], (2, 2, 1, 1))

    logs = gan.compute_losses(color, generated, real_logits, fake_logits)

    two = 1 / (1 + math.exp(-2))
    expected = {
        "mse": 0.125,
        "adversarial": -(math.log(1 / 2) + math.log(3 / 4)) / 2,
        "d_loss": (
            -0.9 * math.log(two)
            - 0.1 * math.log(1 - two)
            - (math.log(1 / 2) + math.log(1 / 4)) / 2
        )
        / 2,
        "p_real": two,
        "p_fake": (1 / 2 + 3 / 4) / 2,
    }
    expected["g_loss"] = 0.125 + 0.1 * expected["adversarial"]
    assert logs.keys() == LOGS
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(value, abs=1e-6), name


def test_training_learns_a_few_photos_by_heart(make_photo):
    generator = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(16, 5, padding="same", activation="relu"),
            keras.layers.Conv2D(3, 1, activation="sigmoid"),
        ]
    )
    discriminator = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(1, 8, 8)]
    )
    gan = compiled(generator, discriminator, run_eagerly=False)
    color = np.float32([make_photo(16, 16, seed) for seed in range(4)]) / 255
    gray = gray_of(color)

    history = gan.fit(
        np.tile(gray, (20, 1, 1, 1)),
        np.tile(color, (20, 1, 1, 1)),
        batch_size=4,
        epochs=8,
        validation_data=(gray, color),
        verbose=0,
    ).history

    measured = LOGS | {"psnr", "colorfulness"}
    assert set(history) == LOGS | {f"val_{name}" for name in measured}
    assert history["mse"][-1] < 0.8 * np.square(color - gray).mean()
    assert np.isfinite(list(history.values())).all()


def hasler_susstrunk(photo):
    red, green, blue = np.moveaxis(255.0 * photo, -1, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    return math.hypot(red_green.std(), yellow_blue.std()) + 0.3 * math.hypot(
        red_green.mean(), yellow_blue.mean()
    )


def test_evaluation_measures_over_all_photos(generator, discriminator):
    gray, color = pairs(6)
    color[4:] = gray[4:]
    generated = np.asarray(generator(gray))
    gan = compiled(generator, discriminator)

    for _ in range(2):
        logs = gan.evaluate(gray, color, batch_size=2, verbose=0, return_dict=True)

    assert logs["mse"] == pytest.approx(np.square(color - generated).mean(), rel=1e-4)
    assert logs["psnr"] == pytest.approx(
        peak_signal_noise_ratio(color, generated, data_range=1), abs=1e-3
    )
    assert logs["colorfulness"] == pytest.approx(
        np.mean([hasler_susstrunk(photo) for photo in generated])
        / np.mean([hasler_susstrunk(photo) for photo in color]),
        rel=1e-3,
    )


def test_evaluation_changes_no_weights(generator, discriminator):
    copies = clone(generator), clone(discriminator)

    compiled(generator, discriminator).test_step(pairs())

    assert_same_weights(generator, copies[0])
    assert_same_weights(discriminator, copies[1])


def test_compile_builds_both_optimizers_and_leaves_no_third(generator, discriminator):
    gan = compiled(generator, discriminator)

    assert gan.optimizer is None
    for optimizer, network in (
        (gan.g_optimizer, generator),
        (gan.d_optimizer, discriminator),
    ):
        assert optimizer.built
        assert len(optimizer.variables) > 2 * len(network.trainable_variables)


def test_without_a_discriminator_the_squared_error_alone_is_trained(generator):
    gray, color = pairs()
    by_hand = clone(generator)

    def loss():
        return tf.reduce_mean(tf.square(color - by_hand(gray, training=True)))

    step(keras.optimizers.Adam(1e-2), by_hand, loss)
    gan = ColorizationGAN(generator)
    gan.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)

    logs = gan.train_step((gray, color))

    assert logs.keys() == {"g_loss", "mse"}
    assert_same_weights(generator, by_hand)


def test_a_resting_discriminator_is_neither_asked_nor_trained(
    generator, discriminator, monkeypatch
):
    monkeypatch.setattr(discriminator, "call", None)
    gan = compiled(generator, discriminator)
    gan.adversarial = False
    before = clone(discriminator)

    logs = gan.train_step(pairs()) | gan.test_step(pairs())

    assert logs.keys() == {"g_loss", "mse", "psnr", "colorfulness"}
    assert_same_weights(discriminator, before)


def test_a_generator_is_trained_with_hints(discriminator):
    gray, color = pairs()
    hints = np.zeros((4, 4, 4, 3), np.float32)
    hints[:, 1, 1] = 1, 0.1, 0.1
    generator = build_tiny_generator(hints=True)
    gan = compiled(generator, discriminator)
    (embedding,) = [v for v in generator.trainable_variables if v.shape == (1, 1, 3, 8)]

    for _ in range(2):  # only after the first step does the chroma pass on a gradient
        before = embedding.numpy()
        gan.train_step(((gray, hints), color))

    assert not np.array_equal(embedding, before)


def test_the_average_of_the_weights_is_evaluated_and_then_put_away(generator):
    gray, color = pairs()
    gan = ColorizationGAN(generator)
    gan.compile(
        keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5), run_eagerly=True
    )
    untrained = np.square(color - generator(gray)).mean()
    assert gan.evaluate(gray, color, verbose=0, return_dict=True)[
        "mse"
    ] == pytest.approx(untrained, rel=1e-4)
    average = None
    for _ in range(3):
        gan.train_step((gray, color))
        values = [variable.numpy() for variable in generator.trainable_variables]
        average = [
            value if average is None else (value + old) / 2
            for value, old in zip(values, average or values, strict=True)
        ]

    with gan.averaged_weights():
        averaged = [variable.numpy() for variable in generator.trainable_variables]
        expected = np.square(color - generator(gray)).mean()
    logs = gan.evaluate(gray, color, verbose=0, return_dict=True)

    assert logs["mse"] == pytest.approx(expected, rel=1e-4)
    for value, other in zip(averaged, average, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
    for value, variable in zip(values, generator.trainable_variables, strict=True):
        np.testing.assert_array_equal(value, variable)


def test_predict_colors_gray_photos(generator, discriminator):
    gray, _ = pairs()

    predicted = compiled(generator, discriminator).predict(gray, verbose=0)

    np.testing.assert_allclose(predicted, generator(gray), atol=1e-6)
