"""What learns: networks, the GAN, datasets, runs. It stands on TensorFlow and Keras.

TensorFlow's notices at its start would open every notebook and command, so it is
imported here first, with them left out.
"""

import os

from colorizer_tf.training.quiet import without_notices

# oneDNN trains a quarter faster on processors for which TensorFlow leaves it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
with without_notices():
    import tensorflow as tf

import keras

__all__ = ["keras", "tf"]
