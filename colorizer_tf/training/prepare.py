"""What comes before a training: photos are gathered, a run folder is opened."""

from dataclasses import replace
from pathlib import Path

from colorizer_tf.files import find_photos
from colorizer_tf.sources import Split, load_split, project_path, split_photos
from colorizer_tf.training import tf
from colorizer_tf.training.runs import open_run
from colorizer_tf.training.workers import worker_folder


def gather_photos(
    photos: str | Path = "", extra_photos: str = "", seed: int = 0, limit: int = 0
) -> Split:
    """Divides photos for a training, and adds more photos to its training side.

    Args:
        photos: a folder, "sample", or "" as `load_split` takes it.
        extra_photos: more folders, separated by commas. Nine tenths of their photos
            go to the training side; a photo that `photos` holds out stays out.
        seed: another seed gives another division.
        limit: the most training photos, evenly chosen; 0 keeps all.

    Returns:
        A `Split`.

    Example:
        >>> split = gather_photos("sample", limit=8)  # doctest: +SKIP
        >>> len(split.train)  # doctest: +SKIP
        8
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
    run_dir: str | Path, settings: dict, strategy: tf.distribute.Strategy | None = None
) -> tuple[Path, int]:
    """Opens the folder of a new run, or takes up the run in it.

    Args:
        run_dir: the folder; "" is runs/b64 of the project, with the batch size of
            the settings.
        settings: what the outcome depends on; see `open_run`.
        strategy: of `training_strategy`. Of several workers, only the first writes
            to the folder; the others get a temporary one.

    Returns:
        The folder of this worker, and the number of epochs that the run has finished.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    run_dir = project_path(run_dir, f"runs/b{settings['batch_size']}")
    run_dir = worker_folder(run_dir, strategy)
    print("Run folder:", run_dir)
    return run_dir, open_run(run_dir, settings, strategy)
