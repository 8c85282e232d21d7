"""The hint editor, in a real browser, and the address that it asks."""

import io
import json
import zipfile

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_obedient_generator

import colorizer_tf as ct

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from running import RunningService, decode

GREEN = "#2e8d34"
RED = "#c03030"
FAR = (0.9, 0.85)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def colorizer():
    return ct.Colorizer(build_obedient_generator(), working_size=96)


@pytest.fixture(scope="module")
def running(colorizer):
    with RunningService(colorizer) as running:
        yield running


@pytest.fixture(scope="module")
def address(running):
    return running.url


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / "мама.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        levels = np.random.default_rng(seed).integers(100, 160, (4, 5), np.uint8)
        photo = cv2.resize(levels, (400, 300), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(photo).save(path)
    return [*map(str, paths)]


class Editor:
    """The editor of a page, as a person uses it."""

    def __init__(self, page, *paths):
        self.page = page
        page.set_input_files("#photos input[type=file]", list(paths))
        page.wait_for_selector("#compare img.fixed")
        page.click("#hints summary")
        self.stage = page.locator("#hints .stage")
        self.dots = page.locator("#hints .dot")
        self.wait()

    def wait(self):
        self.page.wait_for_selector("#hints .stage[aria-busy=false]")

    def press(self, name):
        self.page.click(f"#hints .{name}")
        self.wait()

    def position(self, x, y):
        box = self.stage.bounding_box()
        return {"x": x * box["width"], "y": y * box["height"]}

    def set(self, x, y, color, tap=False):
        count = self.dots.count()
        self.page.fill("#hints .color", color)
        (self.stage.tap if tap else self.stage.click)(position=self.position(x, y))
        self.page.wait_for_selector(f"#hints .dot >> nth={count}")
        self.wait()

    def picture(self):
        """The bytes of the small result."""
        content = self.page.evaluate(
            """async () => {
              const {src} = document.querySelector("#hints .stage img");
              return [...new Uint8Array(await (await fetch(src)).arrayBuffer())];
            }"""
        )
        return bytes(content)

    def hints(self):
        """What the list of the hints says."""
        rows = self.page.locator("#hints .list li")
        return [
            tuple(
                row.locator(f"[name={name}]").input_value()
                for name in ("x", "y", "color")
            )
            for row in rows.all()
        ]

    def wait_for_results(self):
        """Until the full-size photos have been made with all that is set."""
        self.page.wait_for_function("!document.querySelector('#download').inert")

    def download(self):
        self.wait_for_results()
        with self.page.expect_download() as event:
            self.page.click("#download")
        return event.value.path().read_bytes()

    def save(self, path):
        with self.page.expect_download() as event:
            self.page.click("#hints .save")
        event.value.save_as(path)
        return event.value.suggested_filename


def color_at(content, place):
    photo = np.asarray(decode(content).convert("RGB")).astype(int)
    height, width = photo.shape[:2]
    return photo[int(place[1] * height), int(place[0] * width)]


def is_green(rgb):
    return rgb[1] > max(rgb[0], rgb[2]) + 40


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_click_sets_a_colour_and_undo_takes_it_back(open_page, photos, device):
    page = open_page("en-US", **device)
    editor = Editor(page, photos[0])
    first, place = editor.picture(), (0.25, 0.3)
    automatic = editor.download()
    assert not is_green(color_at(first, place))

    # The file at full size cannot be taken before it has the colour too.
    page.evaluate(
        """() => document.querySelector("#hints .stage").addEventListener(
          "click",
          () => { window.wasInert = document.querySelector("#download").inert; },
          {once: true},
        )"""
    )
    editor.set(*place, GREEN, tap="has_touch" in device)

    assert page.evaluate("window.wasInert")
    assert is_green(color_at(editor.picture(), place))
    assert abs(color_at(editor.picture(), FAR) - color_at(first, FAR)).max() <= 3
    assert not page.is_disabled("#hints .undo")
    result = editor.download()
    assert is_green(color_at(result, place))
    assert abs(color_at(result, FAR) - color_at(automatic, FAR)).max() <= 2
    ((x, y, color),) = editor.hints()
    assert (float(x), float(y)) == pytest.approx((25, 30), abs=0.5)
    assert color == GREEN
    assert page.evaluate("document.documentElement.scrollWidth") <= device["width"]

    editor.press("undo")
    assert editor.dots.count() == 0
    assert editor.picture() == first
    assert editor.download() == automatic
    editor.press("redo")
    assert editor.hints() == [(x, y, color)]
    assert editor.download() == result


def test_hints_that_were_saved_and_loaded_give_the_same_result(
    open_page, photos, tmp_path, colorizer
):
    editor = Editor(open_page("en-US"), photos[0])
    editor.set(0.25, 0.3, GREEN)
    editor.set(0.6, 0.7, RED)
    result = editor.download()
    file = tmp_path / "saved.json"
    assert editor.save(file) == "мама.hints.json"

    hints = ct.read_hints(file)
    assert [hint.color for hint in hints] == [GREEN, RED]
    colorizer.colorize_file(photos[0], tmp_path / "own.png", hints=hints)
    assert result == (tmp_path / "own.png").read_bytes()

    again = Editor(open_page("en-US"), photos[0])
    again.page.set_input_files("#hints .file", file)
    again.page.wait_for_selector("#hints .dot >> nth=1")
    again.wait()
    assert again.hints() == editor.hints()
    assert again.picture() == editor.picture()
    assert again.download() == result
    # It is a step like any other.
    again.press("undo")
    assert again.dots.count() == 0


def test_each_photo_has_its_own_hints(open_page, photos, tmp_path, colorizer):
    page = open_page("ru-RU", **PHONE)
    editor = Editor(page, *photos)
    editor.set(0.25, 0.3, GREEN)
    page.click("#choice label >> nth=1")
    page.wait_for_selector("#hints .dot", state="detached")
    editor.wait()
    editor.set(0.6, 0.7, RED)
    editor.set(0.3, 0.7, RED)
    page.click("#choice label >> nth=0")
    page.wait_for_selector("#hints .dot >> nth=1", state="detached")
    editor.wait()
    assert [color for *_, color in editor.hints()] == [GREEN]
    assert is_green(color_at(editor.picture(), (0.25, 0.3)))
    assert not page.is_disabled("#hints .undo")

    editor.wait_for_results()
    page.focus("#strength input[type=range]")
    page.keyboard.press("ArrowLeft")  # the hints stay
    page.wait_for_timeout(1000)
    archive = zipfile.ZipFile(io.BytesIO(editor.download()))
    assert archive.namelist() == ["мама.png", "b.png"]
    first, second = map(archive.read, archive.namelist())
    assert is_green(color_at(first, (0.25, 0.3)))
    assert not is_green(color_at(second, (0.25, 0.3)))
    red = color_at(second, (0.6, 0.7))
    assert red[0] > max(red[1:]) + 40


def test_who_looks_at_another_photo_is_not_called_back(open_page, photos):
    page = open_page("en-US")
    editor = Editor(page, *photos)
    editor.set(0.25, 0.3, GREEN)
    page.click("#choice label >> nth=1")
    page.wait_for_selector("#hints .dot", state="detached")
    editor.wait_for_results()
    page.wait_for_timeout(500)

    assert page.is_checked("#choice input >> nth=1")
    assert "b.png" in page.get_attribute("#compare img.fixed", "src")
    editor.set(0.6, 0.7, RED)
    assert [color for *_, color in editor.hints()] == [RED]


def test_undo_by_key_after_a_click(open_page, photos):
    page = open_page("en-US")
    editor = Editor(page, photos[0])
    editor.set(0.25, 0.3, GREEN)
    editor.set(0.6, 0.7, RED)
    for left in (1, 0):
        page.keyboard.press("Control+z")
        assert editor.dots.count() == left
    page.keyboard.press("Control+Shift+z")
    assert editor.dots.count() == 1


def test_dots_that_were_not_saved_are_not_lost_unasked(open_page, photos, tmp_path):
    page, asked = open_page("en-US"), []
    editor = Editor(page, photos[0])
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    editor.set(0.25, 0.3, GREEN)
    page.evaluate("location.reload()")
    page.wait_for_timeout(500)
    assert asked == ["beforeunload"]
    assert editor.dots.count() == 1

    editor.save(tmp_path / "saved.json")
    page.reload()
    assert editor.dots.count() == 0
    assert len(asked) == 1


def test_a_place_without_room_for_colour_is_named(open_page, tmp_path):
    levels = np.full((300, 400), 120, np.uint8)
    levels[:, 200:] = 255
    Image.fromarray(levels).save(tmp_path / "sky.png")
    editor = Editor(open_page("en-US"), tmp_path / "sky.png")
    editor.set(0.75, 0.5, GREEN)
    editor.page.wait_for_selector("#hints .status:has-text('too bright')")
    editor.set(0.25, 0.5, GREEN)
    editor.page.wait_for_selector("#hints .status:empty", state="attached")


def test_dots_are_moved_and_removed_by_hand_and_by_key(open_page, photos):
    page = open_page("en-US")
    editor = Editor(page, photos[0])
    editor.set(0.25, 0.3, GREEN)

    editor.dots.hover()
    page.mouse.down()
    box = editor.stage.bounding_box()
    for part in (0.5, 1):
        place = 0.25 + 0.5 * part, 0.3 + 0.2 * part
        page.mouse.move(
            box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]
        )
    page.mouse.up()
    editor.wait()
    ((x, y, _),) = editor.hints()
    assert (float(x), float(y)) == pytest.approx((75, 50), abs=0.5)
    assert is_green(color_at(editor.picture(), (0.75, 0.5)))
    assert not is_green(color_at(editor.picture(), (0.25, 0.3)))

    editor.dots.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    ((left, top, _),) = editor.hints()
    assert (float(x) - float(left), float(y) - float(top)) == pytest.approx((1, 1))
    for _ in range(3):  # each is a step, and the way by hand was one
        page.keyboard.press("Control+z")
    ((x, y, _),) = editor.hints()
    assert (float(x), float(y)) == pytest.approx((25, 30), abs=0.5)

    # The list does the same, and a dot can be set without a mouse at all.
    page.fill("#hints .list [name=x]", "60")
    page.keyboard.press("Tab")
    page.fill("#hints .list [name=color]", RED)
    page.focus("#hints .add")
    page.keyboard.press("Enter")
    editor.wait()
    hints = [(float(x), float(y), color) for x, y, color in editor.hints()]
    assert hints == [(60, pytest.approx(30, abs=0.5), RED), (50, 50, GREEN)]
    page.keyboard.press("Delete")  # of the new dot, which has the focus
    page.click("#hints .list button")
    editor.wait()
    assert editor.hints() == []
    editor.press("undo")
    assert len(editor.hints()) == 1
    editor.press("clear")
    assert editor.dots.count() == 0


def test_a_colour_is_taken_up_from_the_result(open_page, photos):
    page = open_page("en-US")
    editor = Editor(page, photos[0])
    editor.set(0.25, 0.3, GREEN)
    page.fill("#hints .color", RED)
    page.click("#hints .pick")
    editor.stage.click(position=editor.position(0.27, 0.33))

    taken = page.input_value("#hints .color")
    levels = np.array(list(bytes.fromhex(taken[1:])))
    assert abs(levels - color_at(editor.picture(), (0.27, 0.33))).max() <= 12
    assert is_green(levels)
    assert editor.dots.count() == 1
    editor.stage.click(position=editor.position(0.7, 0.7))
    editor.wait()
    assert editor.hints()[1][2] == taken


@pytest.mark.parametrize(
    ("language", "words"), [("en-US", "holds no dots"), ("ru-RU", "нет точек")]
)
@pytest.mark.parametrize("content", ["Dear Sir", '[{"x": 2, "y": 0, "color": "red"}]'])
def test_a_file_without_hints_is_named(
    open_page, photos, tmp_path, language, words, content
):
    page = open_page(language)
    editor = Editor(page, photos[0])
    editor.set(0.25, 0.3, GREEN)
    (tmp_path / "letter.json").write_text(content)
    page.set_input_files("#hints .file", tmp_path / "letter.json")
    page.wait_for_selector(f"#hints .status:has-text('{words}')")
    assert "letter.json" in page.inner_text("#hints .status")
    assert editor.dots.count() == 1


def test_the_entry_that_is_no_hint_is_named(open_page, photos, tmp_path):
    editor = Editor(open_page("en-US"), photos[0])
    entries = [{"x": 0.5, "y": 0.5, "color": color} for color in (GREEN, "red")]
    (tmp_path / "hints.json").write_text(json.dumps(entries))
    editor.page.set_input_files("#hints .file", tmp_path / "hints.json")
    editor.page.wait_for_selector("#hints .status:has-text('entry 2 is no dot')")
    assert editor.dots.count() == 0


def test_a_photo_that_has_been_deleted_is_missed_in_words(open_page, photos, running):
    page = open_page("en-US")
    editor = Editor(page, photos[0])
    for path in running.store.page_folder.rglob("*.before.jpg"):
        path.unlink()
    editor.set(0.25, 0.3, GREEN)
    page.wait_for_selector("#hints .status:has-text('has been deleted')")


def test_a_generator_that_takes_no_hints_has_no_editor(browser, generator, photos):
    plain = ct.Colorizer(generator, working_size=32)
    with RunningService(plain) as running:
        page = browser.new_page()
        page.goto(running.url)
        page.set_input_files("#photos input[type=file]", photos)
        page.wait_for_selector("#choice")
        page.wait_for_selector("#download")
        assert not page.is_visible("#hints")
        page.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"photo": "no/photo.before.jpg"}, 404),
        ({"photo": "../secret.before.jpg"}, 404),
        ({"photo": "/secret.before.jpg"}, 404),
        ({"photo": "a/b.png"}, 404),
        ({"photo": "a"}, 404),
        ({"photo": "a/\0.before.jpg"}, 404),
        ({"photo": f"a/{'b' * 5000}.before.jpg"}, 404),
        ({"hints": "[7]"}, 422),
        ({"strength": "3"}, 422),
        ({}, 200),
    ],
)
def test_the_address_of_the_editor(running, change, status):
    folder = running.store.page_folder / "a"
    folder.mkdir(exist_ok=True)
    for path in (folder / "b.png", folder / "b.png.before.jpg"):
        Image.new("L", (60, 40), 120).save(path)
    Image.new("L", (60, 40)).save(running.store.folder / "secret.before.jpg")
    fields = {"photo": "a/b.png.before.jpg", "strength": "1"}
    fields["hints"] = json.dumps([{"x": 0.5, "y": 0.5, "color": GREEN}])
    response = httpx.post(f"{running.url}/page/preview", data=fields | change)
    (running.store.folder / "secret.before.jpg").unlink()
    assert response.status_code == status
    if status == 200:
        assert is_green(color_at(response.content, (0.5, 0.5)))
    else:
        assert response.json()["reason"]
    assert running.is_tidy()
