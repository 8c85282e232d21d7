import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from tiny_networks import build_tiny_discriminator, build_tiny_generator

import colorizer_tf as ct
from colorizer_tf.training import runs as training
from colorizer_tf.training.runs import CHECKPOINT, Checkpoint, ProgressLines, StopOnNaN

SETTINGS = {"batch_size": 4, "image_size": 16, "seed": 3}


def tiny_gan(run_eagerly=False):
    gan = ct.ColorizationGAN(
        build_tiny_generator(),
        build_tiny_discriminator(),
        adversarial_weight=0.01,
    )
    gan.compile(
        g_optimizer=keras.optimizers.Adam(1e-2),
        d_optimizer=keras.optimizers.Adam(1e-3),
        run_eagerly=run_eagerly,
    )
    return gan


def train(photos, run_dir, epochs, *callbacks, run_eagerly=False, pictures=False):
    """Trains as the notebook does; returns the numbers of the started epochs."""
    keras.utils.set_random_seed(3)
    split = ct.split_photos(ct.find_photos(photos), 0.1, 0.2, seed=3)
    behind = ct.open_run(run_dir, SETTINGS)
    pairs = ct.make_dataset(
        split.train, 16, 4, training=True, seed=3, first_epoch=behind
    )
    validation = ct.make_dataset(split.validation, 16, 4)
    pictures = next(iter(validation)) if pictures else None
    began = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: began.append(epoch)
    )
    tiny_gan(run_eagerly).fit(
        pairs,
        validation_data=validation,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            *ct.training_callbacks(run_dir, pictures, picture_every=2),
            record,
            *callbacks,
        ],
    )
    return began


class Kill(keras.callbacks.Callback):
    """Kills its own process, as by `kill -9`, in the second step of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.last_epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.last_epoch, 1):
            os.kill(os.getpid(), signal.SIGKILL)


class Poison(keras.callbacks.Callback):
    """Turns a weight of the generator to NaN."""

    def poison(self, batch, logs=None):
        variable = self.model.generator.trainable_variables[0]
        variable.assign(np.nan * variable)


class PoisonFirstStep(Poison):
    on_train_batch_begin = Poison.poison


class PoisonAfterEachStep(Poison):
    on_train_batch_end = Poison.poison


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_photos):
    folder = tmp_path_factory.mktemp("training") / "photos"
    write_photos(folder, 20)
    return folder


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory, photos):
    """A run in its own process that is killed in its third epoch."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    package, tests = Path(ct.__file__).parents[1], Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, __file__, photos, folder],
        env=os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{tests}"},
    )
    yield SimpleNamespace(folder=folder, process=process)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, photos, killed_run):
    """An uninterrupted run of three epochs, parallel to the other one."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        began = train(photos, folder, 3, pictures=True)
    return SimpleNamespace(folder=folder, began=began, output=output.getvalue())


@pytest.fixture
def run_dir(whole_run, tmp_path):
    """A copy of the killed run, to continue."""
    return shutil.copytree(whole_run.folder, tmp_path / "run")


def arrays(path):
    """Returns a checkpoint's arrays by name, without the history."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    found.pop("history")
    return found


def history(run_dir):
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in ct.read_history(run_dir)
    ]


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


def test_what_a_run_leaves_in_its_folder(whole_run):
    assert whole_run.began == [0, 1, 2]
    assert {path.name for path in whole_run.folder.iterdir()} == {
        "settings.json",
        "generator.keras",
        "generator_last.keras",
        "history.csv",
        CHECKPOINT,
        "tensorboard",
        "pictures",
    }
    assert json.loads((whole_run.folder / "settings.json").read_text()) == SETTINGS
    events = (whole_run.folder / "tensorboard").rglob("events.out.tfevents.*")
    assert {path.parent.name for path in events} == {"train", "validation"}
    pictures = sorted((whole_run.folder / "pictures").iterdir())
    assert [path.name for path in pictures] == ["epoch_0002.png", "epoch_0003.png"]
    assert ct.read_photo(pictures[0]).std() > 10


def test_the_history_has_a_row_for_each_epoch(whole_run):
    with open(whole_run.folder / "history.csv", newline="") as file:
        names = next(csv.reader(file))
    rows = ct.read_history(whole_run.folder)

    assert names[:2] == ["epoch", "seconds"]
    assert {"mse", "d_loss", "p_fake", "val_mse", "val_psnr"} < set(names)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert np.isfinite([list(row.values()) for row in rows]).all()
    assert rows[2]["mse"] != rows[0]["mse"]


def test_progress_is_a_line_for_each_epoch(whole_run):
    lines = [line for line in whole_run.output.splitlines() if line[:5] == "epoch"]

    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    psnr = ct.read_history(whole_run.folder)[2]["val_psnr"]
    assert f"val psnr {psnr:.2f} dB" in lines[2]
    assert "\r" not in "".join(lines)


def test_the_checkpoint_holds_both_networks_and_both_optimizers(whole_run):
    saved = arrays(whole_run.folder / CHECKPOINT)

    for part in ("generator", "discriminator", "g_optimizer", "d_optimizer"):
        assert any(np.any(saved[name]) for name in saved if name.startswith(part)), part


def test_a_run_that_was_killed_ends_as_one_that_was_not(photos, whole_run, killed_run):
    assert killed_run.process.wait() == -signal.SIGKILL
    assert [row["epoch"] for row in ct.read_history(killed_run.folder)] == [1, 2]

    assert train(photos, killed_run.folder, 3) == [2]

    resumed = arrays(killed_run.folder / CHECKPOINT)
    whole = arrays(whole_run.folder / CHECKPOINT)
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    rows = zip(history(killed_run.folder), history(whole_run.folder), strict=True)
    # A mean over an epoch may differ in its last bit; the weights must be equal.
    assert all(resumed == pytest.approx(whole, rel=1e-5) for resumed, whole in rows)


def test_a_finished_run_stays_as_it_is(photos, run_dir):
    before = contents(run_dir)

    assert train(photos, run_dir, 3) == []

    assert contents(run_dir) == before


def test_a_finished_run_goes_on_with_more_epochs(photos, run_dir):
    before = history(run_dir)

    assert train(photos, run_dir, 4, run_eagerly=True) == [3]

    after = history(run_dir)
    assert after[:3] == before
    assert [row["epoch"] for row in after] == [1, 2, 3, 4]
    assert ct.open_run(run_dir, SETTINGS) == 4


def test_nan_stops_a_run_and_leaves_what_it_had(photos, run_dir):
    before = contents(run_dir)

    with pytest.raises(FloatingPointError, match=r"mse.*epoch 4, step 1\b"):
        train(photos, run_dir, 4, PoisonFirstStep(), run_eagerly=True)

    assert contents(run_dir) == before
    assert ct.open_run(run_dir, SETTINGS) == 3


def test_nan_from_the_last_step_of_an_epoch_is_not_kept(photos, tmp_path, run_dir):
    few = tmp_path / "photos"
    few.mkdir()
    for side in ("train", "validation"):
        split = ct.split_photos(ct.find_photos(photos), 0.1, 0.2, seed=3)
        shutil.copy(getattr(split, side)[0], few)

    with pytest.raises(FloatingPointError):
        train(few, run_dir, 5, PoisonAfterEachStep(), run_eagerly=True)

    for name, value in arrays(run_dir / CHECKPOINT).items():
        assert np.isfinite(value).all(), name


def test_every_loss_that_is_no_number_is_named():
    stop = StopOnNaN()
    stop.on_epoch_begin(2)
    logs = {"mse": 0.1, "adversarial": np.nan, "d_loss": np.inf}

    with pytest.raises(FloatingPointError) as error:
        stop.on_train_batch_end(4, logs)

    message = str(error.value)
    assert "adversarial" in message
    assert "d_loss" in message
    assert "mse" not in message
    assert "epoch 3, step 5" in message


def test_a_long_epoch_prints_a_line_each_minute(monkeypatch, capsys):
    clock = SimpleNamespace(now=0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(training, "time", clock)
    progress = ProgressLines()
    progress.on_epoch_begin(0)

    for step in range(10):
        clock.now += 25
        progress.on_train_batch_end(step, {"mse": 0.125})

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "step 3, 75 s, mse 0.125" in lines[0]


def finish_epoch(checkpoint, epoch, **logs):
    checkpoint.model.generator.get_layer("chroma").bias.assign([epoch, epoch])
    checkpoint.on_epoch_begin(epoch)
    checkpoint.on_epoch_end(epoch, {"mse": 0.5} | logs)


def begin(run_dir):
    checkpoint = Checkpoint(run_dir)
    checkpoint.set_model(tiny_gan())
    checkpoint.on_train_begin()
    return checkpoint


def saved_epoch(path):
    return keras.models.load_model(path).get_layer("chroma").get_weights()[1][0]


def test_the_best_generator_by_validation_and_the_last_are_kept(tmp_path):
    checkpoint = begin(tmp_path)
    for epoch, val_mse in enumerate([0.3, 0.1, 0.2]):
        finish_epoch(checkpoint, epoch, val_mse=val_mse)

    assert saved_epoch(tmp_path / "generator.keras") == 1
    assert saved_epoch(tmp_path / "generator_last.keras") == 2

    resumed = begin(tmp_path)
    finish_epoch(resumed, 3, val_mse=0.15)
    assert saved_epoch(tmp_path / "generator.keras") == 1
    finish_epoch(resumed, 4, val_mse=0.05)
    assert saved_epoch(tmp_path / "generator.keras") == 4


def test_without_validation_the_last_generator_is_the_best(tmp_path):
    checkpoint = begin(tmp_path)
    for epoch in range(2):
        finish_epoch(checkpoint, epoch)

    assert saved_epoch(tmp_path / "generator.keras") == 1


def test_validation_may_come_in_some_epochs_only(tmp_path):
    checkpoint = begin(tmp_path)
    for epoch, logs in enumerate([{}, {"val_mse": 0.3}, {}, {"val_mse": 0.2}]):
        finish_epoch(checkpoint, epoch, **logs)
        best = saved_epoch(tmp_path / "generator.keras")
        assert best == [0, 1, 1, 3][epoch]

    history = ct.read_history(tmp_path)
    assert [row.get("val_mse") for row in history] == [None, 0.3, None, 0.2]


def test_what_was_before_the_adversarial_epochs_is_no_rival(tmp_path):
    checkpoint = begin(tmp_path)
    for epoch, logs in enumerate(
        [
            {"val_mse": 0.1},
            {"val_mse": 0.3, "adversarial": 0.7},
            {"val_mse": 0.2, "adversarial": 0.7},
            {"val_mse": 0.4, "adversarial": 0.7},
        ]
    ):
        finish_epoch(checkpoint, epoch, **logs)
        best = saved_epoch(tmp_path / "generator.keras")
        assert best == [0, 1, 2, 2][epoch]


def test_the_discriminator_joins_in_after_pretraining(photos, tmp_path):
    pairs = ct.make_dataset(ct.find_photos(photos), 16, 4)
    gan = tiny_gan()
    judge = gan.discriminator.get_weights()[0]
    kept = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(
            np.array_equal(gan.discriminator.get_weights()[0], judge)
        )
    )

    callbacks = [*ct.training_callbacks(tmp_path, pretraining_epochs=2), record]
    gan.fit(
        pairs,
        validation_data=pairs,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )

    assert kept == [True, True, False]
    seen = ["val_p_fake" in row for row in ct.read_history(tmp_path)]
    assert seen == [False, False, True]


def test_the_saved_generator_has_the_average_of_the_weights(photos, tmp_path):
    pairs = ct.make_dataset(ct.find_photos(photos), 16, 4)
    gan = ct.ColorizationGAN(build_tiny_generator())
    gan.compile(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9))

    gan.fit(
        pairs,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=ct.training_callbacks(tmp_path),
    )

    saved = keras.models.load_model(tmp_path / "generator.keras").get_weights()
    with gan.averaged_weights():
        average = gan.generator.get_weights()
    for value, expected in zip(saved, average, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert not np.array_equal(saved[0], gan.generator.get_weights()[0])


def test_one_gan_may_serve_two_runs(tmp_path):
    checkpoint = begin(tmp_path / "first")
    finish_epoch(checkpoint, 0)
    gan = begin(tmp_path / "first").model
    assert gan._initial_epoch == 1

    second = Checkpoint(tmp_path / "second")
    second.set_model(gan)
    second.on_train_begin()

    assert gan._initial_epoch == 0


def test_a_run_in_mixed_precision_leaves_a_generator_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        checkpoint = begin(tmp_path)
    finally:
        keras.config.set_dtype_policy("float32")
    finish_epoch(checkpoint, 0)

    generator = keras.models.load_model(tmp_path / "generator.keras")

    assert {layer.compute_dtype for layer in generator.layers} == {"float32"}


def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    checkpoint = begin(tmp_path)
    finish_epoch(checkpoint, 0)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def write_half(path):
        Path(path).write_bytes(before[: len(before) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.model, "save_weights", write_half)
    with pytest.raises(OSError, match="no space"):
        finish_epoch(checkpoint, 1)

    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert len(begin(tmp_path).history) == 1


def test_a_new_run_has_no_epochs_behind_it(tmp_path):
    assert ct.open_run(tmp_path / "runs/new", SETTINGS) == 0
    assert ct.open_run(tmp_path / "runs/new", SETTINGS) == 0


def test_settings_are_the_same_after_a_way_through_json(tmp_path):
    settings = {"widths": (8, 16), "rate": 1e-4, "extra": None}

    ct.open_run(tmp_path, settings)

    assert ct.open_run(tmp_path, settings) == 0


def test_a_run_with_other_settings_is_refused_and_the_difference_named(run_dir):
    before = contents(run_dir)
    other = {"batch_size": 32, "image_size": 16, "adversarial_weight": 0.5}

    with pytest.raises(ValueError, match="other settings") as error:
        ct.open_run(run_dir, other)

    message = str(error.value)
    assert str(run_dir) in message
    assert "batch_size: 4 there, 32 now" in message
    assert "seed: 3 there" in message
    assert "adversarial_weight" in message
    assert "image_size" not in message
    assert contents(run_dir) == before


def test_a_checkpoint_without_settings_is_refused(run_dir):
    (run_dir / "settings.json").unlink()

    with pytest.raises(ValueError, match="other settings"):
        ct.open_run(run_dir, SETTINGS)


def test_settings_may_change_until_an_epoch_is_finished(tmp_path):
    ct.open_run(tmp_path / "run", SETTINGS)

    assert ct.open_run(tmp_path / "run", SETTINGS | {"seed": 4}) == 0
    assert json.loads((tmp_path / "run/settings.json").read_text())["seed"] == 4


@pytest.fixture
def two_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PROJECT", tmp_path)
    folders = [tmp_path / "runs" / name for name in ("older", "newer")]
    for age, folder in zip((1000, 10), folders, strict=True):
        folder.mkdir(parents=True)
        (folder / "generator.keras").touch()
        now = time.time()
        os.utime(folder / "generator.keras", (now - age, now - age))
    return folders


def test_the_latest_run_is_found(two_runs):
    assert ct.find_runs() == two_runs[1:]
    os.utime(two_runs[0] / "generator.keras")
    assert ct.find_runs() == two_runs[:1]


def test_named_runs_are_found_in_their_order(two_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert ct.find_runs(f"runs/newer, {two_runs[0]}") == two_runs[::-1]


def test_there_may_be_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PROJECT", tmp_path)

    assert ct.find_runs() == []


def test_a_folder_that_is_no_run_is_named(two_runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ct.find_runs(f"{two_runs[0]},{tmp_path / 'nowhere'}")


def test_runs_of_the_same_name_are_refused(two_runs, tmp_path):
    copy = shutil.copytree(two_runs[0], tmp_path / "elsewhere" / "older")

    with pytest.raises(ValueError, match="different names"):
        ct.find_runs(f"{two_runs[0]},{copy}")


def test_json_is_written_whole_or_not_at_all(tmp_path):
    ct.write_json(tmp_path / "values.json", {"psnr": 21.5})

    with pytest.raises(TypeError):
        ct.write_json(tmp_path / "values.json", {"psnr": object()})

    assert json.loads((tmp_path / "values.json").read_text()) == {"psnr": 21.5}


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], 3, Kill(2))
