"""Tests the page in a real browser: intake, results, storage and accessibility."""

import io
import json
import re
import zipfile

import pytest

import colorizer_tf as ct

pytest.importorskip("uvicorn", reason="needs the extra `service`")

import httpx
from browsing import (
    DESKTOP,
    GREEN,
    IDLE,
    PHONE,
    READY,
    RED,
    Page,
    color_at,
    drop,
    is_green,
    is_red,
    read,
)
from running import RunningService, decode, encode

from colorizer_tf.service.app import STATIC


@pytest.fixture(scope="module")
def colorizer(obedient_colorizer):
    return obedient_colorizer


def test_photos_are_dropped_anywhere_and_pasted(open_page, photos):
    page = open_page("en-US")
    drop(page, [(path.rpartition("/")[2], read(path)) for path in photos[:2]])
    page.wait_for_selector(".cell >> nth=1")
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "clip.png"));
          document.body.dispatchEvent(
            new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
        }""",
        list(read(photos[0])),
    )
    page.wait_for_selector(".cell >> nth=2")
    page.wait_for_selector(IDLE)
    assert page.inner_text("#name") == "clip.png"


def test_a_folder_gives_its_photos_and_their_dots(open_page, photos, tmp_path, engine):
    folder = tmp_path / "box"
    folder.mkdir()
    # No browser shows the format of the first photo.
    scan, ending = (photos[2], "tif") if engine == "server" else (photos[1], "jpg")
    for name, path in (("a.png", photos[0]), (f"b.{ending}", scan)):
        (folder / name).write_bytes(read(path))
    (folder / "letter.txt").write_text("Dear Sir")
    ct.write_hints(folder / "b.hints.json", [ct.Hint(0.25, 0.3, GREEN)])
    page = open_page("en-US")
    page.set_input_files("#folder", folder)
    page.wait_for_selector(".cell >> nth=1")
    used = Page(page)
    used.wait()
    assert page.locator(".cell").count() == 2
    used.choose(0)
    assert used.dots.count() == 0
    used.choose(1)
    assert used.dots.count() == 1
    assert is_green(color_at(used.picture(), (0.25, 0.3)))
    name, result = used.download()
    assert name == f"b colour.{ending}"
    assert decode(result).format == {"tif": "TIFF", "jpg": "JPEG"}[ending]


def test_each_photo_has_its_own_and_a_reload_keeps_it(open_page, photos):
    page = open_page("ru-RU", **PHONE)
    used = Page(page, *photos[:2], touch=True)
    used.set(0.25, 0.3, GREEN)
    used.choose(1)
    assert used.dots.count() == 0
    used.set(0.6, 0.7, RED)
    used.set(0.3, 0.7, RED)

    page.reload()
    page.wait_for_selector("body.ready")
    used.wait()
    assert page.inner_text("#name") == "b.jpg"  # it is back in its place
    assert used.dots.count() == 2
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector("body.ready")
    used.wait()
    used.choose(0)
    assert [color for *_, color in used.hints()] == [GREEN]
    assert is_green(color_at(used.picture(), (0.25, 0.3)))
    page.keyboard.press("Control+z")  # even that
    used.wait()
    assert used.dots.count() == 0
    page.keyboard.press("Control+y")
    used.wait()

    name, content = used.download("all-button")
    assert name == "colorized.zip"
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    assert archive.namelist() == ["мама colour.png", "b colour.jpg"]
    first, second = map(archive.read, archive.namelist())
    assert is_green(color_at(first, (0.25, 0.3)))
    assert is_red(color_at(second, (0.6, 0.7)))


def test_a_broken_file_stops_no_other(open_page, photos, tmp_path, engine):
    page = open_page("en-US", errors_expected=True)
    (tmp_path / "half.jpg").write_bytes(read(photos[1])[:900])
    (tmp_path / "letter.txt").write_text("Dear Sir")
    (tmp_path / "huge.bmp").write_bytes(bytes(3 * 2**20))
    broken = [str(tmp_path / name) for name in ("half.jpg", "letter.txt", "huge.bmp")]
    used = Page(page, photos[0], *broken, photos[1])
    states = page.eval_on_selector_all(
        ".cell", "(cells) => cells.map((cell) => cell.dataset.state)"
    )
    assert states == ["done", "failed", "failed", "failed", "done"]
    # Without an upload, a file may have any size.
    huge = "may have 2 MB" if engine == "server" else "is not a photo"
    for number, words in enumerate(("damaged", "is not a photo", huge), 1):
        page.click(f".cell >> nth={number}")
        page.wait_for_selector(f"#state:has-text('{words}')")
    _, content = used.download("all-button")
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.namelist()[-1] == "report.txt"
    assert len(archive.namelist()) == 3
    assert archive.read("report.txt").decode().count("\n") == 3


def test_the_service_is_restarted_in_between(open_page_at, colorizer, photos):
    first = RunningService(colorizer)
    with first:
        page = open_page_at(first.url, "en-US", errors_expected=True)
        used = Page(page, photos[0])
    page.fill("#colour-input", GREEN)
    used.tap(0.25, 0.3)
    page.wait_for_selector("#message:has-text('out of reach')")
    with RunningService(colorizer, port=first.port):
        page.wait_for_selector("#message:has-text('is back')")
        used.wait()
        assert is_green(color_at(used.picture(), (0.25, 0.3)))
        _, result = used.download()
        assert is_green(color_at(result, (0.25, 0.3)))
        page.context.close()


def test_a_key_pressed_while_offline_counts_when_there_is_a_line_again(
    open_page_at, running, photos
):
    page = open_page_at(running.url, "en-US", errors_expected=True)
    used = Page(page, photos[0])
    used.set(0.25, 0.3, GREEN)
    used.dots.focus()
    page.context.set_offline(True)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#message:has-text('out of reach')")
    page.context.set_offline(False)
    page.wait_for_selector("#message:has-text('is back')")
    used.wait()
    assert [x for x, *_ in used.hints()] == ["26"]
    assert is_green(color_at(used.picture(), (0.26, 0.3)))


def test_more_photos_than_a_request_may_have(open_page, photos):
    page = open_page("en-US")
    Page(page, *[photos[1]] * 24)
    assert page.locator(".cell[data-state=done]").count() == 24


def test_a_full_service_is_waited_for_and_work_can_be_stopped(
    open_page_at, slow_colorizer, photos, monkeypatch
):
    monkeypatch.setattr("colorizer_tf.service.middleware.RETRY_AFTER_SECONDS", 1)
    with RunningService(slow_colorizer, queue_photos=1) as running:
        page = open_page_at(running.url, "en-US", errors_expected=True)
        page.set_input_files("#files", photos)
        page.wait_for_selector("#progress:has-text('0 of 3')")
        page.wait_for_selector("#message:has-text('Waiting for it')")
        page.click("#stop-button")
        page.wait_for_selector("#progress:has-text('Stopped')")
        slow_colorizer.go.set()
        page.wait_for_selector(".cell[data-state=done]")
        assert page.locator(".cell[data-state=waiting]").count() == 2
        page.click("#stop-button")
        page.wait_for_selector(IDLE)
        assert page.locator(".cell[data-state=done]").count() == 3
        page.context.close()


def test_a_photo_is_removed_and_put_back(open_page, photos):
    page = open_page("en-US")
    used = Page(page, *photos)
    used.choose(1)
    used.set(0.25, 0.3, GREEN)
    page.click("#remove-button")
    page.wait_for_selector("#message:has-text('Removed: b.jpg')")
    assert page.locator(".cell").count() == 2
    page.click("#message button")
    page.wait_for_selector(".cell >> nth=2")
    assert page.inner_text("#name") == "b.jpg"
    assert used.dots.count() == 1
    # For the keyboard, the row is a group of radio buttons.
    page.focus(".cell :checked")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#name") == "scan.tif"
    page.click("#clear-button")
    page.wait_for_selector("body.empty")
    page.reload()
    page.wait_for_selector("body.ready.empty")


def test_an_example_adds_itself_and_takes_nothing_away(open_page, photos):
    page = open_page("en-US")
    page.focus("#examples button >> nth=1")
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    assert page.inner_text("#name") == "cat.jpg"
    Page(page, photos[0])
    page.wait_for_selector(".cell >> nth=1")


def test_words_are_of_the_browsers_language_or_the_chosen_one(open_page):
    page = open_page("de-DE")
    assert page.inner_text("#hero h1").startswith("Color for")
    page.click("#language")
    page.wait_for_selector("html[lang=ru]")
    assert page.title() == "Цвет для чёрно-белых фотографий"
    page.reload()
    page.wait_for_selector("body.ready")
    assert page.inner_text("[data-choose=files].primary") == "Выбрать фотографии"
    page.context.close()
    texts = [
        json.loads((STATIC / f"texts/{name}.json").read_text()) for name in ("en", "ru")
    ]
    assert texts[0].keys() == texts[1].keys()


def test_all_of_it_is_in_the_language(open_page, photos):
    page = open_page("ru-RU")
    Page(page, photos[0]).set(0.25, 0.3, GREEN)
    page.click("#dot-list summary")
    words = page.evaluate(
        """() => [...document.querySelectorAll("body :not(noscript, #language)")]
          .flatMap((element) => [element.children.length ? "" : element.textContent,
            element.ariaLabel, element.title, element.alt])"""
    )
    names = re.compile(r"мама( colour)?\.png|Delete|#\w+")
    foreign = [word for word in words if re.search("[a-z]", names.sub("", word or ""))]
    assert foreign == []
    assert page.get_attribute("#colour", "alt") == "мама.png, в цвете"


def test_a_shared_link_shows_what_it_is(running):
    page = httpx.get(running.url).text
    for name in ("<title>", '"og:title" content="', '"og:description" content="'):
        assert "black-and-white photo" in page.partition(name)[2].partition("\n")[0]


def test_the_description_of_the_api_can_be_tried_as_it_is(browser, running):
    photo = {"name": "a.png", "mimeType": "image/png", "buffer": encode()}
    page = browser.new_page()
    page.goto(f"{running.url}/docs")
    page.click(".opblock-post")
    page.click(".try-out__btn")
    page.set_input_files(".opblock-post input[type=file]", photo)
    with page.expect_response("**/api/colorize") as event:
        page.click(".opblock-post .execute")
    asked = ("content-type", "content-disposition", "content-length")
    plain = running.post(("a.png", encode())).headers
    for name in asked:
        assert event.value.headers[name] == plain[name]
    page.close()


def test_a_generator_that_takes_no_hints_has_no_colors(open_page_at, generator, photos):
    with RunningService(ct.Colorizer(generator, working_size=32)) as running:
        page = open_page_at(running.url, "en-US")
        used = Page(page, photos[0])
        assert not page.is_visible("#swatches")
        used.tap(0.5, 0.5)
        assert used.dots.count() == 0
        used.download()
        page.context.close()


@pytest.mark.parametrize(
    ("language", "scheme"), [("en-US", "light"), ("ru-RU", "dark")]
)
def test_everybody_can_use_it(open_page, photos, language, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(language, color_scheme=scheme)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    options = {"runOnly": {"type": "tag", "values": tags}}
    for device in (DESKTOP, PHONE):
        page.set_viewport_size({name: device[name] for name in ("width", "height")})
        found = axe.Axe().run(page, options=options).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        if device is DESKTOP:
            Page(page, *photos[:2]).set(0.25, 0.3, GREEN)
            page.click("#dot-list summary")


@pytest.mark.parametrize("width", [360, 844, 2560])
def test_it_is_one_screen_on_any(open_page, photos, width):
    size = {"width": width, "height": {844: 390}.get(width, 740)}
    page = open_page("ru-RU", **size)
    Page(page, *photos[:2])
    across = page.evaluate("document.documentElement.scrollWidth")
    down = page.evaluate("document.documentElement.scrollHeight")
    assert (across, down) <= (size["width"], size["height"])
    box = page.locator("#stage").bounding_box()
    assert box["width"] * box["height"] > 0.25 * size["width"] * size["height"]
    for button in ("download-button", "undo-button", "all-button"):
        place = page.locator(f"#{button}").bounding_box()
        assert place["x"] + place["width"] <= size["width"]
        assert place["y"] + place["height"] <= size["height"]
