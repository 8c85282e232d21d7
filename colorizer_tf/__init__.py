"""colorizer_tf gives black-and-white photographs their colours back."""

import os

# Both count only if TensorFlow is not imported yet. Its start-up notices would
# open every notebook and command; oneDNN trains a quarter faster on processors
# for which TensorFlow leaves it off.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from colorizer_tf.colorizer import Colorizer
from colorizer_tf.datasets import Split, make_dataset, split_photos
from colorizer_tf.figures import plot_history, plot_palette, plot_photos, plot_rows
from colorizer_tf.gan import ColorizationGAN
from colorizer_tf.metrics import (
    Measures,
    evaluate,
    format_measures,
    read_original,
    to_gray,
)
from colorizer_tf.models import build_discriminator, build_generator
from colorizer_tf.photos import PhotoError, find_photos, read_photo
from colorizer_tf.sources import (
    download_photos,
    load_split,
    project_path,
    sample_split,
)
from colorizer_tf.survey import find_duplicates, survey_photos
from colorizer_tf.training import (
    find_runs,
    open_run,
    read_history,
    training_callbacks,
    write_json,
)
