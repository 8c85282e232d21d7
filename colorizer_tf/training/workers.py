"""Training on several workers: finds them, and exchanges data between them.

A worker is a process with its own processor or GPUs, mostly on its own machine.
TensorFlow finds the other workers by the environment variable TF_CONFIG. All workers
run the same program. Each reads its own photos of a batch, and only the first one
keeps the run folder.
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
    """Another worker of the training has ended, or cannot be reached."""


def training_strategy() -> tf.distribute.Strategy:
    """Returns the `tf.distribute.Strategy` for the environment.

    - With TF_CONFIG: `MultiWorkerMirroredStrategy`. The call waits until all workers
      have started.
    - With several GPUs: `MirroredStrategy`.
    - Otherwise: TensorFlow's default, which has no effect.

    Call it before TensorFlow computes anything. Then make networks, `ColorizationGAN`
    and optimizers within its `scope()`.

    Raises:
        ValueError: TF_CONFIG does not name all workers and this one.
        RuntimeError: TensorFlow has already computed something.

    Example:

    ```python
    strategy = ct.training_strategy()
    with strategy.scope():
        gan = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
    ```
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
    tf.get_logger().setLevel("WARNING")  # INFO has a line for each exchange
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
    """Returns the index of this worker and the addresses of all workers."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
        index = cluster[task["type"]].index(cluster[task["type"]][int(task["index"])])
        known = {"chief": 0, "worker": len(cluster.get("chief", []))}
        return known[task["type"]] + index, workers
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            "TF_CONFIG must name all workers and this one, such as "
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text}'
        ) from error


def count_workers(strategy: tf.distribute.Strategy | None) -> int:
    """Returns the number of workers of a strategy; 1 on a single machine."""
    resolver = strategy.cluster_resolver if strategy else None
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    return sum(len(cluster.get(job, [])) for job in ("chief", "worker")) or 1


def worker_folder(
    run_dir: str | os.PathLike, strategy: tf.distribute.Strategy | None
) -> Path:
    """Returns the run folder of this worker.

    The first worker keeps `run_dir`. The other workers write the same files to a
    temporary folder, which is removed at the end.

    Args:
        run_dir: the run folder.
        strategy: as from `training_strategy`.

    Example:

    ```python
    folder = ct.worker_folder("runs/mine", ct.training_strategy())
    ```
    """
    if count_workers(strategy) == 1 or strategy.extended.should_checkpoint:
        return Path(run_dir)
    folder = Path(tempfile.mkdtemp(prefix="colorizer_tf_worker_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def send_from_first(content, strategy):
    """Returns the `content`, bytes, of the first worker on all workers."""
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
        if not size:  # TensorFlow would crash on an empty tensor
            return b""
        levels = np.frombuffer(content.ljust(size, b"\0")[:size], np.uint8)
        return bytes(send(levels.astype(np.int32), tf.int32).astype(np.uint8))


def require_same(name, value, strategy):
    """Raises an error on workers whose value differs from the first worker's.

    Args:
        name: the name of the value in the message.
        value: JSON types.
        strategy: as from `training_strategy`.

    Raises:
        ValueError: the values differ; the message has both.
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
    """A context that stops all workers if one fails, and reports the reason.

    TensorFlow notices the end of a process within seconds. A process that survives an
    error, such as a notebook, must report it, or the other workers would wait forever.

    Raises:
        WorkerLostError: another worker has ended, or cannot be reached.
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
            "its last output. Start all workers again with the same settings. They "
            "continue after the last finished epoch."
        ) from error


class FitOnSeveralWorkers:
    """Repairs Keras' `fit` under `tf.distribute.MultiWorkerMirroredStrategy`.

    Keras 3.15 fails there in two places (its issue 20585), one for each private method.
    A method can go when tests/training/test_workers.py passes without it.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch to infer shapes, and fails with a batch of several
        # workers. The GAN is built already. And a batch taken here would start the
        # dataset's first epoch, so training would begin with the second one.
        pass

    def _make_function(self, step_function):
        # Keras takes the mean of each log over axis 0, which scalars lack. And with all
        # logs in one tensor, the workers exchange one tensor rather than ten.
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
    """Returns a replica's share of the photos of a batch; 1 for a single replica.

    Replicas may have different numbers of photos in the last batch. Weighted by these
    shares, the sum over the replicas is the mean over all photos.
    """
    count = ops.cast(ops.shape(photos)[0], "float32")
    return count / tf.distribute.get_replica_context().all_reduce("SUM", count)


def fill_empty(tensors):
    """Gives a replica without photos in the last batch one black photo.

    TensorFlow's convolutions fail on batches of 0 photos. The black photo has no
    effect on training, because its share is 0.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tensors

    def fill(tensor):
        missing = tf.maximum(1 - tf.shape(tensor)[0], 0)
        filling = tf.zeros((missing, *tensor.shape[1:]), tensor.dtype)
        return tf.concat([tensor, filling], axis=0)

    return tf.nest.map_structure(fill, tensors)
