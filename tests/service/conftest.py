import os
import shutil
import threading

import pytest

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
SECONDS = 60_000  # for whatever the page does, in its milliseconds


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
def open_page(browser, address):
    """A function that opens the page, and sees to it that nothing else is asked.

    The page is at the fixture `address` of a module.
    """
    contexts, elsewhere, errors = [], [], []

    def listen(request):
        if not request.url.startswith((address, "data:", "blob:")):
            elsewhere.append(request.url)

    def open_in(language, width=1280, height=900, **options):
        viewport = {"width": width, "height": height}
        context = browser.new_context(locale=language, viewport=viewport, **options)
        contexts.append(context)
        context.set_default_timeout(SECONDS)
        page = context.new_page()
        page.on("request", listen)
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        page.wait_for_selector("#photos input[type=file]", state="attached")
        # The page's own script sets it, last of all.
        page.wait_for_selector(f"html[lang={language}]", state="attached")
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert not elsewhere
    assert not errors


class SlowColorizer(Colorizer):
    """A colorizer whose network waits until it is let go."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.go = threading.Event()
        self.batches = []

    def predict_chroma(self, lumas, hints=None):
        self.go.wait(30)
        self.batches.append(len(lumas))
        return super().predict_chroma(lumas, hints)


@pytest.fixture
def slow_colorizer(build_vivid_generator):
    return SlowColorizer(build_vivid_generator(hints=True), working_size=32)
