from . import survey, training
from .archive import colorize_archive
from .colorizer import Colorizer
from .figures import plot_history, plot_palette, plot_photos, plot_rows
from .files import find_photos
from .film_hints import FilmHint, read_film_hints
from .hints import (
    Hint,
    HintError,
    format_hints,
    parse_hints,
    read_hints,
    write_hints,
)
from .metrics import (
    Measures,
    evaluate,
    format_measures,
    measure_hints,
    read_original,
    sample_hints,
)
from .photos import PhotoError, read_photo, to_gray, write_photo
from .report import Outcome, Report
from .sources import (
    Split,
    download_photos,
    gray_sample,
    load_split,
    project_path,
    sample_split,
    split_photos,
)
from .survey import find_duplicates, survey_photos
from .training.datasets import make_dataset
from .training.encoder import build_encoder
from .training.export import export_generator
from .training.gan import ColorizationGAN
from .training.models import build_discriminator, build_generator
from .training.prepare import gather_photos, start_run
from .training.runs import (
    find_runs,
    open_run,
    read_history,
    training_callbacks,
    write_json,
)
from .training.workers import training_strategy, worker_folder

INSTALL_TRAINING: str
__version__: str

__all__ = [
    "ColorizationGAN",
    "Colorizer",
    "FilmHint",
    "Hint",
    "HintError",
    "Measures",
    "Outcome",
    "PhotoError",
    "Report",
    "Split",
    "build_discriminator",
    "build_encoder",
    "build_generator",
    "colorize_archive",
    "download_photos",
    "evaluate",
    "export_generator",
    "find_duplicates",
    "find_photos",
    "find_runs",
    "format_hints",
    "format_measures",
    "gather_photos",
    "gray_sample",
    "load_split",
    "make_dataset",
    "measure_hints",
    "open_run",
    "parse_hints",
    "plot_history",
    "plot_palette",
    "plot_photos",
    "plot_rows",
    "project_path",
    "read_film_hints",
    "read_hints",
    "read_history",
    "read_original",
    "read_photo",
    "sample_hints",
    "sample_split",
    "split_photos",
    "start_run",
    "survey",
    "survey_photos",
    "to_gray",
    "training",
    "training_callbacks",
    "training_strategy",
    "worker_folder",
    "write_hints",
    "write_json",
    "write_photo",
]
