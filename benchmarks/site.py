"""Measures the static site in Chromium: results against the command's, time, memory.

python benchmarks/site.py PHOTO... [--large PHOTO] [--site FOLDER] [--clicks 20]
    [--format png]

The first photo, and each fourth after it, has three hints. The decoded files are
compared with those of `Colorizer.colorize_file`.
"""

import colorizer_tf as ct

# isort: split
import argparse
import functools
import http.server
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from colorizer_tf.photos import read_gray
from colorizer_tf.site import write_site

COLORIZE = """async ([strength, hints, format]) => {
  const engine = await import(new URL("static/engine.js", location));
  const [file] = document.querySelector("#own-file").files;
  const start = performance.now();
  const options = {strength, hints, format};
  const {blob, name} = await engine.colorize(file, file.name, options);
  const seconds = (performance.now() - start) / 1000;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  return seconds;
}"""
INPUT = """() => {
  const input = document.createElement("input");
  input.type = "file";
  input.id = "own-file";
  input.hidden = true;
  document.body.append(input);
}"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    handler = functools.partial(QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def open_page(driver, address):
    browser = driver.chromium.launch(
        executable_path=shutil.which("chromium"),
        args=["--no-sandbox", "--disable-dev-shm-usage"],
    )
    page = browser.new_context(locale="en-US").new_page()
    page.set_default_timeout(120_000)
    page.on("console", lambda message: print("console:", message.text))
    page.goto(address)
    page.wait_for_selector("body.ready")
    page.evaluate(INPUT)
    return browser, page


def colorize(page, photo, folder, strength, hints, file_format):
    page.set_input_files("#own-file", photo)
    with page.expect_download() as event:
        seconds = page.evaluate(COLORIZE, [strength, hints, file_format])
    path = folder / event.value.suggested_filename
    event.value.save_as(path)
    return path, seconds


def make_hints(seed):
    rng = np.random.default_rng(seed)
    colors = ("#2e5d34", "#a8322d", "#2f3f5f")
    return [
        {"x": round(x, 4), "y": round(y, 4), "color": color}
        for (x, y), color in zip(rng.uniform(0.1, 0.9, (3, 2)), colors, strict=True)
    ]


def compare(page, photos, folder, file_format):
    colorizer = ct.Colorizer.pretrained()
    rows = []
    for number, photo in enumerate(photos):
        hints = make_hints(number) if number % 4 == 0 else []
        strength = (1, 0.5)[number % 8 == 4]
        path, seconds = colorize(page, photo, folder, strength, hints, file_format)
        own = folder / f"own{path.suffix}"
        own.unlink(missing_ok=True)
        colorizer.colorize_file(
            photo, own, strength, [ct.Hint(**hint) for hint in hints]
        )
        got, wanted = [np.int32(Image.open(x).convert("RGB")) for x in (path, own)]
        difference = abs(got - wanted)
        gray = np.int32(read_gray(photo).gray)
        lumas = [np.int32(read_gray(each).gray) for each in (path, own)]
        luma = [abs(each - gray) for each in lumas]
        apart = abs(lumas[0] - lumas[1]).max()
        rows.append((difference.mean(), difference.max(), apart))
        print(
            f"{Path(photo).name:45.45} {got.shape[1]}x{got.shape[0]} "
            f"hints {len(hints)} "
            f"strength {strength} "
            f"mean {difference.mean():.3f} max {difference.max()} "
            f"luma {luma[0].mean():.3f} (max {luma[0].max()}) command's "
            f"{luma[1].mean():.3f} (max {luma[1].max()}), apart at most {apart} "
            f"{seconds:.2f} s",
            flush=True,
        )
    mean, largest, apart = zip(*rows, strict=True)
    print(f"mean difference: {np.mean(mean):.3f} over photos, {max(mean):.3f} at most")
    print(f"largest difference: {max(largest)}, of luma {max(apart)}")


def click(page, photo, count):
    page.set_input_files("#files", photo)
    page.wait_for_selector('#stage[data-state=done][aria-busy="false"]')
    seconds = []
    rng = np.random.default_rng(0)
    for _ in range(count):
        box = page.locator("#picture").bounding_box()
        x, y = rng.uniform(0.2, 0.8, 2)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        seconds.append(
            page.evaluate(
                """() => new Promise((resolve) => {
                  const start = performance.now();
                  const see = () => {
                    const {state} = document.querySelector("#stage").dataset;
                    if (state === "done") resolve((performance.now() - start) / 1000);
                    else setTimeout(see, 2);
                  };
                  see();
                })"""
            )
        )
        page.wait_for_timeout(400)
    print(f"click to preview: median {statistics.median(seconds):.2f} s of {count}")


def renderer_memory():
    """Returns the peak memory of a renderer, in MB."""
    highest = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"--type=renderer" in command:
                status = (folder / "status").read_text()
                line = status.partition("VmHWM:")[2].split()
                highest = max(highest, int(line[0]) / 1000)
        except (OSError, IndexError):
            continue
    return highest


def drop_large(page, photo):
    content = Path(photo).stat().st_size
    height, width = cv2.imread(photo, 0).shape
    start = time.perf_counter()
    page.set_input_files("#files", photo)
    page.wait_for_selector('#stage[data-state=done][aria-busy="false"]')
    shown = time.perf_counter() - start
    with page.expect_download() as event:
        page.click("#download-button")
    event.value.path()
    whole = time.perf_counter() - start
    print(
        f"{width}x{height}, {content / 1e6:.1f} MB: shown after {shown:.2f} s, "
        f"downloaded after {whole:.2f} s; renderer's peak {renderer_memory():.0f} MB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--large", help="a photo of 12 megapixels, say")
    parser.add_argument("--site", help="one that is there already")
    parser.add_argument("--format", help="of the results; png shows what JPEG hides")
    parser.add_argument("--clicks", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        folder = Path(folder)
        site = Path(options.site or folder / "site")
        if not options.site:
            print(json.dumps(write_site(site), indent=2))
        address = serve(site)
        print(f"load average {os.getloadavg()[0]:.1f}")
        browser, page = open_page(driver, address)
        print("isolated:", page.evaluate("crossOriginIsolated"))
        compare(page, options.photos, folder, options.format)
        click(page, options.photos[0], options.clicks)
        browser.close()
        if options.large:
            browser, page = open_page(driver, address)
            drop_large(page, options.large)
            browser.close()


if __name__ == "__main__":
    main()
