"""Tests the static site in Firefox, over WebDriver BiDi: Playwright needs its own."""

import base64
import contextlib
import functools
import io
import itertools
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import websocket
from PIL import Image
from serving import RunningSite

import colorizer_tf as ct
from colorizer_tf import site

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
SECONDS = 60
COLORIZE = """async () => {
  const engine = await import(new URL("static/engine.js", location));
  const [file] = document.querySelector("#mine").files;
  const {blob} = await engine.colorize(file, file.name, {
    hints: [{x: 0.5, y: 0.5, color: "#2e8d34"}],
  });
  const reader = new FileReader();
  await new Promise((resolve) => {
    reader.addEventListener("load", resolve);
    reader.readAsDataURL(blob);
  });
  return reader.result;
}"""
INPUT = """() => {
  const input = document.createElement("input");
  Object.assign(input, {type: "file", id: "mine"});
  document.body.append(input);
  return input;
}"""


class Firefox:
    """A Firefox without a window, and its one page."""

    def __init__(self, folder):
        folder.mkdir()
        log = folder / "log.txt"
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [
                    *(FIREFOX, "--headless", "--no-remote", "--profile", folder),
                    *("--remote-debugging-port", "0"),
                ],
                stdout=file,
                stderr=file,
            )
        listening = functools.partial(re.search, r"listening on (ws://\S+)")
        try:
            address = wait_for(lambda: listening(log.read_text()))[1]
        except TimeoutError:
            self.process.kill()
            raise
        self.socket = websocket.create_connection(
            f"{address}/session", timeout=SECONDS, suppress_origin=True
        )
        self.numbers = itertools.count()
        self.ask("session.new", capabilities={})
        (page,) = self.ask("browsingContext.getTree")["contexts"]
        self.page = {"context": page["context"]}

    def ask(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def call(self, function):
        answer = self.ask(
            "script.callFunction",
            functionDeclaration=function,
            awaitPromise=True,
            target=self.page,
        )
        assert answer["type"] == "success", answer
        return answer["result"]

    def open(self, url):
        self.ask("browsingContext.navigate", url=url, wait="complete", **self.page)
        ready = "() => crossOriginIsolated && document.body.matches('.ready')"

        def is_ready():
            with contextlib.suppress(AssertionError):  # the page reloads itself once
                return self.call(ready)["value"]

        wait_for(is_ready)

    def choose(self, path):
        element = self.call(INPUT)
        element = {"sharedId": element["sharedId"]}
        self.ask("input.setFiles", element=element, files=[str(path)], **self.page)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(SECONDS)


def wait_for(condition):
    """Returns what the condition returns, once that is true."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError("Firefox does not answer.")


@pytest.mark.skipif(not FIREFOX, reason="no Firefox here: apt-get install firefox-esr")
def test_firefox_gives_the_colors_of_the_command(runtime, tmp_path):
    site.write_site(tmp_path / "site")
    photo = ct.read_photo(site.PAGE / "examples/astronaut.jpg")
    Image.fromarray(ct.to_gray(photo)).save(tmp_path / "a.png")
    firefox = Firefox(tmp_path / "profile")
    try:
        with RunningSite(tmp_path / "site") as running:
            firefox.open(running.url)
            firefox.choose(tmp_path / "a.png")
            address = firefox.call(COLORIZE)["value"]
    finally:
        firefox.close()
    content = base64.b64decode(address.split(",")[1])
    result = np.int32(Image.open(io.BytesIO(content)).convert("RGB"))

    expected = ct.Colorizer.pretrained().colorize(
        ct.to_gray(photo), hints=[ct.Hint(0.5, 0.5, "#2e8d34")]
    )
    assert np.ptp(expected, axis=-1).max() > 60
    assert abs(result - expected).mean() < 0.6
