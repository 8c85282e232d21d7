"""Prepares a training: gathers photos, and opens a run folder."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from colorizer_tf.files import find_photos
from colorizer_tf.sources import Split, load_split, project_path, split_photos
from colorizer_tf.training import tf
from colorizer_tf.training.runs import open_run
from colorizer_tf.training.workers import worker_folder


def gather_photos(
    photos: str | os.PathLike = "",
    extra_photos: str = "",
    seed: int = 0,
    limit: int = 0,
) -> Split:
    """Divides photos for a training, and adds more photos to its training side.

    Args:
        photos: a folder, "sample", or "" as `load_split` takes it.
        extra_photos: more folders, separated by commas. Nine tenths of their photos
            go to the training side. A photo with the name of a validation or test
            photo stays out.
        seed: another seed gives another division.
        limit: the largest number of training photos, evenly chosen; 0 keeps all.

    Raises:
        FileNotFoundError, ValueError: as for `load_split`.

    Example:

    ```python
    split = ct.gather_photos("photos", "more/photos,other/photos", limit=1000)
    ```
    """
    split = load_split(photos, seed=seed)
    train = list(split.train)
    held_out = {path.name for path in split.validation + split.test}
    for folder in filter(None, extra_photos.split(",")):
        folder = project_path(folder.strip(), "")
        print("Extra photos:", folder)
        extra = [path for path in find_photos(folder) if path.name not in held_out]
        train += split_photos(extra, validation_fraction=0, seed=seed).train
    if limit:
        train = train[:: -(-len(train) // limit)]
    return replace(split, train=train)


def start_run(
    run_dir: str | os.PathLike,
    settings: Mapping[str, Any],
    strategy: tf.distribute.Strategy | None = None,
) -> tuple[Path, int]:
    """Opens the folder of a new run, or continues the run in it.

    Args:
        run_dir: the folder; "" is runs/b64 of the project for a batch size of 64.
        settings: everything that the result depends on, with "batch_size"; see
            `open_run`.
        strategy: as from `training_strategy`. Only the first of several workers writes
            to the folder. The others get a temporary folder.

    Returns:
        The folder of this worker, and the number of finished epochs.

    Raises:
        ValueError: the folder holds a run with other settings.

    Example:

    ```python
    folder, finished_epochs = ct.start_run("runs/mine", {"batch_size": 64, "seed": 0})
    ```
    """
    run_dir = project_path(run_dir, f"runs/b{settings['batch_size']}")
    folder = worker_folder(run_dir, strategy)
    print("Run folder:", folder)
    return folder, open_run(folder, settings, strategy)
