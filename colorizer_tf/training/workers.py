"""Training on several workers: who they are, and what they tell each other.

A worker is a process with a processor or GPUs of its own, mostly on a machine of
its own; TensorFlow finds the others by the environment variable TF_CONFIG. All of
them do the same from the first line to the last. They differ in which photos of a
batch they read, and in that the run folder is the first one's.
"""

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from keras import ops
from tensorflow.python.eager import context

from colorizer_tf.training import tf

LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


class WorkerLostError(RuntimeError):
    """Another worker of this training has ended, or cannot be reached."""


def training_strategy():
    """Returns the `tf.distribute.Strategy` that the environment asks for.

    With TF_CONFIG that is `MultiWorkerMirroredStrategy`, which waits here until
    all workers have started; else, with several GPUs, `MirroredStrategy`; else
    TensorFlow's default, under which everything is as without a strategy.

    It must be called before anything else that TensorFlow computes; networks,
    `ColorizationGAN` and optimizers are then made within its `scope()`.

    Raises:
        ValueError: TF_CONFIG does not name the workers and the one that this is.
        RuntimeError: TensorFlow has computed something already.
    """
    if not os.environ.get("TF_CONFIG"):
        if len(tf.config.list_physical_devices("GPU")) > 1:
            return tf.distribute.MirroredStrategy()
        return tf.distribute.get_strategy()
    index, workers = _read_tf_config(os.environ["TF_CONFIG"])
    print(
        f"Worker {index + 1} of {len(workers)} ({', '.join(workers)}): waiting until "
        "all have started",
        flush=True,
    )
    tf.get_logger().setLevel("WARNING")  # it tells of each exchange that it builds
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "training_strategy() must come before all that TensorFlow computes: "
            "restart the notebook, and call it right after the imports."
        ) from error


def _read_tf_config(text):
    """Returns the number of this worker, from 0, and the addresses of all."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
        index = cluster[task["type"]].index(cluster[task["type"]][int(task["index"])])
        known = {"chief": 0, "worker": len(cluster.get("chief", []))}
        return known[task["type"]] + index, workers
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            "TF_CONFIG must name all workers and the one that this is, such as "
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text}'
        ) from error


def count_workers(strategy):
    """Returns how many workers a strategy has; 1 for one of a single machine."""
    resolver = strategy.cluster_resolver if strategy else None
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    return sum(len(cluster.get(job, [])) for job in ("chief", "worker")) or 1


def worker_folder(run_dir, strategy):
    """Returns the folder where this worker keeps its run.

    For the first worker that is `run_dir`. The others need a place for the same
    files, which nobody will look at: a temporary folder, removed at the end.
    """
    if count_workers(strategy) == 1 or strategy.extended.should_checkpoint:
        return Path(run_dir)
    folder = Path(tempfile.mkdtemp(prefix="colorizer_tf_worker_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def send_from_first(content, strategy):
    """Returns, on all workers, the bytes that the first one calls this with."""
    if count_workers(strategy) == 1:
        return content

    def send(values, dtype):
        def value(replica):
            # The others add zeros.
            first = replica.replica_id_in_sync_group == 0
            return tf.constant(values if first else np.zeros_like(values), dtype)

        return strategy.reduce(
            "SUM", strategy.experimental_distribute_values_from_function(value), None
        ).numpy()

    with report_lost_workers(strategy):
        size = int(send(np.int32([len(content)]), tf.int32)[0])
        if not size:  # on which TensorFlow would crash
            return b""
        levels = np.frombuffer(content.ljust(size, b"\0")[:size], np.uint8)
        return bytes(send(levels.astype(np.int32), tf.int32).astype(np.uint8))


def require_same(name, value, strategy):
    """Raises an error on those workers where a value is not the first one's.

    Args:
        name: what the error calls the value.
        value: of plain JSON types.
        strategy: of `training_strategy`.

    Raises:
        ValueError: with both values.
    """
    value = json.loads(json.dumps(value))
    first = json.loads(send_from_first(json.dumps(value).encode(), strategy))
    if first != value:
        raise ValueError(
            f"All workers must have the same {name}. The first one has {first}, "
            f"this one {value}."
        )


@contextlib.contextmanager
def report_lost_workers(strategy):
    """Takes all workers down with one, and says what has happened.

    A process that has ended is noticed by itself, within some seconds. One that
    lives on after an error, as a notebook does, would be waited for in vain: the
    others are told.
    """
    try:
        yield
    except BaseException as error:
        if count_workers(strategy) == 1:
            raise
        if not isinstance(error, LOST):
            with contextlib.suppress(tf.errors.OpError):
                context.context().report_error_to_cluster(
                    tf.errors.ABORTED, f"A worker has stopped: {error!r}"
                )
            raise
        raise WorkerLostError(
            "Another worker of this training has ended, or cannot be reached: see "
            "what it printed last. Start all workers again with what they were "
            "started with: they go on after the last epoch that was finished."
        ) from error


class FitOnSeveralWorkers:
    """Mends Keras' own `fit` under `tf.distribute.MultiWorkerMirroredStrategy`.

    Keras 3.15 fails there in two places (its issue 20585): see the two methods.
    When tests/test_workers.py passes without one of them, it can go.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch to learn its shapes from, and cannot reduce one of
        # several workers. We are built; and the first epoch would lose its seed.
        pass

    def _make_function(self, step_function):
        # Keras takes the mean of each log over axis 0, which a scalar has not.
        # All logs in one row also are one exchange between the workers, not ten.
        if count_workers(self.distribute_strategy) == 1:
            return super()._make_function(step_function)
        names = []

        def step(data):
            logs = step_function(data)
            names[:] = logs
            return ops.stack(list(logs.values()))[None]

        function = super()._make_function(step)
        return lambda iterator: dict(zip(names, function(iterator), strict=True))

    def fit(self, *args, **kwargs):
        with report_lost_workers(self.distribute_strategy):
            return super().fit(*args, **kwargs)


def share_of_batch(photos):
    """The part that a replica's photos are of a batch: 1 on a single machine.

    The last batch of an epoch need not be divided evenly, and what is summed over
    the replicas shall be the mean over all of it.
    """
    count = ops.cast(ops.shape(photos)[0], "float32")
    return count / tf.distribute.get_replica_context().all_reduce("SUM", count)


def fill_empty(tensors):
    """Gives a replica without photos in the last batch a black one.

    TensorFlow's convolutions fail on batches of 0 photos; as its share is 0, it
    has no part in what is learned.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tensors

    def fill(tensor):
        missing = tf.maximum(1 - tf.shape(tensor)[0], 0)
        filling = tf.zeros((missing, *tensor.shape[1:]), tensor.dtype)
        return tf.concat([tensor, filling], axis=0)

    return tf.nest.map_structure(fill, tensors)
