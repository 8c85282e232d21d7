"""A run: what training leaves in a folder, and how it is taken up again."""

import csv
import json
import time
from datetime import timedelta
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

from colorizer_tf.color import rgb_to_luma
from colorizer_tf.figures import plot_rows
from colorizer_tf.files import atomic_write
from colorizer_tf.sources import PROJECT
from colorizer_tf.training import keras
from colorizer_tf.training.models import to_float32
from colorizer_tf.training.workers import require_same, send_from_first

CHECKPOINT = "checkpoint.weights.h5"


def open_run(run_dir, settings, strategy=None):
    """Makes a run folder, or takes up the one that is there.

    Args:
        run_dir: the folder.
        settings: a dictionary of what the outcome depends on; plain values. The
            number of epochs is left to the caller: a run may go on.
        strategy: of `workers.training_strategy`. Of several workers, the first
            one's folder is taken up, and the others are sent its checkpoint.

    Returns:
        The number of epochs that the run has behind it.

    Raises:
        ValueError: the folder holds a checkpoint of a run with other settings, or
            workers differ in theirs.
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
    """Brings the first worker's checkpoint into the folders of the others."""
    for name in ("settings.json", CHECKPOINT):
        path = run_dir / name
        own = path.read_bytes() if path.is_file() else b""
        content = send_from_first(own, strategy)
        if content != own:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)


def find_runs(runs=""):
    """Returns the folders of finished or unfinished runs, as absolute paths.

    Args:
        runs: run folders separated by commas; empty means the latest one in the
            project's folder runs, if any.

    Raises:
        FileNotFoundError: one of them holds no generator.
        ValueError: two of them have the same name.
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


def write_json(path, values):
    """Writes values to a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def read_history(run_dir):
    """Returns the history of a run: a list of dictionaries, one for each epoch.

    An epoch without validation has none of its values.
    """
    with open(Path(run_dir) / "history.csv", newline="") as file:
        return [
            # Runs before version 0.2 have the other spelling.
            {
                name.replace("colour", "color"): float(value)
                for name, value in row.items()
                if value
            }
            for row in csv.DictReader(file)
        ]


def training_callbacks(run_dir, pictures=None, picture_every=5, pretraining_epochs=0):
    """Returns the callbacks that make `ColorizationGAN.fit` a run.

    They write, after each epoch, a checkpoint, `generator.keras` (the best by
    `val_mse`, of the adversarial epochs as soon as there are any),
    `generator_last.keras`, `history.csv` and TensorBoard logs; they take up a run
    where its checkpoint left it; they print a line for each epoch; and they stop a
    run that has come to NaN. If the optimizer keeps an average of the weights, the
    generators that are kept have that.

    Args:
        run_dir: the run folder.
        pictures: a batch (gray, color) of validation photos, of which a picture
            is made as training goes on; None makes none.
        picture_every: so many epochs apart.
        pretraining_epochs: so many epochs train the generator on the squared error
            alone, before the discriminator joins in.
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
    """Stops training with an error when any loss is no longer a finite number."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs, f"step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        # The last step may have broken the weights: validation tells.
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
                f"{self.epoch + 1}, {place}. Try a lower learning rate; what the run "
                "had at the end of the epoch before is kept."
            )


class Pretraining(keras.callbacks.Callback):
    """Trains the generator on the squared error alone in the first epochs.

    The discriminator rests until then, and takes no time.

    Args:
        epochs: so many epochs.
    """

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        adversarial = bool(self.model.discriminator) and epoch >= self.epochs
        if adversarial != self.model.adversarial:
            self.model.adversarial = adversarial
            # What is compiled by now is the other step.
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)


class Checkpoint(keras.callbacks.Callback):
    """Keeps all that a run needs to go on, in one file, and its generators.

    The file holds the weights of both networks, the state of both optimizers,
    and the history, whose length is the number of finished epochs. It is written
    last, and replaced as a whole: a run that was killed repeats at most the
    epoch that it was in, from the same state.

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
        # What keras.callbacks.BackupAndRestore does: fit has no other way.
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
    # Color costs a little in error: what was there before it is no rival.
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
    """Prints a line for each epoch, and one each minute within a long one.

    Lines read well both under Jupyter and in the log of a batch run.
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
    """Draws the same few photos as the generator sees them while it learns.

    Args:
        folder: where the PNG files go.
        pairs: a batch (gray, color).
        every: so many epochs apart; the last epoch has its picture too.
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
            # Not predict_on_batch, which gathers what all workers have drawn.
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
