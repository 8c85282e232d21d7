"""Training: networks, the GAN, datasets and runs, on TensorFlow and Keras.

This package imports TensorFlow first, to keep its start-up notices out of notebooks
and commands.
"""

import os

from colorizer_tf import INSTALL_TRAINING
from colorizer_tf.training.quiet import without_notices

# oneDNN trains a quarter faster on processors for which TensorFlow turns it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
try:
    with without_notices():
        import tensorflow as tf

    import keras
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Training needs {error.name}, which is not installed: {INSTALL_TRAINING}",
        name=error.name,
    ) from error

__all__ = ["keras", "tf"]
