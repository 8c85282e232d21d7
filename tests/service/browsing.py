"""Uses the page as a person does, and reads what it shows."""

import json

import numpy as np
import pytest
from running import decode

GREEN = "#2e8d34"
RED = "#c03030"
FAR = (0.9, 0.85)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}
# All photos show their requested results.
IDLE = "#strip:not(:has(.cell:not([data-state=done], [data-state=failed])))"
SHOWN = '#picture:not([aria-busy="true"])'
READY = '#stage[data-state=done][aria-busy="false"]'


class Page:
    """The page, as a person uses it."""

    def __init__(self, page, *paths, touch=False):
        self.page, self.touch = page, touch
        self.dots = page.locator(".dot")
        if paths:
            page.set_input_files("#files", list(paths))
            page.wait_for_selector(f"#strip .cell >> nth={len(paths) - 1}")
            self.wait()

    def wait(self):
        self.page.wait_for_selector(IDLE)
        self.page.wait_for_selector(SHOWN, state="attached")

    def press(self, name):
        self.page.click(f"#{name}")
        self.wait()

    def point(self, x, y):
        box = self.page.locator("#picture").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def set(self, x, y, color):
        self.page.fill("#colour-input", color)
        self.tap(x, y)
        self.wait()

    def tap(self, x, y):
        hand = self.page.touchscreen.tap if self.touch else self.page.mouse.click
        hand(*self.point(x, y))

    def choose(self, number):
        self.page.click(f".cell >> nth={number}")
        self.page.wait_for_selector(READY)
        self.page.wait_for_selector(SHOWN, state="attached")

    def picture(self, which="colour"):
        content = self.page.evaluate(
            """async (which) => {
              const {src} = document.querySelector(`#${which}`);
              return [...new Uint8Array(await (await fetch(src)).arrayBuffer())];
            }""",
            which,
        )
        return bytes(content)

    def hints(self):
        """Returns (x, y, color) of each dot in the list."""
        names = ("x", "y", "color")
        return [
            tuple(row.locator(f"[name={name}]").input_value() for name in names)
            for row in self.page.locator("#dot-list li").all()
        ]

    def download(self, button="download-button"):
        with self.page.expect_download() as event:
            self.page.click(f"#{button}")
        return event.value.suggested_filename, event.value.path().read_bytes()


def color_at(content, place):
    photo = np.asarray(decode(content).convert("RGB")).astype(int)
    height, width = photo.shape[:2]
    return photo[int(place[1] * height), int(place[0] * width)]


def is_green(rgb):
    return rgb[1] > max(rgb[0], rgb[2]) + 30


def is_red(rgb):
    return rgb[0] > max(rgb[1:]) + 30


def assert_same(result, wanted, engine):
    """Asserts that a result is the library's; in the browser, to within a level."""
    if engine == "server":
        assert result == wanted
        return
    result, wanted = (
        np.int32(decode(each).convert("RGB")) for each in (result, wanted)
    )
    assert abs(result - wanted).max() <= 2
    assert abs(result - wanted).mean() < 0.5


def drop(page, names_and_contents):
    """Drops files on the page, outside its box."""
    page.evaluate(
        """(files) => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files) {
            transfer.items.add(new File([new Uint8Array(bytes)], name));
          }
          for (const type of ["dragover", "drop"]) {
            document.querySelector("header").dispatchEvent(new DragEvent(
              type, {dataTransfer: transfer, bubbles: true, cancelable: true},
            ));
          }
        }""",
        [[name, list(content)] for name, content in names_and_contents],
    )


def read(path):
    with open(path, "rb") as file:
        return file.read()


def saved(used, about):
    """Returns the hint that the page stores; the list shows fewer digits."""
    used.page.locator("#dot-list").evaluate("(list) => { list.open = true; }")
    with used.page.expect_download() as event:
        used.page.click("#save-dots")
    (hint,) = json.loads(event.value.path().read_text())
    assert hint == pytest.approx(about, abs=1e-3)
    return hint
