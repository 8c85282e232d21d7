"""Runs: the folder that a training writes, and from which it continues."""

import csv
import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np

from colorizer_tf.color import rgb_to_luma
from colorizer_tf.figures import plot_rows
from colorizer_tf.files import atomic_write
from colorizer_tf.sources import PROJECT
from colorizer_tf.training import keras, tf
from colorizer_tf.training.models import to_float32
from colorizer_tf.training.workers import require_same, send_from_first

CHECKPOINT = "checkpoint.weights.h5"


def open_run(
    run_dir: str | os.PathLike,
    settings: Mapping[str, Any],
    strategy: tf.distribute.Strategy | None = None,
) -> int:
    """Makes a run folder, or continues the run in it.

    Args:
        run_dir: the folder.
        settings: everything that the result depends on, in JSON types; but not the
            number of epochs, because a run may be extended.
        strategy: as from `training_strategy`. Several workers continue the run in the
            folder of the first one, which sends its checkpoint to the others.

    Returns:
        The number of finished epochs.

    Raises:
        ValueError: the folder holds a checkpoint of a run with other settings, or the
            workers have different settings.

    Example:

    ```python
    finished_epochs = ct.open_run("runs/mine", {"image_size": 128, "seed": 0})
    ```
    """
    run_dir = Path(run_dir)
    path = run_dir / "settings.json"
    settings = json.loads(json.dumps(settings))
    require_same("settings", settings, strategy)
    _share_run(run_dir, strategy)
    finished_epochs = len(_read_checkpoint_history(run_dir))
    if finished_epochs:
        known = json.loads(path.read_text()) if path.is_file() else {}
        names = sorted(
            name
            for name in known.keys() | settings.keys()
            if known.get(name) != settings.get(name)
        )
        if names:
            differences = "".join(
                f"\n  {name}: {known.get(name)} there, {settings.get(name)} now"
                for name in names
            )
            raise ValueError(
                f"{run_dir} holds a run with other settings; choose another run "
                f"folder, or the settings it was started with:{differences}"
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
    return finished_epochs


def _share_run(run_dir, strategy):
    """Copies the first worker's settings and checkpoint to the other workers."""
    for name in ("settings.json", CHECKPOINT):
        path = run_dir / name
        own = path.read_bytes() if path.is_file() else b""
        content = send_from_first(own, strategy)
        if content != own:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)


def find_runs(runs: str = "") -> list[Path]:
    """Returns the folders of finished or unfinished runs, as absolute paths.

    Args:
        runs: run folders, separated by commas. "" finds the latest run in the project's
            folder runs, if there is one.

    Raises:
        FileNotFoundError: a folder holds no generator.
        ValueError: two folders have the same name.

    Example:

    ```python
    for folder in ct.find_runs("runs/one,runs/other"):
        colorizer = ct.Colorizer.load(folder / "generator.keras")
    ```
    """
    if not runs:
        generators = PROJECT.glob("runs/*/generator.keras")
        latest = sorted(generators, key=lambda path: path.stat().st_mtime)[-1:]
        return [path.parent for path in latest]
    folders = [Path(run.strip()).expanduser().absolute() for run in runs.split(",")]
    for folder in folders:
        if not (folder / "generator.keras").is_file():
            raise FileNotFoundError(f"{folder} is no run: it has no generator.keras.")
    if len({folder.name for folder in folders}) < len(folders):
        raise ValueError(f"The run folders must have different names: {runs}")
    return folders


def write_json(path: str | os.PathLike, values: Any) -> None:
    """Writes values to a JSON file, completely or not at all.

    Args:
        path: the file.
        values: JSON types.

    Example:

    ```python
    ct.write_json("measures.json", ct.evaluate(colorizer, photos).to_dict())
    ```
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def read_history(run_dir: str | os.PathLike) -> list[dict[str, float]]:
    """Reads the history of a run.

    Args:
        run_dir: the run folder.

    Returns:
        The logs of each epoch by name. An epoch without validation lacks the names
        that begin with "val_".

    Raises:
        FileNotFoundError: the run has not finished an epoch.

    Example:

    ```python
    best = min(row["val_mse"] for row in ct.read_history("runs/mine"))
    ```
    """
    with open(Path(run_dir) / "history.csv", newline="") as file:
        return [
            # Runs of version 0.1 have the spelling "colour".
            {
                name.replace("colour", "color"): float(value)
                for name, value in row.items()
                if value
            }
            for row in csv.DictReader(file)
        ]


def training_callbacks(
    run_dir: str | os.PathLike,
    pictures: tuple | None = None,
    picture_every: int = 5,
    pretraining_epochs: int = 0,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that make `ColorizationGAN.fit` a run.

    They continue a run from its checkpoint, print a line for each epoch, and stop a
    run with a NaN. After each epoch they write:

    - the checkpoint;
    - `generator.keras`, the best by `val_mse`; with a discriminator, the best of the
      adversarial epochs;
    - `generator_last.keras`, `history.csv` and TensorBoard logs.

    If the optimizer keeps an average of the weights, the generators get the average.

    Args:
        run_dir: the run folder.
        pictures: a batch (gray, color) of validation photos, to draw during training;
            None draws nothing.
        picture_every: the number of epochs from one picture to the next.
        pretraining_epochs: the number of first epochs in which the discriminator takes
            no part.

    Example:

    ```python
    callbacks = ct.training_callbacks("runs/mine", pretraining_epochs=5)
    gan.fit(train, validation_data=validation, epochs=60, callbacks=callbacks)
    ```
    """
    run_dir = Path(run_dir)
    callbacks = [
        Pretraining(pretraining_epochs),
        StopOnNaN(),
        Checkpoint(run_dir),
        keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
        ProgressLines(),
    ]
    if pictures is not None:
        callbacks.append(Pictures(run_dir / "pictures", pictures, picture_every))
    return callbacks


class StopOnNaN(keras.callbacks.Callback):
    """Stops training with an error when a loss is NaN or infinite."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs, f"step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        # If the last step has broken the weights, only validation shows it.
        self._check(logs, "at its end")

    def _check(self, logs, place):
        broken = [
            name
            for name, value in logs.items()
            if name.endswith(("loss", "mse", "adversarial")) and not np.isfinite(value)
        ]
        if broken:
            raise FloatingPointError(
                f"{', '.join(broken)} came to NaN or infinity in epoch "
                f"{self.epoch + 1}, {place}. Try a lower learning rate. The run "
                "folder keeps the epoch before."
            )


class Pretraining(keras.callbacks.Callback):
    """Trains the generator without the discriminator in the first epochs.

    Args:
        epochs: the number of these epochs.
    """

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        adversarial = bool(self.model.discriminator) and epoch >= self.epochs
        if adversarial != self.model.adversarial:
            self.model.adversarial = adversarial
            # The compiled functions contain the other kind of step.
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)


class Checkpoint(keras.callbacks.Callback):
    """Writes the checkpoint, the generators and the history after each epoch.

    The checkpoint is one file. It holds the weights of both networks, the state of both
    optimizers, and the history, whose length is the number of finished epochs. It is
    written last, and completely or not at all. So a killed run repeats only the epoch
    that was interrupted, from the same state.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir):
        super().__init__()
        self.run_dir = Path(run_dir)

    def on_train_begin(self, logs=None):
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.history = _read_checkpoint_history(self.run_dir)
        if self.history:
            self.model.load_weights(self.run_dir / CHECKPOINT)
        # As keras.callbacks.BackupAndRestore does: `fit` has no public way.
        self.model._initial_epoch = len(self.history)

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - self.start}
        row |= {name: float(value) for name, value in logs.items()}
        self.history.append(row)
        names = ["generator_last.keras"]
        if _best_epoch(self.history) == epoch + 1:
            names.append("generator.keras")
        with self.model.averaged_weights():
            generator = to_float32(self.model.generator)
        for name in names:
            with atomic_write(self.run_dir / name) as temporary:
                generator.save(temporary)
        with (
            atomic_write(self.run_dir / "history.csv") as temporary,
            open(temporary, "w", newline="") as file,
        ):
            columns = dict.fromkeys(name for row in self.history for name in row)
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.history)
        with atomic_write(self.run_dir / CHECKPOINT) as temporary:
            self.model.save_weights(temporary)
            with h5py.File(temporary, "a") as file:
                file["history"] = json.dumps(self.history)


def _best_epoch(history):
    # Vivid colors raise the error a little, so epochs before them would always win.
    adversarial = [row for row in history if "adversarial" in row]
    validated = [row for row in adversarial or history if "val_mse" in row]
    best = min(validated, key=lambda row: row["val_mse"]) if validated else history[-1]
    return best["epoch"]


def _read_checkpoint_history(run_dir):
    path = Path(run_dir) / CHECKPOINT
    if not path.is_file():
        return []
    with h5py.File(path) as file:
        return json.loads(file["history"].asstr()[()])


class ProgressLines(keras.callbacks.Callback):
    """Prints a line for each epoch, and a line each minute within a long epoch.

    Lines suit both Jupyter and the log of a batch run.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.start = self.last_line = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.last_line > 60:
            self.last_line = now
            print(
                f"  in epoch {self.epoch + 1}: step {batch + 1}, "
                f"{now - self.start:.0f} s, mse {logs['mse']:.5f}",
                flush=True,
            )

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        epochs = self.params["epochs"]
        left = timedelta(seconds=round((epochs - epoch - 1) * seconds))
        shown = {
            name: f"{name} {logs[name]:.4f}"
            for name in ("mse", "p_real", "p_fake")
            if name in logs
        }
        if "val_psnr" in logs:
            shown["val_psnr"] = f"| val psnr {logs['val_psnr']:.2f} dB"
            shown["color"] = f"colorfulness {logs['val_colorfulness']:.2f}"
        print(
            f"epoch {epoch + 1:3}/{epochs}  {seconds:.0f} s  "
            f"{'  '.join(shown.values())}  | {left} left",
            flush=True,
        )


class Pictures(keras.callbacks.Callback):
    """Draws the results of the same few photos during training.

    Args:
        folder: the folder of the PNG files.
        pairs: a batch (gray, color).
        every: the number of epochs from one picture to the next. The last epoch has a
            picture in any case.
    """

    def __init__(self, folder, pairs, every):
        super().__init__()
        self.folder = Path(folder)
        self.inputs, color = pairs
        self.color = np.asarray(color)
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every and epoch + 1 != self.params["epochs"]:
            return
        with self.model.averaged_weights():
            # predict_on_batch would gather the results of all workers.
            generated = np.asarray(self.model(self.inputs, training=False))
        gray = rgb_to_luma(np.asarray(self.color))
        figure = plot_rows(
            list(zip(np.asarray(gray), generated, np.asarray(self.color), strict=True)),
            ("gray", f"epoch {epoch + 1}", "original"),
        )
        self.folder.mkdir(exist_ok=True)
        with atomic_write(self.folder / f"epoch_{epoch + 1:04}.png") as temporary:
            figure.savefig(temporary, dpi=80)
        plt.close(figure)
