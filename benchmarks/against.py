"""Compares this version with another: start, large photo, folder, service, Ray.

    git worktree add ../before ea30a82
    python benchmarks/against.py ../before

Both versions take turns in one run, use this Python, and color the same gray JPEGs,
made from the embedded sample. Times are the least of `--repeat` runs. Memory is the
peak of the process. `--also FOLDER` adds packages that only the other version needs.
"""

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import skimage.data

CLIENTS, REQUESTS, PORT = 16, 800, 8917
HERE = Path(__file__).parents[1]
# Prints the seconds of OpenCV and of the colorizer for one photo, from file to file.
LARGE = """
import sys, time, cv2, colorizer_tf as ct
from pathlib import Path
colorizer, folder = ct.Colorizer.pretrained(), Path(sys.argv[2])
def opencv():
    cv2.imwrite(str(folder / "cv.jpg"), cv2.imread(sys.argv[1]),
        [cv2.IMWRITE_JPEG_QUALITY, 95])
def own():
    (folder / "own.jpg").unlink(missing_ok=True)
    colorizer.colorize_file(sys.argv[1], folder / "own.jpg")
def least(work):
    times = []
    for _ in range(7):
        start = time.perf_counter(); work(); times.append(time.perf_counter() - start)
    return min(times)
own()
print(least(opencv), least(own))
"""
# Prints the photos per second of a folder, with a network that has warmed up.
FOLDER = """
import sys, time, colorizer_tf as ct
colorizer = ct.Colorizer.pretrained()
colorizer.colorize_folder(sys.argv[1], sys.argv[2] + "/warm")
start = time.perf_counter()
report = colorizer.colorize_folder(sys.argv[1], sys.argv[2] + "/out")
print(len(report) / (time.perf_counter() - start))
"""
RAY = """
import time; start = time.perf_counter()
import ray; ray.init(address="local", num_cpus=2, include_dashboard=False,
    log_to_driver=False)
print(time.perf_counter() - start)
"""


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a worktree of the other version")
    parser.add_argument("--also", type=Path, help="a folder of packages for it")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--photos", type=int, default=500, help="of the folder")
    args = parser.parse_args()
    trees = {"other": [args.other.resolve()], "this": [HERE]}
    if args.also:
        trees["other"].append(args.also.resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        small, large = make_photos(folder, args.photos)
        for name, work in (
            ("command, a photo of 150x150", lambda tree: measure_start(tree, small)),
            ("12 megapixels, file to file", lambda tree: measure_large(tree, large)),
            (f"folder of {args.photos}", lambda tree: measure_folder(tree, small)),
            ("service", lambda tree: measure_service(tree, small)),
            ("Ray, a folder of one photo", lambda tree: measure_ray(tree, small)),
        ):
            print(name)
            found = {each: [] for each in trees}
            for _ in range(args.repeat):
                for each, tree in trees.items():
                    found[each].append(work(tree))
            for each, runs in found.items():
                best = {
                    key: (max if "second" in key else min)(run[key] for run in runs)
                    for key in runs[0]
                }
                shown = ", ".join(f"{key} {value:.2f}" for key, value in best.items())
                print(f"  {each}: {shown}", flush=True)


def make_photos(folder, count):
    """Returns a folder of gray JPEGs of 150x150, and a JPEG of 12 megapixels."""
    source = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    small, large = folder / "small", folder / "large.jpg"
    small.mkdir()
    for number in range(count):
        square = source[number % 300 :][:200, number % 200 :][:, :200]
        photo = cv2.resize(square, (150, 150), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(small / f"{number:04}.jpg"), photo)
    cv2.imwrite(str(large), cv2.resize(source, (4000, 3000)))
    return small, large


def run(tree, *command):
    """Runs Python; returns what it printed, the seconds, and the peak in GB."""
    paths = os.pathsep.join(map(str, tree))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=tree[0],  # Python searches the current folder first
        env=os.environ | {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {command}")
    return printed, time.perf_counter() - start, usage.ru_maxrss / 1e6


def measure_start(tree, photos):
    with tempfile.TemporaryDirectory() as out:
        photo, result = next(photos.iterdir()), Path(out) / "result.jpg"
        _, seconds, memory = run(tree, "-m", "colorizer_tf", "colorize", photo, result)
    return {"s": seconds, "GB": memory}


def measure_large(tree, photo):
    with tempfile.TemporaryDirectory() as out:
        printed, _, memory = run(tree, "-c", LARGE, photo, out)
    opencv, own = map(float, printed.split())
    return {"s": own, "times OpenCV": own / opencv, "GB": memory}


def measure_folder(tree, photos):
    with tempfile.TemporaryDirectory() as out:
        printed, _, memory = run(tree, "-c", FOLDER, photos, out)
    return {"photos a second": float(printed.split()[-1]), "GB": memory}


def measure_ray(tree, photos):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        photo = next(photos.iterdir())
        (source / photo.name).write_bytes(photo.read_bytes())
        command = "colorize", source, Path(folder) / "out", "--ray"
        _, seconds, _ = run(tree, "-m", "colorizer_tf", *command)
    bare = float(run(tree, "-c", RAY)[0])
    return {"s": seconds, "s without Ray's own start": seconds - bare}


def measure_service(tree, photos):
    paths = os.pathsep.join(map(str, tree))
    url, start = f"http://127.0.0.1:{PORT}", time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "colorizer_tf", "serve", "--port", str(PORT)],
        cwd=tree[0],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise SystemExit("the service has ended") from None
                time.sleep(0.02)
        ready = time.perf_counter() - start
        idle = peak_memory(process.pid)
        forms = [
            httpx.Request("POST", url, files={"photo": (path.name, path.read_bytes())})
            for path in sorted(photos.iterdir())
        ]
        bodies = [(form.read(), dict(form.headers)) for form in forms]

        def ask(count):
            # A client that takes little of the processors' time.
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
            for number in range(count):
                body, headers = bodies[number % len(bodies)]
                connection.request("POST", "/api/colorize", body, headers)
                response = connection.getresponse()
                if response.status != 200 or not response.read():
                    raise SystemExit(f"the service answers {response.status}")

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, [2] * CLIENTS))
            start = time.perf_counter()
            list(pool.map(ask, [REQUESTS // CLIENTS] * CLIENTS))
            rate = REQUESTS / (time.perf_counter() - start)
        busy = peak_memory(process.pid)
    finally:
        process.terminate()
        process.wait()
    return {
        "s to healthy": ready,
        "GB idle": idle,
        "GB": busy,
        "photos a second": rate,
    }


def peak_memory(pid):
    """Returns the peak memory of a process so far, in GB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e6
    raise ValueError(f"/proc/{pid}/status names no peak")


if __name__ == "__main__":
    main()
