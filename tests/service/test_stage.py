"""Tests the stage of the page in a real browser."""

import json

import numpy as np
import pytest
from PIL import Image

import colorizer_tf as ct

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from browsing import (
    DESKTOP,
    FAR,
    GREEN,
    PHONE,
    RED,
    Page,
    assert_same,
    color_at,
    is_green,
    read,
    saved,
)
from running import decode


@pytest.fixture(scope="module")
def colorizer(obedient_colorizer):
    return obedient_colorizer


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_color_is_set_undone_and_downloaded(
    open_page, running, photos, tmp_path, device, engine
):
    page = open_page("en-US", **device)
    used = Page(page, photos[0], touch="has_touch" in device)
    first, place = used.picture(), (0.25, 0.3)
    gray = np.asarray(decode(used.picture("gray")).convert("RGB")).astype(int)
    assert np.ptp(gray, axis=2).max() <= 2
    assert page.is_visible("#handle")  # the divider, gray beside color

    used.set(*place, GREEN)
    assert is_green(color_at(used.picture(), place))
    assert abs(color_at(used.picture(), FAR) - color_at(first, FAR)).max() <= 3
    # A click in the gray half ends the comparison, to show the color.
    assert not page.is_visible("#handle")
    ((x, y, color),) = used.hints()
    assert (float(x), float(y)) == pytest.approx((25, 30), abs=0.5)

    name, result = used.download()
    assert name == "мама colour.png"
    hint = {"x": float(x) / 100, "y": float(y) / 100, "color": color}
    stored = page.evaluate("localStorage.length + document.cookie.length")
    assert stored == 0
    own = {"strength": "1", "hints": json.dumps([saved(used, hint)])}
    wanted = running.post(("мама.png", read(photos[0])), **own).content
    assert_same(result, wanted, engine)
    assert decode(result).size == (400, 300)

    used.press("undo-button")
    assert used.dots.count() == 0
    assert used.picture() == first
    page.keyboard.press("Control+Shift+z")
    used.wait()
    assert used.hints() == [(x, y, color)]
    assert used.download()[1] == result
    assert page.evaluate("document.documentElement.scrollWidth") <= device["width"]
    assert running.is_tidy()


def test_a_download_has_what_was_set_a_moment_ago(open_page, running, photos, engine):
    page = open_page("en-US", **PHONE)
    used = Page(page, photos[0], touch=True)
    page.fill("#colour-input", GREEN)
    used.tap(0.25, 0.3)
    _, result = used.download()  # the message does not cover the button
    hint = saved(used, {"x": 0.25, "y": 0.3, "color": GREEN})
    own = {"strength": "1", "hints": json.dumps([hint])}
    wanted = running.post(("мама.png", read(photos[0])), **own).content
    assert_same(result, wanted, engine)


def test_a_photo_goes_out_once_and_then_its_preview(
    open_page_at, running, photos, monkeypatch
):
    sent, submit = [], running.store.submit

    def note(uploads, *args, **options):
        ((_, name),) = uploads
        sent.append(name)
        return submit(uploads, *args, **options)

    monkeypatch.setattr(running.store, "submit", note)
    used = Page(open_page_at(running.url, "en-US"), photos[2])
    used.set(0.25, 0.3, GREEN)
    assert sent == ["scan.tif", "preview.jpg", "preview.jpg"]


def test_a_tap_on_the_divider_is_one_on_the_photo(open_page, photos):
    page = open_page("en-US")
    used = Page(page, photos[0])
    used.set(0.5, 0.2, GREEN)
    assert is_green(color_at(used.picture(), (0.5, 0.2)))
    assert page.get_attribute("#handle", "aria-valuenow") == "50"


def test_two_fingers_zoom_and_set_nothing(open_page, photos):
    page = open_page("en-US", **PHONE)
    used = Page(page, photos[0], touch=True)
    hand = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [dict(zip("xy", used.point(*place), strict=True)) for place in places]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.4, 0.3), (0.6, 0.3))
    touch("touchMove", (0.3, 0.3), (0.7, 0.3))
    touch("touchEnd")
    assert page.locator("#picture").bounding_box()["width"] > 1.3 * PHONE["width"]
    assert used.dots.count() == 0
    assert page.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]


def test_it_is_seen_larger_and_the_divider_is_moved(open_page, photos):
    page = open_page("en-US")
    used = Page(page, photos[0])
    page.focus("#handle")
    for key in ("ArrowRight", "ArrowRight", "End", "Home", "ArrowRight"):
        page.keyboard.press(key)
    assert page.get_attribute("#handle", "aria-valuenow") == "5"
    page.mouse.move(*used.point(0.05, 0.5))
    box = page.locator("#handle").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(640, 400)
    page.mouse.up()
    assert 60 < int(page.get_attribute("#handle", "aria-valuenow")) < 70

    before = used.point(0.3, 0.3)
    page.mouse.move(*before)
    page.mouse.wheel(0, -500)
    assert page.inner_text("#fit-button") != "100%"
    assert page.evaluate("scrollY") == 0
    assert used.point(0.3, 0.3) == pytest.approx(before, abs=2)
    page.mouse.down()  # this moves the view, and sets no dot
    page.mouse.move(before[0] - 50, before[1] - 30)
    page.mouse.up()
    assert used.point(0.3, 0.3) == pytest.approx(
        (before[0] - 50, before[1] - 30), abs=2
    )
    assert used.dots.count() == 0
    page.click("#fit-button")
    page.mouse.dblclick(*used.point(0.3, 0.3))
    page.wait_for_selector("#fit-button:has-text('300%')")
    used.wait()
    assert used.dots.count() == 0
    assert page.get_attribute("#undo-button", "aria-disabled") == "true"
    page.click("#full-button")
    page.wait_for_function("document.fullscreenElement")


def test_dots_are_moved_chosen_and_removed_by_hand_and_by_key(open_page, photos):
    page = open_page("en-US")
    used = Page(page, photos[0])
    used.set(0.25, 0.3, GREEN)
    page.wait_for_timeout(400)  # sooner it would be a double click
    page.mouse.move(*used.point(0.25, 0.3))
    page.mouse.down()
    page.mouse.move(*used.point(0.5, 0.4))
    page.mouse.move(*used.point(0.75, 0.5))
    page.mouse.up()
    used.wait()
    ((x, y, _),) = used.hints()
    assert (float(x), float(y)) == pytest.approx((75, 50), abs=0.5)
    assert is_green(color_at(used.picture(), (0.75, 0.5)))
    assert not is_green(color_at(used.picture(), (0.25, 0.3)))

    used.dots.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    ((left, top, _),) = used.hints()
    assert (float(x) - float(left), float(y) - float(top)) == pytest.approx((1, 1))
    for _ in range(3):  # each nudge is a step, and the drag was one
        page.keyboard.press("Control+z")
    ((x, y, _),) = used.hints()
    assert (float(x), float(y)) == pytest.approx((25, 30), abs=0.5)

    # A click on a dot chooses it, and its color.
    page.fill("#colour-input", RED)
    used.dots.click()
    assert page.get_attribute(".dot", "aria-pressed") == "true"
    assert page.input_value("#colour-input") == GREEN
    # The list does the same, and sets a dot without a mouse.
    page.click("#dot-list summary")
    page.fill("#dot-list [name=x]", "60")
    page.keyboard.press("Tab")
    page.fill("#dot-list [name=color]", RED)
    page.focus("#add-dot")
    page.keyboard.press("Enter")
    used.wait()
    hints = [(float(x), float(y), color) for x, y, color in used.hints()]
    assert hints == [(60, pytest.approx(30, abs=0.5), RED), (50, 50, GREEN)]
    page.keyboard.press("Delete")  # the new dot has the focus
    page.click("#dot-list li button")
    used.wait()
    assert used.hints() == []


def test_a_color_is_taken_up_from_the_photo(open_page, photos):
    page = open_page("en-US")
    used = Page(page, photos[0])
    used.set(0.25, 0.3, GREEN)
    page.fill("#colour-input", RED)
    page.click("#pick-button")
    used.tap(0.27, 0.36)
    taken = page.input_value("#colour-input")
    levels = np.array(list(bytes.fromhex(taken[1:])))
    assert abs(levels - color_at(used.picture(), (0.27, 0.36))).max() <= 12
    assert used.dots.count() == 1


def test_the_strength_is_the_photos_own_or_for_all(open_page, photos):
    page = open_page("en-US")
    used = Page(page, *photos[:2])
    page.focus("#strength")
    page.keyboard.press("Home")
    used.wait()
    gray = np.asarray(decode(used.picture()).convert("RGB")).astype(int)
    assert np.ptp(gray, axis=2).max() <= 2
    used.set(0.25, 0.3, GREEN)  # it is the only hint, and colors the photo
    assert is_green(color_at(used.picture(), (0.25, 0.3)))
    assert np.ptp(color_at(used.picture(), FAR)) <= 2
    page.focus("#undo-button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    used.wait()
    # The focus stays on the button, though there is nothing more to undo.
    assert page.get_attribute("#undo-button", "aria-disabled") == "true"
    assert page.evaluate("document.activeElement.id") == "undo-button"
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+z")
    used.wait()
    assert page.input_value("#strength") == "100"
    page.focus("#strength")
    page.keyboard.press("ArrowLeft")
    page.click("#strength-all")
    used.choose(1)
    assert page.input_value("#strength") == "95"


def test_dots_come_from_files_and_what_is_none_is_named(
    open_page, photos, tmp_path, colorizer, engine
):
    page = open_page("ru-RU")
    used = Page(page, *photos[:2])
    used.choose(1)
    (tmp_path / "letter.json").write_text("Dear Sir")
    page.set_input_files("#hints", tmp_path / "letter.json")
    page.wait_for_selector("#message:has-text('нет точек')")
    entries = [{"x": 0.5, "y": 0.5, "color": color} for color in (GREEN, "red")]
    (tmp_path / "other.json").write_text(json.dumps(entries))
    page.set_input_files("#hints", tmp_path / "other.json")
    page.wait_for_selector("#message:has-text('запись 2')")
    # By its name, the file belongs to the other photo.
    hints = [ct.Hint(0.25, 0.3, GREEN)]
    ct.write_hints(tmp_path / "мама.hints.json", hints)
    page.set_input_files("#hints", tmp_path / "мама.hints.json")
    page.wait_for_selector("#message:has-text('Загружено точек: 1')")
    assert used.dots.count() == 0
    used.choose(0)
    assert used.dots.count() == 1
    colorizer.colorize_file(photos[0], tmp_path / "own.png", hints=hints)
    assert_same(used.download()[1], read(tmp_path / "own.png"), engine)


def test_a_place_without_room_for_color_is_named(open_page, tmp_path):
    levels = np.full((300, 400), 120, np.uint8)
    levels[:, 200:] = 255
    Image.fromarray(levels).save(tmp_path / "sky.png")
    used = Page(open_page("en-US"), tmp_path / "sky.png")
    used.set(0.75, 0.5, GREEN)
    used.page.wait_for_selector("#message:has-text('too bright')")
