"""Compares 200 requests to the service, 16 at a time, with the same photos as a folder.

Photos of 150x150 and of 2 megapixels alternate, made from the embedded sample. Each
response is compared with its photo. Both rates come from the same run. The peak memory
is that of the service's process.

    python benchmarks/service.py --weights runs/sample/generator.keras
"""

import argparse
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import colorizer_tf as ct
import cv2
import httpx
import numpy as np
import skimage.data

SIZES = ((150, 150), (1600, 1250))
# The largest mean difference, in levels, of a JPEG that is written twice.
TOLERANCE = 4


def make_photos(folder, count):
    folder.mkdir()
    sample = Path(skimage.data.__file__).parent
    sources = [
        cv2.imread(str(sample / name), cv2.IMREAD_GRAYSCALE)
        for name in ("astronaut.png", "coffee.png", "chelsea.png")
    ]
    for number in range(count):
        rng = np.random.default_rng(number)
        gray = cv2.resize(sources[number % len(sources)], SIZES[number % len(SIZES)])
        # All photos differ, so that swapped responses are noticed.
        gray = np.roll(gray, rng.integers(0, gray.shape), (0, 1))
        gray = np.uint8(np.clip(gray + rng.normal(0, 3, gray.shape), 0, 255))
        cv2.imwrite(str(folder / f"{number:04}.jpg"), gray)
    return sorted(folder.iterdir())


def folder_rate(colorizer, photos, results):
    """Returns the photos per second of `colorize_folder`."""
    start = time.perf_counter()
    report = colorizer.colorize_folder(photos[0].parent, results)
    return len(report.with_status("done")) / (time.perf_counter() - start)


def start_service(weights):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "colorizer_tf", "serve", "--port", str(port)]
    command += ["--weights", str(weights)]
    service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    while True:
        try:
            httpx.get(f"{address}/health")
            return service, address
        except httpx.TransportError:
            if service.poll() is not None:
                raise SystemExit("The service did not start.") from None
            time.sleep(0.2)


def ask(client, photo):
    """Sends a photo; returns the response and the seconds it took."""
    start = time.perf_counter()
    files = {"photo": (photo.name, photo.read_bytes())}
    response = client.post("/api/colorize", files=files)
    return response, time.perf_counter() - start


def is_of(response, photo):
    """Whether the response shows this photo, in color or not."""
    if response.status_code != 200:
        return False
    sent = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE)
    content = np.frombuffer(response.content, np.uint8)
    received = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    return sent.shape == received.shape and cv2.absdiff(sent, received).mean() < (
        TOLERANCE
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument("--count", type=int, default=200, help="of requests")
    parser.add_argument("--at-once", type=int, default=16, help="requests at a time")
    args = parser.parse_args()

    colorizer = ct.Colorizer.load(args.weights)
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder) / "photos", args.count)
        for photo in photos[: len(SIZES)]:
            colorizer.colorize(ct.read_photo(photo))  # warms up
        reached = folder_rate(colorizer, photos, Path(folder) / "before")
        service, address = start_service(args.weights)
        with (
            httpx.Client(base_url=address, timeout=600) as client,
            ThreadPoolExecutor(args.at_once) as pool,
        ):
            for photo in photos[: len(SIZES)]:
                ask(client, photo)  # warms up
            start = time.perf_counter()
            responses = list(pool.map(lambda photo: ask(client, photo), photos))
            rate = len(photos) / (time.perf_counter() - start)
        service.send_signal(signal.SIGTERM)
        service.wait()
        # Before and after the service, because the machine's load may change.
        reached = max(reached, folder_rate(colorizer, photos, Path(folder) / "after"))
        right = sum(
            is_of(response, photo)
            for (response, _), photo in zip(responses, photos, strict=True)
        )
    answered = sum(response.status_code == 200 for response, _ in responses)
    seconds = [seconds for _, seconds in responses]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(
        f"{os.cpu_count()} cores; {args.count} requests, {args.at_once} at a time: "
        f"{answered} answered, {right} with their own photo\n"
        f"median {np.median(seconds):.2f} s, 95th percentile "
        f"{np.percentile(seconds, 95):.2f} s\n"
        f"{rate:.1f} photos/s, the folder {reached:.1f} photos/s: {rate / reached:.0%}"
        f"\npeak memory of the service "
        f"{peak / (1e9 if sys.platform == 'darwin' else 1e6):.2f} GB"
    )


if __name__ == "__main__":
    main()
