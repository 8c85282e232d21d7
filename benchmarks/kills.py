"""Checks an archive of 300 photos on Ray that is killed at random moments.

Each round uses a new destination. After a random number of results, it kills the
driver, a worker, or all of Ray (`kill -9`). Each file with a result's name must then
equal the result of `colorize_folder`. After one more run, on Ray or without it by
turns, all results must exist, and no other files.

    python benchmarks/kills.py --rounds 20
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import colorizer_tf as ct
import numpy as np
import psutil
from PIL import Image

PATIENCE = 300  # seconds for a run whose Ray was killed to give up, or to go on


def make_photos(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = rng.integers(0, 256, (150, 150 + number % 60), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.jpg")


def results(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    visible = (path for path in paths if ".colorizer_tf" not in str(path))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in visible}


def start(source, destination, log):
    command = [sys.executable, "-m", "colorizer_tf", "colorize", source, destination]
    return subprocess.Popen([*command, "--ray"], stdout=log, stderr=log)


def kill(run, whom):
    """Kills with signal 9; returns the workers, which may take a while to notice."""
    driver = psutil.Process(run.pid)
    ray = driver.children(recursive=True)
    workers = [process for process in ray if "MapWorker" in " ".join(name(process))]
    victims = {"driver": [driver], "worker": workers[:1], "ray": ray}[whom]
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return workers, len(victims)


def name(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def one_round(source, destination, expected, whom, log):
    most = random.randrange(len(expected))
    run = start(source, destination, log)
    while run.poll() is None and len(list(destination.glob("*.jpg"))) < most:
        time.sleep(0.01)
    time.sleep(random.random() / 3)
    if run.poll() is not None:
        return f"the run was over before its {whom} could be killed", True
    workers, killed = kill(run, whom)
    try:
        code = run.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        return f"after the {whom} was killed it did nothing for {PATIENCE} s", False
    _, alive = psutil.wait_procs(workers, timeout=60)
    left = results(destination)
    half = [name for name in left if left[name] != expected.get(name)]
    said = (
        f"{whom:6} ({killed}) after {most:3}: exit code {code:3}, {len(left):3} there"
    )
    if half or alive:
        return f"{said}; WRONG: {half}, still alive: {alive}", False
    return said, True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)

    colorizer = ct.Colorizer.pretrained()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_photos(folder / "in", args.photos)
        colorizer.colorize_folder(folder / "in", folder / "expected")
        expected = results(folder / "expected")
        for number in range(args.rounds):
            whom = ("driver", "worker", "ray")[number % 3]
            destination = folder / f"out_{number}"
            with open(folder / f"{number}.log", "w+") as log:
                said, good = one_round(folder / "in", destination, expected, whom, log)
                on_ray = number % 2 == 0
                if on_ray:
                    start(folder / "in", destination, log).wait()
                else:
                    colorizer.colorize_folder(folder / "in", destination)
                complete = results(destination) == expected
                left = [path.name for path in destination.glob(".*")]
                good = good and complete and left == [".colorizer_tf.jsonl"]
                failures += not good
                after = "Ray" if on_ray else "folder"
                print(f"{number + 1:2}. {said}; after a run ({after}) complete: "
                      f"{complete}, hidden files {left}", flush=True)  # fmt: skip
                if not good:
                    log.seek(0)
                    print(log.read())
    print(f"{args.rounds} rounds, {failures} of them wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
