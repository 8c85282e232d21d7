"""The page, in a real browser."""

import threading

import numpy as np
import pytest
from PIL import Image

from colorizer_tf.colorizer import Colorizer

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from running import RunningService

from colorizer_tf.service import page as page_module


@pytest.fixture(scope="module")
def address(colorizer):
    with RunningService(colorizer, request_bytes=2**20) as running:
        yield running.url


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / "мама.png", tmp_path / "b.jpg"]
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80), np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "letter.txt").write_text("Dear Sir")
    return [*map(str, paths), str(tmp_path / "letter.txt")]


def drop(page, *paths):
    page.set_input_files("#photos input[type=file]", list(paths))


def download(page, path):
    with page.expect_download() as event:
        page.click("#download")
    event.value.save_as(path)
    return event.value.suggested_filename


def test_a_photo_goes_in_and_comes_out_in_colour(open_page, photos, tmp_path):
    page = open_page("en-US")
    page.wait_for_selector("h1:has-text('Colour for black-and-white photos')")
    drop(page, photos[0])
    page.wait_for_selector("#compare img.fixed")
    # Both halves of the slider have loaded: before gray, after in colour.
    spreads = page.eval_on_selector_all(
        "#compare img",
        """async (images) => Promise.all(images.map(async (image) => {
          await image.decode();
          const canvas = document.createElement("canvas");
          const drawing = canvas.getContext("2d");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          drawing.drawImage(image, 0, 0);
          const {data} = drawing.getImageData(0, 0, canvas.width, canvas.height);
          let spread = 0;
          for (let at = 0; at < data.length; at += 4) {
            const rgb = data.slice(at, at + 3);
            spread = Math.max(spread, Math.max(...rgb) - Math.min(...rgb));
          }
          return [canvas.width, canvas.height, spread];
        }))""",
    )
    assert [spread[:2] for spread in spreads] == [[80, 60]] * 2
    assert spreads[0][2] <= 2 and spreads[1][2] > 20

    assert download(page, tmp_path / "out.png") == "мама.png"
    with Image.open(photos[0]) as before, Image.open(tmp_path / "out.png") as after:
        assert (after.format, after.mode, after.size) == ("PNG", "RGB", (80, 60))
        difference = np.asarray(before).astype(int) - np.asarray(after.convert("L"))
    assert abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("language", "words"), [("en-US", "is not a photo"), ("ru-RU", "не фотография")]
)
def test_a_text_file_gives_the_error_in_words(open_page, photos, language, words):
    page = open_page(language)
    drop(page, photos[2])
    page.wait_for_selector(f"#notice:has-text('{words}')")
    assert page.inner_text("#notice").startswith("letter.txt")
    assert not page.is_visible("#download")
    # A good one after it, and all is well.
    page.click("#photos button[aria-label]:has(svg) >> nth=-1")
    page.wait_for_selector("#notice", state="hidden")
    drop(page, photos[0])
    page.wait_for_selector("#download")


@pytest.mark.parametrize(
    ("language", "words"),
    [("en-US", "Too much at a time"), ("ru-RU", "Слишком много за раз")],
)
def test_too_much_at_a_time_is_refused_in_words(open_page, tmp_path, language, words):
    (tmp_path / "large.bmp").write_bytes(bytes(2**20))
    page = open_page(language)
    drop(page, str(tmp_path / "large.bmp"))
    page.wait_for_selector(f"text={words}")
    assert "{" not in page.inner_text("body")
    assert not page.is_visible(".toast-title")  # in English alone


def test_work_under_way_is_seen(open_page, photos, monkeypatch):
    go, predict_chroma = threading.Event(), Colorizer.predict_chroma

    def wait_and_predict(colorizer, lumas, hints=None):
        go.wait(30)
        return predict_chroma(colorizer, lumas, hints)

    monkeypatch.setattr(Colorizer, "predict_chroma", wait_and_predict)
    page = open_page("en-US")
    drop(page, *photos[:2])
    page.wait_for_selector("#notice:has-text('Colorizing: 0 of 2')")
    go.set()
    page.wait_for_selector("#notice:has-text('2 of 2 photos are done')")


def test_another_strength_keeps_the_choice_and_a_photo_can_be_removed(
    open_page, photos, tmp_path
):
    page = open_page("en-US")
    drop(page, *photos[:2])
    page.click("#choice label >> nth=1")
    page.wait_for_selector("#choice label.selected >> nth=0 >> text=b.jpg")
    first = page.get_attribute("#compare img.fixed", "src")
    page.focus("#strength input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_function(
        "(src) => document.querySelector('#compare img.fixed').src !== src", arg=first
    )
    page.wait_for_selector("#choice label.selected >> nth=0 >> text=b.jpg")
    assert not page.is_editable("#strength input[type=number]")

    page.wait_for_timeout(1000)  # a key may move the slider twice, a job each time
    page.click("#photos button[aria-label='Remove this file'] >> nth=0")
    page.wait_for_selector("#choice", state="hidden")
    assert download(page, tmp_path / "out.jpg") == "b.jpg"


def test_a_result_without_a_preview_can_be_downloaded(
    open_page, photos, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(page_module, "_preview", fail)
    page = open_page("en-US")
    drop(page, photos[0])
    assert download(page, tmp_path / "out.png") == "мама.png"
    assert not page.is_visible("#compare")


def test_russian_on_a_phone(open_page, photos, tmp_path):
    page = open_page("ru-RU", 390, 844)
    page.wait_for_selector("h1:has-text('Цвет для чёрно-белых фотографий')")
    drop(page, *photos)
    page.wait_for_selector("#download")
    page.wait_for_selector("#notice:has-text('Готово фотографий: 2 из 3')")
    assert page.inner_text("#download").strip() == "Скачать"
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    assert download(page, tmp_path / "out.zip") == "colorized.zip"

    first = page.get_attribute("#compare img.fixed", "src")
    page.click("#choice label >> nth=1")
    page.wait_for_function(
        "(src) => document.querySelector('#compare img.fixed').src !== src", arg=first
    )


def test_an_example_and_the_strength_from_the_keyboard(open_page, tmp_path):
    page = open_page("en-US")
    page.focus("#examples button >> nth=1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#download")
    page.wait_for_selector("#compare [data-testid=slider][tabindex]")
    page.focus("#compare [data-testid=slider]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        """() => {
          const style = document.querySelector("#compare img.fixed").style;
          return parseFloat(/([\\d.]+)%\\)/.exec(style.cssText)?.[1]) > 52;
        }"""
    )

    src = page.get_attribute("#compare img.fixed", "src")
    page.focus("#strength input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_function(
        "(src) => document.querySelector('#compare img.fixed').src !== src", arg=src
    )
    page.wait_for_timeout(500)
    assert download(page, tmp_path / "out.jpg") == "cat.jpg"
    with Image.open(tmp_path / "out.jpg") as image:
        gray = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(gray, axis=2).max() <= 2
