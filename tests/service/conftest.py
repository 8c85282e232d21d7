import functools
import os
import shutil
import threading

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_obedient_generator

from colorizer_tf.colorizer import Colorizer


@pytest.fixture(scope="module")
def colorizer(build_vivid_generator):
    return Colorizer(build_vivid_generator(hints=True), working_size=32)


@pytest.fixture(scope="module")
def service(colorizer):
    from running import RunningService  # needs the extra `service`

    limits = {"photo_bytes": 2**21, "request_bytes": 2**23, "photos": 5}
    with RunningService(colorizer, **limits, stall_seconds=2) as running:
        yield running


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
EXPECTED = ("Failed to load resource", "Service Worker registration blocked")
SECONDS = 20_000  # timeout of the page, in milliseconds


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not BROWSER:
        pytest.skip("no browser here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not work for root, and in a locale without
        # Cyrillic it opens no file that has a Russian name.
        browser = driver.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page_at(browser):
    """A function that opens the page at an address, in a browser of its own.

    It checks that the page makes no request to other hosts. It also checks that the
    console has no message, except failed requests if `errors_expected`.
    """
    contexts, wrong = [], []

    def open_at(address, language, width=1280, height=800, **options):
        expected = options.pop("errors_expected", False)
        viewport = {"width": width, "height": height}
        context = browser.new_context(locale=language, viewport=viewport, **options)
        contexts.append(context)
        context.set_default_timeout(SECONDS)
        page = context.new_page()

        def see_request(request):
            if not request.url.startswith((address, "data:", "blob:")):
                wrong.append(request.url)

        def see_message(message):
            if not (expected and message.text.startswith(EXPECTED)):
                wrong.append(message.text)

        page.on("request", see_request)
        page.on("console", see_message)
        page.on("pageerror", lambda error: wrong.append(error))
        page.goto(address)
        page.wait_for_selector("body.ready")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def open_page(open_page_at, address):
    """The same function for the fixture `address` of a module."""
    return functools.partial(open_page_at, address)


@pytest.fixture(scope="module")
def obedient_colorizer():
    return Colorizer(build_obedient_generator())


@pytest.fixture(scope="module")
def running(obedient_colorizer):
    from running import RunningService

    with RunningService(obedient_colorizer, photo_bytes=2**21) as running:
        yield running


@pytest.fixture(scope="session")
def runtime():
    """Skips the test if ONNX Runtime Web cannot be fetched."""
    from colorizer_tf.site import SiteError, fetch_runtime

    try:
        fetch_runtime()
    except SiteError as error:
        pytest.skip(f"the page's engine `browser` is not tested: {error}")


@pytest.fixture(scope="session")
def obedient_site(runtime, tmp_path_factory):
    """A site with the network of `obedient_colorizer`."""
    from colorizer_tf.site import write_site
    from colorizer_tf.training.browser import export_beside

    folder = tmp_path_factory.mktemp("site")
    build_obedient_generator().save(folder / "generator.keras")
    export_beside(folder / "generator.keras")
    write_site(folder / "site", folder / "generator.keras")
    return folder / "site"


@pytest.fixture(scope="module", params=["server", "browser"])
def engine(request):
    """The kind of engine that the page uses."""
    return request.param


@pytest.fixture(scope="module")
def address(engine, request):
    if engine == "server":
        yield request.getfixturevalue("running").url
        return
    from serving import RunningSite

    with RunningSite(request.getfixturevalue("obedient_site")) as site:
        yield site.url


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / "мама.png", tmp_path / "b.jpg", tmp_path / "scan.tif"]
    for seed, path in enumerate(paths):
        levels = np.random.default_rng(seed).integers(100, 160, (4, 5), np.uint8)
        photo = cv2.resize(levels, (400, 300), interpolation=cv2.INTER_CUBIC)
        if path.suffix == ".tif":  # 16 bits, which no browser shows
            photo = photo.astype(np.uint16) * 257
        Image.fromarray(photo).save(path)
    return [*map(str, paths)]


class SlowColorizer(Colorizer):
    """A colorizer whose network waits until a test releases it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.go = threading.Event()
        self.batches = []

    def predict_chroma(self, lumas, *args):
        self.go.wait(30)
        self.batches.append(len(lumas))
        return super().predict_chroma(lumas, *args)


@pytest.fixture
def slow_colorizer(build_vivid_generator):
    return SlowColorizer(build_vivid_generator(hints=True), working_size=32)
