"""colorizer_tf gives black-and-white photographs their colours back."""

import os
import sys

import lazy_loader

from colorizer_tf.quiet import QuietImport

__version__ = "0.1.0"

# All count only if TensorFlow is not imported yet. Its start-up notices would
# open every notebook and command; oneDNN trains a quarter faster on processors
# for which TensorFlow leaves it off.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    sys.meta_path.insert(0, QuietImport())
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# OpenCV reads sizes for itself, before we can: the limit of `photos.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

# A module is imported when it is first used: TensorFlow takes seconds to start,
# and `python -m colorizer_tf --help` needs none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["survey"],
    submod_attrs={
        "archive": ["colorize_archive"],
        "colorizer": ["Colorizer"],
        "datasets": ["Split", "make_dataset", "split_photos"],
        "figures": ["plot_history", "plot_palette", "plot_photos", "plot_rows"],
        "film_hints": ["FilmHint", "read_film_hints"],
        "folder": ["Outcome", "Report"],
        "gan": ["ColorizationGAN"],
        "hints": [
            "Hint",
            "HintError",
            "format_hints",
            "parse_hints",
            "read_hints",
            "write_hints",
        ],
        "metrics": [
            "Measures",
            "evaluate",
            "format_measures",
            "measure_hints",
            "read_original",
            "sample_hints",
        ],
        "encoder": ["build_encoder"],
        "models": ["build_discriminator", "build_generator"],
        "photos": ["PhotoError", "find_photos", "read_photo", "to_gray"],
        "sources": [
            "download_photos",
            "gray_sample",
            "load_split",
            "project_path",
            "sample_split",
        ],
        "survey": ["find_duplicates", "survey_photos"],
        "training": [
            "find_runs",
            "open_run",
            "read_history",
            "training_callbacks",
            "write_json",
        ],
        "workers": ["training_strategy", "worker_folder"],
    },
)
