"""Tests suggested colors, in the API and on the page."""

import json

import httpx
import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_suggesting_generator

import colorizer_tf as ct

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from browsing import FAR, Page, color_at, is_red, read
from running import RunningService


@pytest.fixture(scope="module")
def colorizer():
    return ct.Colorizer(build_suggesting_generator(), working_size=96)


@pytest.fixture(scope="module")
def running(colorizer):
    with RunningService(colorizer, photo_bytes=2**21) as running:
        yield running


@pytest.fixture(scope="module")
def address(running):  # the browser's engine suggests no colors
    return running.url


def ask(running, path, photo, **fields):
    return httpx.post(f"{running.url}/api/{path}", data=fields, files={"photo": photo})


def test_colors_for_a_place(running, colorizer, photos):
    gray = np.asarray(Image.open(photos[0]).convert("L"))
    photo = ("a.png", read(photos[0]))

    answer = ask(running, "suggest", photo, x="0.4", y="0.3")

    expected = colorizer.suggest(gray, 0.4, 0.3)
    assert answer.json() == {
        "colors": [
            {"color": color, "probability": pytest.approx(probability, abs=1e-3)}
            for color, probability in expected
        ]
    }
    assert len(expected) == 3  # the automatic one, red, and blue
    assert running.is_tidy()


def test_variants_as_hints(running, photos):
    photo = ("a.png", read(photos[0]))
    variants = ask(running, "variants", photo, count="3").json()["variants"]
    assert variants[0] == []
    assert len(variants) == 3
    assert len(variants[1]) == 1 < len(variants[2])  # a place, and a tone
    for hint in variants[1] + variants[2]:
        assert hint.keys() == {"x", "y", "color"}
    colored = running.post(photo, hints=json.dumps(variants[1]))
    assert colored.status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("suggest", {"x": "0.4"}, 422),
        ("suggest", {"x": "0.4", "y": "1.5"}, 422),
        ("suggest", {"x": "0.4", "y": "0.5", "count": "3"}, 422),
        ("suggest", {"x": "0.4", "y": "0.5", "hints": "[3]"}, 422),
        ("variants", {"count": "0"}, 422),
        ("variants", {"strength": "1"}, 422),
    ],
)
def test_what_is_wrong_is_said(running, photos, path, fields, status):
    answer = ask(running, path, ("a.png", read(photos[0])), **fields)
    assert answer.status_code == status
    assert answer.json()["reason"]


def test_two_photos_at_once_are_too_many(running, photos):
    files = [("photo", (name, read(photos[0]))) for name in ("a.png", "b.png")]
    answer = httpx.post(f"{running.url}/api/variants", files=files)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_many_photos"


def test_what_is_no_photo_is_named(running):
    answer = ask(running, "suggest", ("notes.txt", b"nothing"), x="0.4", y="0.5")
    assert answer.status_code == 400
    assert "notes.txt" in answer.json()["reason"]
    assert running.is_tidy()


def test_a_place_shows_its_colors_and_one_more_touch_sets_one(open_page, photos):
    page = open_page("en-US")
    used = Page(page, photos[0])
    assert not page.is_visible("#likely")
    used.set(0.25, 0.3, "#2e8d34")
    page.wait_for_selector("#likely button >> nth=2")
    page.click("#likely button >> nth=1")
    used.wait()
    assert is_red(color_at(used.picture(), (0.25, 0.3)))
    ((_, _, color),) = used.hints()
    assert color == page.get_attribute("#likely button >> nth=1", "data-colour")
    used.press("undo-button")
    used.press("undo-button")
    assert not page.is_visible("#likely")


def test_other_colors_are_shown_and_taken(open_page, photos):
    page = open_page("ru-RU")
    used = Page(page, photos[0])
    first = used.picture()
    page.click("#others-button")
    page.wait_for_selector("#variants button >> nth=2")
    page.click("#variants button >> nth=0")
    used.wait()
    assert len(used.hints()) == 1
    assert used.picture() != first
    used.press("undo-button")
    assert used.picture() == first
    assert abs(color_at(first, FAR) - color_at(used.picture(), FAR)).max() == 0
