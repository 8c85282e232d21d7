import json

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_obedient_generator, build_tiny_generator

import colorizer_tf as ct
from colorizer_tf.color import join_luma_chroma, rgb_to_chroma, rgb_to_luma
from colorizer_tf.hints import correct_chroma, encode_hints
from colorizer_tf.training.augmentation import random_mask, reveal_chroma

GREEN = ct.Hint(x=0.41, y=0.33, color="#2e5d34")


def test_a_color_is_named_or_given_in_levels():
    assert ct.Hint(0.5, 0.5, (46, 93, 52)).color == "#2e5d34"
    assert ct.Hint(0.5, 0.5, np.uint8([46, 93, 52])) == ct.Hint(0.5, 0.5, "#2E5D34")
    np.testing.assert_allclose(255 * GREEN.rgb, [46, 93, 52], atol=1e-4)


@pytest.mark.parametrize(
    "color",
    [
        *("green", "#12345", "2e5d34", "#2e5d3g", 3, None, (1, 2), (1, 2, 256)),
        *((0.1, 0, 1), (10**30, 1, 2), ([1], 2, 3)),
    ],
)
def test_what_is_no_color_is_refused_and_shown(color):
    with pytest.raises(ct.HintError, match="color must be") as error:
        ct.Hint(0.5, 0.5, color)
    assert repr(color) in str(error.value)


@pytest.mark.parametrize(
    "place", [-0.01, 1.01, float("nan"), None, "0.5", True, 10**400]
)
def test_a_place_outside_the_photo_is_refused(place):
    with pytest.raises(ct.HintError, match="y must be a fraction"):
        ct.Hint(0.5, place, "#000000")
    with pytest.raises(ct.HintError, match="x must be a fraction"):
        ct.Hint(place, 0.5, "#000000")


def test_hints_come_back_from_a_file_as_they_were(tmp_path):
    hints = [GREEN, ct.Hint(0, 1, "#ffffff")]
    path = tmp_path / "scan.hints.json"

    ct.write_hints(path, hints)

    assert ct.read_hints(path) == hints
    assert json.loads(path.read_text())[0] == {"x": 0.41, "y": 0.33, "color": "#2e5d34"}
    ct.write_hints(path, [])
    assert ct.read_hints(path) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "no JSON"),
        ("{}", "must be a list"),
        ("[7]", 'entry 1: it must have "x", "y" and "color"'),
        ('[{"x": 0.1, "y": 0.2}]', "entry 1"),
        ('[{"x": 0, "y": 0, "color": "#000000", "size": 3}]', "nothing else"),
        (
            '[{"x": 0, "y": 0, "color": "#000000"}, {"x": 2, "y": 0, "color": "red"}]',
            "entry 2: x must be",
        ),
        (json.dumps([{}] * 1001), "1,001 entries"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_entry(tmp_path, text, reason):
    path = tmp_path / "scan.hints.json"
    path.write_text(text)

    with pytest.raises(ct.HintError, match=r"scan\.hints\.json") as error:
        ct.read_hints(path)

    assert reason in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "scan.hints.json"
    if content:
        path.write_bytes(content)
    with pytest.raises(ct.HintError, match=r"scan\.hints\.json cannot be read"):
        ct.read_hints(path)


def test_a_hint_fills_the_cell_that_it_lies_in():
    # At its own luma, a color's chroma is its own.
    luma = np.full((30, 41), rgb_to_luma(GREEN.rgb), np.float32)

    cells = encode_hints([GREEN, ct.Hint(1, 1, "#808080")], luma)

    assert cells.shape == (8, 11, 3)
    row, column = int(0.33 * 30) // 4, int(0.41 * 41) // 4
    np.testing.assert_allclose(cells[row, column, 0], 1)
    np.testing.assert_allclose(
        cells[row, column, 1:], rgb_to_chroma(GREEN.rgb), atol=1e-3
    )
    np.testing.assert_allclose(cells[7, 10], [1, 0, 0], atol=1e-6)
    assert np.count_nonzero(cells[..., 0]) == 2


def test_a_color_gives_what_saturation_the_luma_has_no_room_for():
    luma = np.full((8, 8), 0.9, np.float32)
    blue = ct.Hint(0, 0, "#0000ff")

    _, cb, cr = encode_hints([blue], luma)[0, 0]

    full = np.asarray(rgb_to_chroma(blue.rgb))
    assert 0 < cb < 0.2 * full[0]
    assert cr / cb == pytest.approx(full[1] / full[0], rel=1e-3)


@pytest.mark.parametrize("luma", [0.15, 0.3, 0.5, 0.7])
def test_a_color_looks_as_vivid_in_the_shade_as_in_the_light(luma):
    hint = ct.Hint(0, 0, "#8a6f5a")

    chroma = encode_hints([hint], np.full((8, 8), luma, np.float32))[0, 0, 1:]

    rgb = join_luma_chroma(np.float32([luma]), chroma)
    lab = cv2.cvtColor(np.stack([rgb, hint.rgb])[None], cv2.COLOR_RGB2LAB)[0]
    perceived, own = np.hypot(lab[:, 1], lab[:, 2])
    assert perceived == pytest.approx(own, abs=0.5)


def test_the_last_of_several_hints_in_a_cell_counts():
    luma = np.full((8, 8), 0.5, np.float32)
    red, green = ct.Hint(0.1, 0.1, "#a04040"), ct.Hint(0.2, 0.2, "#40a040")

    both = encode_hints([red, green], luma)

    np.testing.assert_array_equal(both, encode_hints([green], luma))


def test_three_photos_in_five_have_hints_in_training_most_of_them_few():
    rng = np.random.default_rng(0)
    counts = np.array([random_mask(32, rng).sum() for _ in range(500)])

    assert 0.35 < np.mean(counts == 0) < 0.45
    assert counts.max() <= 100
    assert np.median(counts[counts > 0]) < 20
    assert random_mask(2, np.random.default_rng(0)).shape == (2, 2, 1)


def test_training_hints_are_the_real_chroma_of_their_cells():
    color = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    mask = np.zeros((2, 4, 4, 1), np.float32)
    mask[1, 2, 3] = 1

    hints = reveal_chroma(color, mask).numpy()

    assert not hints[0].any()
    expected = np.asarray(rgb_to_chroma(color[1, 8:12, 12:16])).mean(axis=(0, 1))
    np.testing.assert_allclose(hints[1, 2, 3], [1, *expected], atol=1e-6)
    assert np.count_nonzero(hints[1, ..., 0]) == 1


@pytest.fixture
def colorizer(build_vivid_generator):
    return ct.Colorizer(build_vivid_generator(hints=True), working_size=32)


def test_hints_change_the_colors_and_not_the_luma(colorizer, make_photo):
    photo = make_photo(60, 90)
    automatic = colorizer.colorize(photo)

    rgb = colorizer.colorize(photo, hints=[ct.Hint(0.25, 0.5, "#c03030")])

    assert np.abs(rgb[30, 22].astype(int) - automatic[30, 22]).max() > 10
    difference = rgb_to_luma(np.float32(rgb)) - rgb_to_luma(np.float32(automatic))
    assert np.abs(difference).max() < 2


def chroma_at(rgb, x, y):
    height, width = rgb.shape[:2]
    place = rgb[int(y * height) - 2 :, int(x * width) - 2 :][:4, :4]
    return np.asarray(rgb_to_chroma(np.float32(place) / 255)).mean(axis=(0, 1))


def test_what_a_hint_reaches_does_not_depend_on_the_strength():
    colorizer = ct.Colorizer(build_obedient_generator(), working_size=96)
    levels = np.random.default_rng(0).integers(100, 160, (4, 5), np.uint8)
    photo = cv2.resize(levels, (400, 300), interpolation=cv2.INTER_CUBIC)
    hint = ct.Hint(0.25, 0.3, "#2e5d94")

    def blue(strength):
        rgb = colorizer.colorize(photo, strength, [hint]).astype(int)
        return (rgb[..., 2] > rgb[..., :2].max(axis=-1) + 20).mean()

    assert 0.005 < blue(1) < 0.8
    for strength in (0, 0.5, 2):
        assert blue(strength) == pytest.approx(blue(1), rel=0.1)


def test_at_strength_0_hints_alone_color_the_photo(colorizer):
    photo = np.full((64, 128), 120, np.uint8)
    photo[:, 60:] = 200

    rgb = colorizer.colorize(photo, 0, [ct.Hint(18 / 64, 18 / 32, "#609068")])

    color = np.ptp(rgb.astype(int), axis=-1)
    assert color[36, 36] > 20
    assert color[:, 100:].max() < 10
    assert np.ptp(colorizer.colorize(photo, 0).astype(int), axis=-1).max() == 0


@pytest.mark.parametrize("strength", [1, 0.5, 0.01, 0, 2])
def test_a_hint_has_its_color_whatever_the_strength(colorizer, strength):
    photo = np.full((64, 128), 120, np.uint8)
    photo[:, 60:] = 200
    hint = ct.Hint(18 / 64, 18 / 32, "#609068")  # in the middle of a cell

    rgb = colorizer.colorize(photo, strength, [hint])

    expected = np.asarray(rgb_to_chroma(hint.rgb))
    np.testing.assert_allclose(chroma_at(rgb, hint.x, hint.y), expected, atol=0.02)
    # A distant thing of another luma keeps the network's color.
    automatic = colorizer.colorize(photo, strength)
    np.testing.assert_allclose(
        chroma_at(rgb, 0.95, 0.5), chroma_at(automatic, 0.95, 0.5), atol=0.02
    )


def test_a_correction_stops_at_an_edge_of_the_luma():
    luma = np.full((64, 64), 0.3, np.float32)
    luma[:, 40:] = 0.8
    cells = encode_hints([ct.Hint(0.5, 0.5, "#50a060")], luma)

    chroma, near = correct_chroma(np.zeros((64, 64, 2), np.float32), cells, luma)

    assert near[32, 32] == pytest.approx(1, abs=0.02)
    assert near[32, 46] < 0.1
    strength = np.linalg.norm(chroma, axis=-1)
    assert strength[32, 32] == pytest.approx(strength.max(), rel=0.02)
    assert strength[32, 34] > 0.9 * strength[32, 32]
    assert strength[32, 46] < 0.1 * strength[32, 32]
    assert 0.3 * strength[32, 32] < strength[32, 12] < 0.9 * strength[32, 32]


def test_no_hints_give_the_same_bytes(colorizer, make_photo):
    photo = make_photo(60, 90)

    np.testing.assert_array_equal(
        colorizer.colorize(photo, hints=[]), colorizer.colorize(photo)
    )


def test_photos_of_a_batch_have_their_own_hints(colorizer, make_photo):
    lumas = [colorizer.shrink(make_photo(64, 64, seed)[..., 0]) for seed in range(3)]
    hints = [None, encode_hints([GREEN], lumas[1]), None]

    together = colorizer.predict_chroma(lumas, hints)

    for luma, own, chroma in zip(lumas, hints, together, strict=True):
        (alone,) = colorizer.predict_chroma([luma], [own])
        np.testing.assert_allclose(chroma, alone, atol=1e-5)


def test_a_file_is_colorized_with_hints(colorizer, make_photo, tmp_path):
    gray = make_photo(60, 90)[..., 0]
    Image.fromarray(gray).save(tmp_path / "in.png")

    result = colorizer.colorize_file(
        tmp_path / "in.png", tmp_path / "out.png", hints=[GREEN]
    )

    np.testing.assert_array_equal(
        ct.read_photo(result), colorizer.colorize(gray, hints=[GREEN])
    )


def test_a_generator_without_hints_says_so(make_photo):
    colorizer = ct.Colorizer(build_tiny_generator(), working_size=32)
    photo = make_photo(60, 90)

    with pytest.raises(ValueError, match="takes no hints"):
        colorizer.colorize(photo, hints=[GREEN])
    assert colorizer.colorize(photo, hints=[]).shape == photo.shape


def test_points_of_the_real_colors_bring_the_photo_nearer(
    colorizer, write_photos, tmp_path
):
    photos = write_photos(tmp_path / "photos", 3, height=64, width=96)

    curve = ct.measure_hints(colorizer, photos, counts=(0, 5, 100))

    assert list(curve) == [0, 5, 100]
    assert curve[0] + 1 < curve[5] < curve[100] - 1
    expected = [
        np.square(np.float64(photo) - colorizer.colorize(ct.to_gray(photo))).mean()
        for photo in map(ct.read_photo, photos)
    ]
    assert curve[0] == pytest.approx(-10 * np.log10(np.mean(expected) / 255**2))


def test_sampled_hints_have_the_colors_of_their_places(make_photo):
    photo = make_photo(64, 96)

    hints = ct.sample_hints(photo, 50)

    assert len({(hint.x, hint.y) for hint in hints}) == 50
    for hint in hints:
        color = photo[int(hint.y * 64), int(hint.x * 96)]
        np.testing.assert_allclose(255 * hint.rgb, color, atol=8)
    assert ct.sample_hints(photo, 5) == hints[:5]


@pytest.fixture
def scans(tmp_path, make_photo):
    """Two gray photos in a folder, the first of which has hints."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(make_photo(60, 90)[..., 0]).save(folder / f"{name}.png")
    ct.write_hints(folder / "a.hints.json", [GREEN])
    return folder


def status(report):
    return {outcome.photo.name: outcome.status for outcome in report}


def test_a_folder_takes_the_hints_beside_its_photos(colorizer, scans, tmp_path):
    gray = ct.read_photo(scans / "a.png")[..., 0]

    report = colorizer.colorize_folder(scans, tmp_path / "out")

    assert status(report) == {"a.png": "done", "b.png": "done"}
    hinted, automatic = (
        ct.read_photo(tmp_path / f"out/{name}.png") for name in ("a", "b")
    )
    expected = colorizer.colorize(gray, hints=[GREEN])
    assert np.abs(hinted.astype(int) - expected).max() <= 1
    assert np.abs(hinted.astype(int) - automatic).max() > 10


def test_changed_hints_mean_a_new_result(colorizer, scans, tmp_path):
    colorizer.colorize_folder(scans, tmp_path / "out")
    again = colorizer.colorize_folder(scans, tmp_path / "out")
    assert status(again) == {"a.png": "skipped", "b.png": "skipped"}
    first = (tmp_path / "out/a.png").read_bytes()

    ct.write_hints(scans / "a.hints.json", [ct.Hint(0.5, 0.5, "#c03030"), GREEN])

    changed = colorizer.colorize_folder(scans, tmp_path / "out")
    assert status(changed) == {"a.png": "done", "b.png": "skipped"}
    assert (tmp_path / "out/a.png").read_bytes() != first
    (scans / "a.hints.json").unlink()
    removed = colorizer.colorize_folder(scans, tmp_path / "out")
    assert status(removed) == {"a.png": "done", "b.png": "skipped"}
    assert (tmp_path / "out/a.png").read_bytes() == (
        tmp_path / "out/b.png"
    ).read_bytes()


def test_broken_hints_are_named_and_stop_no_other_photo(colorizer, scans, tmp_path):
    (scans / "a.hints.json").write_text('[{"x": 3, "y": 0, "color": "#000000"}]')

    report = colorizer.colorize_folder(scans, tmp_path / "out")

    assert status(report) == {"a.png": "failed", "b.png": "done"}
    (failed,) = report.with_status("failed")
    assert f"{scans / 'a.hints.json'}, entry 1: x must be" in failed.reason
    assert not (tmp_path / "out/a.png").exists()


def test_hints_of_two_photos_of_one_stem_need_the_whole_name(
    colorizer, scans, tmp_path
):
    Image.open(scans / "a.png").save(scans / "a.jpg")

    unclear = colorizer.colorize_folder(scans, tmp_path / "out")

    assert status(unclear) == {"a.jpg": "failed", "a.png": "failed", "b.png": "done"}
    assert "a.hints.json may belong to" in str(unclear)
    (scans / "a.hints.json").rename(scans / "a.png.hints.json")
    clear = colorizer.colorize_folder(scans, tmp_path / "out")
    assert status(clear) == {"a.jpg": "done", "a.png": "done", "b.png": "skipped"}
    assert (tmp_path / "out/a.png").read_bytes() != (
        tmp_path / "out/b.png"
    ).read_bytes()
