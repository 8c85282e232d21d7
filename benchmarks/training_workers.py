"""Measures training with several workers: the time of a step, and the data exchanged.

It starts two workers on this machine, each with half of the processor, and trains the
networks of `02_train` on random photos. Then one process with half of the processor
trains on half of the batch: the same work without exchange. The difference is the time
of the exchange on this machine, without a network between the workers.

    python benchmarks/training_workers.py
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import colorizer_tf as ct
import keras
import numpy as np

PORT = 23450


def measure(batch_size, steps):
    """Trains; prints the median seconds of a step, and the data exchanged in it."""
    import tensorflow as tf

    strategy = ct.training_strategy()
    rng = np.random.default_rng(0)
    replicas = strategy.num_replicas_in_sync
    color = rng.random((batch_size // replicas, 128, 128, 3), np.float32)
    gray, hints = (
        color.mean(axis=-1, keepdims=True),
        np.zeros_like(color[:, ::4, ::4]),
    )
    batches = tf.data.Dataset.from_tensors(((gray, hints), color)).repeat(steps)
    with strategy.scope():
        gan = ct.ColorizationGAN(ct.build_generator(), ct.build_discriminator())
        gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(2e-4))
    seconds = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seconds.append(-time.perf_counter()),
        on_train_batch_end=lambda batch, logs: seconds.append(
            seconds.pop() + time.perf_counter()
        ),
    )
    gan.fit(
        strategy.distribute_datasets_from_function(lambda context: batches)
        if replicas > 1
        else batches,
        epochs=1,
        verbose=0,
        shuffle=False,
        callbacks=[clock],
    )
    weights = sum(
        int(np.prod(variable.shape))
        for network in (gan.generator, gan.discriminator)
        for variable in network.trainable_variables
    )
    # The first step builds the graph.
    print(json.dumps({"seconds": float(np.median(seconds[1:])), "weights": weights}))


def run(workers, batch_size, steps):
    """Runs `measure` in several processes, each with a part of the cores."""
    cores = sorted(os.sched_getaffinity(0))
    part = max(1, len(cores) // 2)
    addresses = [f"127.0.0.1:{PORT + index}" for index in range(workers)]
    processes = []
    for index in range(workers):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = os.environ | {"TF_CONFIG": json.dumps(config)}
        if workers == 1:
            del environment["TF_CONFIG"]
        mine = cores[index * part : (index + 1) * part] or cores
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, "--work", str(batch_size), str(steps)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=lambda mine=mine: os.sched_setaffinity(0, mine),
            )
        )
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("A worker failed: see above.")
    return json.loads(outputs[0].splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64, help="of both together")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--work", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        measure(*args.work)
        return

    half = args.batch_size // 2
    alone = run(1, half, args.steps)
    both = run(2, args.batch_size, args.steps)
    megabytes = both["weights"] * 4 / 1e6
    print(
        f"half of {len(os.sched_getaffinity(0))} cores each, from {Path(__file__).name}"
    )
    print(f"one worker, batch {half}:      {alone['seconds']:.3f} s a step")
    print(f"two workers, batch {half} each: {both['seconds']:.3f} s a step")
    print(
        f"gradients: {both['weights']:,} values, {megabytes:.1f} MB a step and worker"
    )
    print(
        f"the exchange takes {both['seconds'] - alone['seconds']:.3f} s; two workers "
        f"train {2 * alone['seconds'] / both['seconds']:.2f} times as many photos"
    )


if __name__ == "__main__":
    main()
