"""The GAN: trains a generator and a discriminator against each other."""

import contextlib
from collections.abc import Generator
from typing import Any

from keras import ops

from colorizer_tf.color import colorfulness
from colorizer_tf.training import keras, tf
from colorizer_tf.training.workers import (
    FitOnSeveralWorkers,
    fill_empty,
    share_of_batch,
)

# Of the Charbonnier loss, which is about quadratic for errors below a gray level.
CHARBONNIER = 1e-5


class PeakSignalNoiseRatio(keras.metrics.MeanSquaredError):
    """PSNR in dB, from the mean squared error over all photos in [0, 1]."""

    def result(self):
        return -10 * ops.log10(super().result())


class ColorizationGAN(FitOnSeveralWorkers, keras.Model):
    """Trains a generator from gray to color against a discriminator.

    The generator's loss is `pixel_loss`, plus `adversarial_weight` times the
    cross-entropy of the discriminator's verdict against "real". The discriminator's
    loss is the mean of two cross-entropies: real photos against 1, and generated
    photos against 0.

    Args:
        generator: a model from gray (B, H, W, 1), or gray and hints
            (B, H / 4, W / 4, 3), to RGB (B, H, W, 3). Gray and RGB are in [0, 1].
        discriminator: a model from RGB (B, H, W, 3) to logits of any shape. None
            trains the generator on `pixel_loss` alone.
        adversarial_weight: the weight of the cross-entropy in the generator's loss.
        label_smoothing: the label of a real photo is 1 minus this.
        pixel_loss: "mse", or "charbonnier": the mean of sqrt(squared error + 1e-5)
            over all levels, in which large errors count less (Charbonnier et al., "Two
            deterministic half-quadratic regularization algorithms for computed
            imaging", 1994). It is about ten times the squared error, and needs ten
            times the `adversarial_weight`.
        **kwargs: arguments of `keras.Model`.

    Attributes:
        adversarial: whether the discriminator takes part. `runs.Pretraining` sets it.

    Raises:
        ValueError: the `pixel_loss` is unknown.

    Example:

    ```python
    gan = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
    gan.compile(g_optimizer=keras.optimizers.Adam(5e-4),
                d_optimizer=keras.optimizers.Adam(2e-4))
    gan.fit(pairs, validation_data=validation_pairs, epochs=150, shuffle=False)
    ```
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model | None = None,
        adversarial_weight: float = 0.004,
        label_smoothing: float = 0.1,
        pixel_loss: str = "mse",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if pixel_loss not in ("mse", "charbonnier"):
            raise ValueError(
                f'pixel_loss must be "mse" or "charbonnier". Received: {pixel_loss!r}'
            )
        self.generator = generator
        self.discriminator = discriminator
        self.adversarial = discriminator is not None
        self.adversarial_weight = adversarial_weight
        self.label_smoothing = label_smoothing
        self.pixel_loss = pixel_loss
        self.trackers = [
            keras.metrics.Mean(name=name)
            for name in ("g_loss", "mse", "adversarial", "d_loss", "p_real", "p_fake")
        ]
        self.psnr = PeakSignalNoiseRatio(name="psnr")
        self.color_of_real = keras.metrics.Mean(name="color_of_real")
        self.color_of_generated = keras.metrics.Mean(name="color_of_generated")
        self.built = True

    def compile(
        self,
        g_optimizer: keras.optimizers.Optimizer,
        d_optimizer: keras.optimizers.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizers.

        Args:
            g_optimizer: the optimizer of the generator.
            d_optimizer: the optimizer of the discriminator, if there is one.
            **kwargs: arguments of `keras.Model.compile`.

        Raises:
            ValueError: there is a discriminator, but no `d_optimizer`.
        """
        if self.discriminator and d_optimizer is None:
            raise ValueError("A GAN with a discriminator needs a d_optimizer.")
        super().compile(optimizer=None, **kwargs)
        self.g_optimizer = g_optimizer
        self.d_optimizer = d_optimizer
        # Keras silently skips the state of an optimizer that is not built when it
        # saves and loads weights.
        g_optimizer.build(self.generator.trainable_variables)
        if d_optimizer and self.discriminator:
            d_optimizer.build(self.discriminator.trainable_variables)

    def call(self, inputs, training=False):
        return self.generator(inputs, training=training)

    def train_step(self, data):
        inputs, color, _ = keras.utils.unpack_x_y_sample_weight(data)
        share = share_of_batch(color)
        inputs, color = fill_empty((inputs, color))
        with tf.GradientTape(persistent=True) as tape:
            generated = self.generator(inputs, training=True)
            logs = self.judge(color, generated, training=True)
            g_loss = share * logs["g_loss"]
            d_loss = share * logs["d_loss"] if self.adversarial else None

        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(g_loss, variables), variables)
        if self.adversarial:
            variables = self.discriminator.trainable_variables
            self.d_optimizer.apply(tape.gradient(d_loss, variables), variables)
        return self.track(logs, share)

    def test_step(self, data):
        """Adds PSNR and relative colorfulness: that of generated over real photos."""
        inputs, color, _ = keras.utils.unpack_x_y_sample_weight(data)
        share, count = share_of_batch(color), ops.shape(color)[0]
        inputs, color = fill_empty((inputs, color))
        generated = self.generator(inputs, training=False)
        logs = self.judge(color, generated, training=False)
        color, generated = color[:count], generated[:count]
        self.psnr.update_state(color, generated)
        self.color_of_real.update_state(colorfulness(color))
        self.color_of_generated.update_state(colorfulness(generated))
        return self.track(logs, share) | self.measure()

    def get_metrics_result(self):
        """Returns the logs of an epoch, over all photos of all replicas."""
        # Without this method, `fit` takes the mean over replicas, not over photos.
        active = self.trackers if self.adversarial else self.trackers[:2]
        logs = {tracker.name: tracker.result() for tracker in active}
        return logs | self.measure() if self.psnr.count > 0 else logs

    def evaluate(self, *args, **kwargs):
        with self.averaged_weights():
            return super().evaluate(*args, **kwargs)

    @contextlib.contextmanager
    def averaged_weights(self) -> Generator[None, None, None]:
        """A context in which the generator has the moving average of its weights.

        `g_optimizer` keeps the average if it was made with `use_ema=True`. With another
        optimizer, or before the first step, the weights stay the same.
        """
        optimizer = self.g_optimizer
        if not optimizer.use_ema or not optimizer.iterations.numpy():
            yield
            return
        variables = self.generator.trainable_variables
        weights = [variable.numpy() for variable in variables]
        optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, weights, strict=True):
                variable.assign(value)

    def judge(self, color, generated, training):
        """Returns the losses; it runs the discriminator if `adversarial` is set."""
        if not self.adversarial:
            return self.compare(color, generated)
        real_logits = self.discriminator(color, training=training)
        fake_logits = self.discriminator(generated, training=training)
        return self.compute_losses(color, generated, real_logits, fake_logits)

    def compare(self, color, generated):
        """Returns the losses without the discriminator: "g_loss" and "mse"."""
        # Keras' loss objects would assume that all replicas have as many photos.
        squared = error = ops.square(color - generated)
        if self.pixel_loss == "charbonnier":
            error = ops.sqrt(squared + CHARBONNIER)
        return {"g_loss": ops.mean(error), "mse": ops.mean(squared)}

    def compute_losses(self, color, generated, real_logits, fake_logits):
        """Returns all losses, and the mean probabilities of "real".

        `p_real` is the mean for real photos, `p_fake` the mean for generated photos.
        """
        logs = self.compare(color, generated)
        ones, zeros = ops.ones_like(fake_logits), ops.zeros_like(fake_logits)
        adversarial = cross_entropy(ones, fake_logits)
        d_loss_real = cross_entropy(ones - self.label_smoothing, real_logits)
        d_loss_fake = cross_entropy(zeros, fake_logits)
        return logs | {
            "g_loss": logs["g_loss"] + self.adversarial_weight * adversarial,
            "adversarial": adversarial,
            "d_loss": (d_loss_real + d_loss_fake) / 2,
            "p_real": ops.mean(ops.sigmoid(real_logits)),
            "p_fake": ops.mean(ops.sigmoid(fake_logits)),
        }

    def track(self, logs, share):
        trackers = [tracker for tracker in self.trackers if tracker.name in logs]
        for tracker in trackers:
            tracker.update_state(logs[tracker.name], sample_weight=share)
        return {tracker.name: tracker.result() for tracker in trackers}

    def measure(self):
        return {
            "psnr": self.psnr.result(),
            "colorfulness": self.color_of_generated.result()
            / self.color_of_real.result(),
        }


def cross_entropy(labels, logits):
    """Returns the mean binary cross-entropy over all logits."""
    return ops.mean(ops.binary_crossentropy(labels, logits, from_logits=True))
