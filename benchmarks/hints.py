"""From a click on the page to the photo with that colour, in a real browser.

Photos of several sizes, made of the embedded sample, are dropped on the page, and
colours are set at random places, a second apart. Two times are taken: until the
small result is seen, and, for the last click, until the full-size file can be
downloaded. It needs Chromium, as the tests of the page do.

    python benchmarks/hints.py --weights runs/mine/generator.keras
"""

import argparse
import os
import shutil
import signal
import tempfile
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
# Clicks where it is told to, and returns the milliseconds until the stage is ready.
CLICK = """([x, y]) => new Promise((resolve) => {
  const stage = document.querySelector("#hints .stage");
  const box = stage.getBoundingClientRect();
  const start = performance.now();
  new MutationObserver((_, observer) => {
    if (stage.ariaBusy !== "false") return;
    observer.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - start));
  }).observe(stage, {attributes: true, attributeFilter: ["aria-busy"]});
  stage.dispatchEvent(new MouseEvent("click", {
    bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height,
  }));
})"""


def measure(page, photo, clicks):
    """The seconds of each click, and those until the file is there."""
    rng = np.random.default_rng(0)
    page.set_input_files("#photos input[type=file]", photo)
    page.wait_for_selector("#compare img.fixed")
    page.click("#hints summary")
    page.wait_for_selector("#hints .stage[aria-busy=false]")
    seconds = []
    for number in range(clicks + 1):
        rgb = rng.integers(0, 256, 3, np.uint8).tobytes().hex()
        page.fill("#hints .color", f"#{rgb}")
        took = page.evaluate(CLICK, rng.uniform(0.05, 0.95, 2).tolist()) / 1000
        if number:  # the first one warms up
            seconds.append(took)
        if number < clicks:
            page.wait_for_timeout(PAUSE_MILLISECONDS)
    rest = page.evaluate(
        """() => new Promise((resolve) => {
          const start = performance.now();
          const look = () => document.querySelector("#download").inert
            ? setTimeout(look, 10) : resolve(performance.now() - start);
          look();
        })"""
    )
    return seconds, seconds[-1] + rest / 1000


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
                page.wait_for_selector("#photos input[type=file]", state="attached")
                seconds, file = measure(page, photo, args.clicks)
                print(
                    f"{photo.stem}: click to picture, median {np.median(seconds):.2f}"
                    f" s, 95th percentile {np.percentile(seconds, 95):.2f} s; to the "
                    f"file at full size {file:.1f} s"
                )
                page.close()
            browser.close()
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


if __name__ == "__main__":
    main()
