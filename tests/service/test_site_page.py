"""Tests the static site in a real browser: no requests, and the same colors."""

import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

import colorizer_tf as ct
from colorizer_tf import site
from colorizer_tf.painting import paint
from colorizer_tf.photos import read_gray, write_jpeg_planes

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from browsing import GREEN, IDLE, READY, Page, color_at, is_green
from serving import RunningSite

SLOPE, OFFSET = (0.1, -0.15), (-0.08, 0.12)
# A fake of ONNX Runtime that gives all places the same color.
STAND_IN = """
export const env = {wasm: {}};
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, {data, dims}); }
}
export const InferenceSession = {create: async () => ({run: async ({luma}) => {
  const [h, w] = luma.dims.map((side) => Math.ceil(side / 2));
  const planes = PLANES.flatMap((value) => new Array(h * w).fill(value));
  return {fit: {data: new Float32Array(planes), dims: [4, h, w]}};
}})};
""".replace("PLANES", json.dumps([*SLOPE, *OFFSET]))


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory):
    """A site whose runtime gives all photos the same colors."""
    folder = tmp_path_factory.mktemp("plain") / "site"
    with pytest.MonkeyPatch.context() as patch:
        code = STAND_IN.encode()
        patch.setattr(site, "fetch_runtime", lambda: [code, b"wasm"])
        site.write_site(folder)
    return folder


@pytest.fixture(scope="module")
def box_site(runtime, tmp_path_factory):
    """The site as the command writes it."""
    folder = tmp_path_factory.mktemp("box") / "site"
    site.write_site(folder)
    return folder


def make_gray(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def paint_plain(gray):
    slope, offset = (np.full((1, 1, 2), x, np.float32) for x in (SLOPE, OFFSET))
    return np.int32(paint(gray, slope, offset))


def colorize(page, path):
    used = Page(page, path)
    name, content = used.download()
    return name, Image.open(io.BytesIO(content))


@pytest.mark.parametrize("ending", ["png", "webp", "jpeg", "bmp"])
def test_each_format_comes_back_in_color(plain_site, open_page_at, tmp_path, ending):
    gray = make_gray(211, 333)
    Image.fromarray(gray).save(tmp_path / f"a.b.{ending}", quality=95)
    gray = np.asarray(Image.open(tmp_path / f"a.b.{ending}").convert("L"))
    with RunningSite(plain_site) as running:
        page = open_page_at(running.url, "en-US")
        name, result = colorize(page, tmp_path / f"a.b.{ending}")
        page.context.close()
    assert name == f"a.b colour.{ending}"
    assert result.format == ending.upper()
    difference = abs(np.int32(result.convert("RGB")) - paint_plain(gray))
    if ending in ("png", "bmp"):
        assert difference.max() <= 1
        assert abs(np.int32(result.convert("L")) - gray).max() <= 1
    else:
        assert difference.mean() < 2


def test_a_jpeg_keeps_what_it_says_of_itself(plain_site, open_page_at, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "A. Grandfather"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1931:05:01 12:00"
    gray = make_gray(120, 200)
    path = tmp_path / "дед.jpg"
    Image.fromarray(gray).save(path, exif=exif, dpi=(600, 600), quality=95)
    with RunningSite(plain_site) as running:
        page = open_page_at(running.url, "en-US")
        name, result = colorize(page, path)
        page.context.close()
    assert name == "дед colour.jpg"
    assert result.size == (120, 200)  # upright
    assert result.info["dpi"] == (600, 600)
    kept = result.getexif()
    assert kept[ExifTags.Base.Orientation] == 1
    assert kept[ExifTags.Base.Artist] == "A. Grandfather"
    taken = kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
    assert taken == "1931:05:01 12:00"
    upright = np.rot90(np.int32(Image.open(path).convert("L")), -1)
    assert abs(np.int32(result.convert("L")) - upright).mean() < 2


def make_vivid(height, width):
    small = 255 * np.random.default_rng(0).integers(0, 2, (7, 9, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("subsampling", "orientation"),
    [("4:2:0", 1), ("4:2:0", 6), ("4:4:4", 1), ("4:4:4", 7)],
)
def test_the_luma_of_a_color_jpeg_is_the_files_own(
    plain_site, open_page_at, tmp_path, subsampling, orientation
):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.jpg"
    options = {"quality": 95, "subsampling": subsampling, "exif": exif}
    make_vivid(121, 203).save(path, **options)
    gray = read_gray(path)
    no_color = np.full([-(-side // 2) for side in gray.gray.shape], 128, np.uint8)
    write_jpeg_planes(tmp_path / "gray.jpg", gray.gray, no_color, no_color, gray)
    with RunningSite(plain_site) as running:
        page = open_page_at(running.url, "en-US")
        _, content = Page(page, path).download()
        page.context.close()
    (tmp_path / "result.jpg").write_bytes(content)
    result, wanted = (
        np.int32(read_gray(tmp_path / name).gray) for name in ("result.jpg", "gray.jpg")
    )
    assert abs(result - wanted).max() <= 1


def test_transparency_stays(plain_site, open_page_at, tmp_path):
    gray, alpha = make_gray(100, 150), make_gray(100, 150, seed=1) // 2 + 128
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([gray, alpha])).save(path)
    with RunningSite(plain_site) as running:
        page = open_page_at(running.url, "en-US")
        _, result = colorize(page, path)
        page.context.close()
    result = np.int32(result)
    assert (result[..., 3] == alpha).all()
    assert abs(result[..., :3] - paint_plain(gray)).mean() < 1.5


def test_what_a_browser_cannot_read_is_said_with_the_command(
    plain_site, open_page_at, tmp_path
):
    gray = make_gray(40, 50)
    Image.fromarray(gray).save(tmp_path / "a.tif")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "b.png")
    with RunningSite(plain_site) as running:
        page = open_page_at(running.url, "en-US")
        page.set_input_files("#files", [tmp_path / "a.tif", tmp_path / "b.png"])
        for number, name in enumerate(("a.tif", "b.png")):
            page.wait_for_selector(f".cell >> nth={number}")
            page.click(f".cell >> nth={number}")
            words = f'colorizer-tf colorize "{name}"'
            page.wait_for_selector(f"#state:has-text('{words}')")
        page.context.close()


def test_what_is_out_of_reach_is_asked_for_again(plain_site, open_page_at, photos):
    with RunningSite(plain_site, missing=(".wasm",)) as running:
        page = open_page_at(running.url, "en-US", errors_expected=True)
        page.set_input_files("#files", photos[0])
        page.wait_for_selector("#message:has-text('out of reach')")
        running.server.missing = ()
        page.wait_for_selector(READY)
        page.wait_for_selector("#message:has-text('Ready')")
        page.context.close()


def test_a_second_visit_asks_for_nothing(box_site, open_page_at, photos):
    running = RunningSite(box_site)
    with running:
        page = open_page_at(running.url, "en-US")
        assert page.evaluate("crossOriginIsolated")  # there are threads
        Page(page, photos[0])
        assert not page.is_visible("#others")  # which needs the service
        assert {line.split()[0] for line in running.asked} == {"GET"}
        running.asked.clear()
        page.reload()
        page.wait_for_selector("body.ready")
        used = Page(page, photos[1])
        used.wait()
        # The browser itself looks for a newer service worker.
        assert [line for line in running.asked if line != "GET /sw.js"] == []
    # Now the server is gone.
    page.reload()
    page.wait_for_selector("body.ready")
    used.set(0.25, 0.3, GREEN)
    assert is_green(color_at(used.picture(), (0.25, 0.3)))
    name, _ = used.download()
    assert name == "b colour.jpg"
    page.context.close()


def test_without_threads_it_works(box_site, open_page_at, photos):
    with RunningSite(box_site) as running:
        options = {"service_workers": "block", "errors_expected": True}
        page = open_page_at(running.url, "en-US", **options)
        assert not page.evaluate("crossOriginIsolated")
        Page(page, photos[0])
        page.wait_for_selector(READY)
        page.context.close()


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    # 256.5 rounds to the even number.
    [(256, 342, (192, 256)), (220, 300, (165, 225))],
)
def test_results_are_those_of_the_command(
    box_site, open_page_at, tmp_path, height, width, seen
):
    """Compares results with hints and at another strength."""
    colorizer = ct.Colorizer.pretrained()
    assert colorizer.working_shape(height, width) == seen
    hints = [ct.Hint(0.3, 0.4, GREEN), ct.Hint(0.8, 0.5, "#a03040")]
    Image.fromarray(make_gray(height, width)).save(tmp_path / "a.png")
    ct.write_hints(tmp_path / "a.hints.json", hints)
    with RunningSite(box_site) as running:
        page = open_page_at(running.url, "en-US")
        used = Page(page, tmp_path / "a.png")
        for strength, given in ((1, []), (1, hints), (0.4, hints)):
            if given and not used.dots.count():
                page.set_input_files("#hints", tmp_path / "a.hints.json")
                page.wait_for_selector(".dot >> nth=1")
            page.locator("#strength").fill(str(round(100 * strength)))
            page.wait_for_selector(IDLE)
            _, content = used.download()
            wanted = tmp_path / f"{strength}{len(given)}.png"
            colorizer.colorize_file(tmp_path / "a.png", wanted, strength, given)
            result, wanted = (
                np.int32(Image.open(each).convert("RGB"))
                for each in (io.BytesIO(content), wanted)
            )
            assert abs(result - wanted).mean() < 0.6
            assert abs(result - wanted).max() <= 6
        page.context.close()
