"""Tests two workers on this machine, each in its own process.

They train a generator with averaged weights, on the squared error alone and then
against a discriminator with spectral normalization. In the last batch of an epoch,
the second one has no photo.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from test_runs import Kill, arrays
from tiny_networks import build_tiny_generator

import colorizer_tf as ct
from colorizer_tf.training.runs import CHECKPOINT
from colorizer_tf.training.workers import require_same

PROJECT = Path(ct.__file__).parents[1]
TESTS = Path(__file__).parents[1]
EPOCHS = 2


def build_discriminator():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.SpectralNormalization(layers.Conv2D(8, 8, 4, padding="same")),
            layers.LeakyReLU(0.2),
            layers.SpectralNormalization(layers.Conv2D(1, 4, 2, padding="same")),
        ],
        name="discriminator",
    )


class Record(keras.callbacks.Callback):
    """Keeps all variables of the networks and optimizers after each epoch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def on_epoch_end(self, epoch, logs=None):
        gan = self.model
        parts = (gan.generator, gan.discriminator, gan.g_optimizer, gan.d_optimizer)
        variables = [variable.numpy() for part in parts for variable in part.variables]
        np.savez(self.folder / f"epoch_{epoch}.npz", *variables)


def train(photos, run_dir, record, kill=False):
    """Trains as the notebook does; `record` is this worker's own folder."""
    strategy = ct.training_strategy()
    run_dir = ct.worker_folder(run_dir, strategy)
    behind = ct.open_run(run_dir, {"batch_size": 4}, strategy)
    paths = ct.find_photos(photos)
    pairs = ct.make_dataset(
        paths[:13], 16, 4, True, 3, behind, hints=True, strategy=strategy
    )
    validation = ct.make_dataset(paths[13:], 16, 4, hints=True, strategy=strategy)
    pictures = next(iter(ct.make_dataset(paths[13:], 16, hints=True)))
    with strategy.scope():
        gan = ct.ColorizationGAN(
            build_tiny_generator(hints=True), build_discriminator(), 0.01
        )
        gan.compile(
            keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
            keras.optimizers.Adam(1e-3),
        )
    gan.fit(
        pairs,
        validation_data=validation,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[
            *ct.training_callbacks(run_dir, pictures, 2, pretraining_epochs=1),
            Record(record),
            *([Kill(1)] if kill else []),
        ],
    )
    print("kept in", run_dir)


def start_workers(*commands):
    """Starts Python with these arguments, as the workers of one training."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in commands]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    processes = []
    for index, command in enumerate(commands):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ
            | {
                "TF_CONFIG": config,
                "PYTHONPATH": os.pathsep.join(map(str, (PROJECT, TESTS))),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
    return processes


def wait_for_workers(processes):
    """Returns the exit codes, and what the workers printed."""
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], printed


class Pair:
    """Two started workers; `kill` ends the second one early."""

    def __init__(self, folder, photos, run_dir, kill=False):
        self.run_dir = run_dir
        self.records = [folder / f"worker_{index}" for index in range(2)]
        for record in self.records:
            record.mkdir(parents=True)
        first, second = ([__file__, photos, run_dir, each] for each in self.records)
        self.processes = start_workers(first, second + ["kill"] * kill)

    def wait(self):
        return wait_for_workers(self.processes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write_photos):
    """A run of two workers that is killed, and continued by two others.

    Beside the first ones, the same training runs on one machine.
    """
    folder = tmp_path_factory.mktemp("workers")
    write_photos(folder / "photos", 18)
    killed = Pair(folder / "killed", folder / "photos", folder / "run", kill=True)
    try:
        (folder / "one").mkdir()
        train(folder / "photos", folder / "one/run", folder / "one")
    finally:
        killed_outcome = killed.wait()
    behind = len(ct.read_history(killed.run_dir))
    again = Pair(folder / "again", folder / "photos", killed.run_dir)
    return SimpleNamespace(
        killed=killed,
        killed_outcome=killed_outcome,
        killed_behind=behind,
        again=again,
        again_outcome=again.wait(),
        one=folder / "one",
    )


def recorded(folder):
    return {
        path.stem: list(np.load(path).values()) for path in sorted(folder.glob("*.npz"))
    }


def test_a_worker_that_dies_takes_the_other_down(runs):
    codes, printed = runs.killed_outcome
    assert codes == [1, -signal.SIGKILL]
    assert "WorkerLostError: Another worker of this training has ended" in printed[0]
    assert runs.killed_behind == 1


def test_both_workers_have_the_same_weights_after_each_epoch(runs):
    codes, printed = runs.again_outcome
    assert codes == [0, 0], printed
    for pair, epoch in (runs.killed, "epoch_0"), (runs.again, "epoch_1"):
        first, second = map(recorded, pair.records)
        assert first.keys() == second.keys() == {epoch}
        for value, other in zip(first[epoch], second[epoch], strict=True):
            np.testing.assert_array_equal(value, other)


def test_two_workers_train_as_one_machine_does(runs):
    """Even if they are killed, and others continue."""
    histories = [
        ct.read_history(folder) for folder in (runs.again.run_dir, runs.one / "run")
    ]
    assert [row["epoch"] for row in histories[0]] == [1, 2]
    assert ["d_loss" in row for row in histories[0]] == [False, True]
    for row, expected in zip(*histories, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
    two = recorded(runs.killed.records[0]) | recorded(runs.again.records[0])
    one = recorded(runs.one)
    assert two.keys() == one.keys()
    for epoch, variables in one.items():
        for value, other in zip(variables, two[epoch], strict=True):
            np.testing.assert_allclose(other, value, atol=1e-3)
    resumed, whole = (
        arrays(folder / CHECKPOINT) for folder in (runs.again.run_dir, runs.one / "run")
    )
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, atol=1e-3, err_msg=name)


def test_only_the_first_worker_writes_the_run(runs):
    assert {path.name for path in runs.again.run_dir.iterdir()} == {
        "settings.json",
        "generator.keras",
        "generator_last.keras",
        "history.csv",
        CHECKPOINT,
        "tensorboard",
        "pictures",
    }
    first, second = (
        printed.split("kept in ")[1].strip() for printed in runs.again_outcome[1]
    )
    assert first == str(runs.again.run_dir)
    assert second != first
    assert not Path(second).exists()
    events = (runs.again.run_dir / "tensorboard").rglob("events.out.tfevents.*")
    # events.out.tfevents.TIME.HOST.PROCESS.NUMBER.v2
    processes = {path.name.split(".")[-3] for path in events}
    assert processes == {
        str(pair.processes[0].pid) for pair in (runs.killed, runs.again)
    }


def test_the_notebook_trains_on_two_workers(tmp_path, write_photos):
    write_photos(tmp_path / "photos", 20)
    run_dir, notebook = tmp_path / "run", PROJECT / "notebooks/02_train.ipynb"
    parameters = {
        "photos": tmp_path / "photos",
        "run_dir": run_dir,
        "image_size": 32,
        "batch_size": 4,
        "limit": 8,
        "epochs": 1,
        "encoder_weights": "",
    }
    options = [part for pair in parameters.items() for part in ("-p", *pair)]

    codes, printed = wait_for_workers(
        start_workers(
            *(
                ["-m", "papermill", notebook, tmp_path / f"{index}.ipynb", *options]
                for index in range(2)
            )
        )
    )

    assert codes == [0, 0], printed
    assert [row["epoch"] for row in ct.read_history(run_dir)] == [1]
    assert (run_dir / "figures.json").is_file()


@pytest.mark.parametrize(
    "text",
    [
        "worker",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_wrong_tf_config_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)

    with pytest.raises(ValueError, match="TF_CONFIG must name all workers") as error:
        ct.training_strategy()

    assert text in str(error.value)


def test_without_tf_config_all_is_as_without_a_strategy(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)

    strategy = ct.training_strategy()

    assert strategy.num_replicas_in_sync == 1
    assert ct.worker_folder(tmp_path, strategy) == tmp_path
    require_same("settings", {"seed": 3}, strategy)


if __name__ == "__main__":
    train(*sys.argv[1:4], kill=sys.argv[4:] == ["kill"])
