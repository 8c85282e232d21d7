"""Measures the time from a click on the page to the new colors, in a real browser.

It adds photos of several sizes, made from the embedded sample, to the page, and sets
colors at random places, a second apart. It measures the time until the picture shows
the color, and the time of the download at full size after the last click. It needs
Chromium, as the tests of the page do.

    python benchmarks/hints.py --weights runs/mine/generator.keras
"""

import argparse
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import colorizer_tf as ct
import cv2
import numpy as np
import skimage.data
from playwright.sync_api import sync_playwright
from service import start_service

SIZES = ((150, 150), (1600, 1250), (4000, 3000))
PAUSE_MILLISECONDS = 1000
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Returns the milliseconds from a click to the picture that shows it.
WATCH = """() => {
  const image = document.querySelector("#colour");
  let start = 0;
  addEventListener("pointerup", () => { start = performance.now(); }, {capture: true});
  new MutationObserver(async () => {
    await image.decode();
    requestAnimationFrame(() => { window.took = performance.now() - start; });
  }).observe(image, {attributes: true, attributeFilter: ["src"]});
}"""
IDLE = "#stage[data-state=done][aria-busy=false]"


def measure(page, photo, clicks):
    """Returns the seconds of each click, and of the download."""
    rng = np.random.default_rng(0)
    page.set_input_files("#files", photo)
    page.wait_for_selector(IDLE)
    page.evaluate(WATCH)
    seconds = []
    for number in range(clicks + 1):
        rgb = rng.integers(0, 256, 3, np.uint8).tobytes().hex()
        page.fill("#colour-input", f"#{rgb}")
        x, y = rng.uniform(0.05, 0.95, 2)
        box = page.locator("#picture").bounding_box()
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_timeout(PAUSE_MILLISECONDS)
        page.wait_for_selector(IDLE)
        if number:  # the first one warms up
            seconds.append(page.evaluate("window.took") / 1000)
    start = time.perf_counter()
    with page.expect_download() as event:
        page.click("#download-button")
    event.value.path()
    return seconds, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", default=ct.Colorizer.WEIGHTS, help="else the package's"
    )
    parser.add_argument("--clicks", type=int, default=30, help="for each size")
    args = parser.parse_args()

    sample = Path(skimage.data.__file__).parent / "astronaut.png"
    gray = cv2.imread(str(sample), cv2.IMREAD_GRAYSCALE)
    print(f"{os.cpu_count()} cores, the browser's too")
    service, address = start_service(args.weights)
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=BROWSER,
                args=["--no-sandbox", "--disable-dev-shm-usage"],
            )
            for size in SIZES:
                photo = Path(folder) / "{}x{}.jpg".format(*size)
                cv2.imwrite(str(photo), cv2.resize(gray, size))
                page = browser.new_page()
                page.goto(address)
                page.wait_for_selector("body.ready")
                seconds, file = measure(page, photo, args.clicks)
                print(
                    f"{photo.stem}: click to picture, median {np.median(seconds):.2f}"
                    f" s, 95th percentile {np.percentile(seconds, 95):.2f} s; the "
                    f"file at full size {file:.1f} s"
                )
                page.close()
            browser.close()
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


if __name__ == "__main__":
    main()
