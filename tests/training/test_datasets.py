import shutil
import unicodedata

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from colorizer_tf.color import rgb_to_chroma, rgb_to_luma
from colorizer_tf.sources import split_photos
from colorizer_tf.training.augmentation import (
    KEEP_TONE,
    apply_tone,
    paste_rectangle,
    random_square,
    random_stretched_square,
    random_tone,
)
from colorizer_tf.training.datasets import make_dataset

SIDES = ("train", "validation", "test")


def sides(split):
    return {path.name: side for side in SIDES for path in getattr(split, side)}


def passes(dataset, count):
    """The color photos of each of the next passes over a dataset."""
    return [np.concatenate([color for _, color in dataset]) for _ in range(count)]


def equal(photos, others):
    return np.array_equal(photos, others)


@pytest.fixture
def photos(tmp_path, write_photos):
    return write_photos(tmp_path / "photos", 40)


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_text("no photo")
    return path


def split_in_thirds(photos, seed=0):
    return split_photos(
        photos, test_fraction=1 / 3, validation_fraction=1 / 3, seed=seed
    )


def test_each_photo_lies_on_one_side(photos):
    split = split_in_thirds(photos)

    assert sorted(split.train + split.validation + split.test) == photos
    assert all(len(getattr(split, side)) >= 5 for side in SIDES)


def test_the_fractions_are_those_of_the_sides(photos):
    assert split_photos(photos, test_fraction=1, validation_fraction=0).test == photos
    assert split_photos(photos, 0, validation_fraction=1).validation == photos
    assert split_photos(photos, 0, 0).train == photos


def test_a_photo_keeps_its_side_when_others_are_added(photos):
    few, all_photos = (
        sides(split_in_thirds(photos[::3])),
        sides(split_in_thirds(photos)),
    )

    assert few == {name: all_photos[name] for name in few}


def test_a_photo_keeps_its_side_when_the_order_changes(photos):
    assert sides(split_in_thirds(photos[::-1])) == sides(split_in_thirds(photos))


def test_a_photo_keeps_its_side_in_another_folder(photos, tmp_path):
    elsewhere = shutil.copytree(photos[0].parent, tmp_path / "elsewhere")

    moved = split_in_thirds(sorted(elsewhere.iterdir()))

    assert sides(moved) == sides(split_in_thirds(photos))


def test_a_photo_keeps_its_side_whatever_form_of_unicode_names_it(tmp_path, photos):
    names = [f"été {number}.png" for number in range(20)]
    forms = {}
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        paths = [tmp_path / form / unicodedata.normalize(form, name) for name in names]
        for path in paths:
            shutil.copy(photos[0], path)
        forms[form] = list(sides(split_in_thirds(paths)).values())

    assert forms["NFC"] == forms["NFD"]


def test_another_seed_gives_another_split(photos):
    assert sides(split_in_thirds(photos)) != sides(split_in_thirds(photos, seed=1))


def test_near_gray_photos_are_left_out_and_counted_aloud(photos, tmp_path, capsys):
    gray = tmp_path / "gray.png"
    Image.new("RGB", (20, 20), (120, 121, 120)).save(gray)

    split = split_photos([*photos, gray])

    assert split.near_gray == [gray]
    assert gray.name not in sides(split)
    assert "1 near-gray" in capsys.readouterr().out
    assert gray.name in sides(split_photos([*photos, gray], keep_near_gray=True))


def test_a_split_names_broken_photos_and_leaves_them_out(photos, broken):
    with pytest.warns(UserWarning, match=r"broken\.jpg"):
        split = split_photos([broken, *photos])

    assert split.unreadable == [broken]
    assert split.photos == sorted([broken, *photos])
    assert sorted(sides(split)) == [path.name for path in photos]


@pytest.mark.parametrize("training", [True, False])
def test_a_broken_photo_is_named_and_the_next_takes_its_place(photos, broken, training):
    with pytest.warns(UserWarning, match=r"broken\.jpg"):
        (color,) = passes(
            make_dataset([*photos[:2], broken], 16, batch_size=2, training=training), 1
        )

    assert len(color) == 3
    if not training:
        np.testing.assert_array_equal(color[2], color[0])


def test_photos_of_which_none_can_be_read_are_an_error(broken):
    with (
        pytest.warns(UserWarning, match=r"broken\.jpg"),
        pytest.raises(tf.errors.OpError, match="None of the photos can be read"),
    ):
        list(make_dataset([broken, broken], 16))


def test_a_dataset_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no photos"):
        make_dataset([])


@pytest.mark.parametrize("training", [True, False])
def test_pairs_are_gray_and_color_in_float32(photos, training):
    batches = list(make_dataset(photos[:5], 16, batch_size=2, training=training))

    assert [gray.shape for gray, _ in batches] == [(2, 16, 16, 1)] * 2 + [
        (1, 16, 16, 1)
    ]
    for gray, color in batches:
        assert color.shape == (*gray.shape[:3], 3)
        assert gray.dtype == color.dtype == "float32"
        assert color.numpy().min() >= 0
        assert 0.5 < color.numpy().max() <= 1


@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_number_are_known_before_the_first_batch(photos, training):
    dataset = make_dataset(photos, 16, batch_size=9, training=training)

    assert dataset.cardinality() == 5
    gray, color = dataset.element_spec
    assert gray.shape.as_list() == [None, 16, 16, 1]
    assert color.shape.as_list() == [None, 16, 16, 3]


def test_gray_is_the_bt601_luma_of_color(photos):
    for gray, color in make_dataset(photos, 16, training=True):
        for gray_photo, photo in zip(gray.numpy(), color.numpy(), strict=True):
            expected = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
            np.testing.assert_allclose(gray_photo[..., 0], expected, atol=1e-6)


def test_evaluation_takes_the_central_squares_in_order(tmp_path, make_photo):
    wide, tall = make_photo(16, 40, seed=1), make_photo(37, 16, seed=2)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(tall).save(tmp_path / "tall.png")
    paths = [tmp_path / "wide.png", tmp_path / "tall.png"]

    first, second = passes(make_dataset(paths, 16), 2)

    np.testing.assert_allclose(first[0] * 255, wide[:, 12:28], atol=1e-3)
    np.testing.assert_allclose(first[1] * 255, tall[10:26], atol=1e-3)
    assert equal(first, second)


def test_each_epoch_of_training_has_each_photo_once_in_an_order_of_its_own(tmp_path):
    colors = np.uint8([(level, 0, 200) for level in range(0, 240, 20)])
    paths = [tmp_path / f"{color[0]}.png" for color in colors]
    for color, path in zip(colors, paths, strict=True):
        Image.new("RGB", (20, 30), tuple(map(int, color))).save(path)

    def hue(colors):  # changes of tone keep it
        cb, cr = np.moveaxis(rgb_to_chroma(np.float64(colors)), -1, 0)
        return np.arctan2(cr, cb).round(3).tolist()

    orders = [
        hue(color[:, 0, 0])
        for color in passes(make_dataset(paths, 16, 5, training=True), 3)
    ]

    assert all(sorted(order) == sorted(hue(colors)) for order in orders)
    assert len({tuple(order) for order in [*orders, hue(colors)]}) == 4


def test_training_depends_on_the_seed_and_the_number_of_the_epoch(photos):
    def dataset(**kwargs):
        return make_dataset(photos[:8], 16, batch_size=3, training=True, **kwargs)

    first, second, third = passes(dataset(seed=5), 3)

    assert not equal(first, second)
    assert equal(first, passes(dataset(seed=5), 1)[0])
    assert equal(second, passes(dataset(seed=5, first_epoch=1), 1)[0])
    assert equal(third, passes(dataset(seed=5, first_epoch=1), 2)[1])
    assert not equal(first, passes(dataset(seed=6), 1)[0])


@pytest.mark.parametrize("training", [True, False])
def test_photos_smaller_than_the_pairs_are_enlarged(tmp_path, write_photos, training):
    paths = write_photos(tmp_path / "small", 3, height=5, width=7)

    (color,) = passes(make_dataset(paths, 32, training=training), 1)

    assert color.shape == (3, 32, 32, 3)
    assert color.std() > 0.05


def ramp(height, width):
    """A photo whose red is a pixel's column, and green its row."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = 4 * np.arange(width)
    photo[..., 1] = 4 * np.arange(height)[:, None]
    return photo


def test_random_squares_lie_anywhere_in_the_photo_and_are_mirrored_half_the_time():
    photo = ramp(20, 50)

    squares = np.int16(
        [random_square(photo, 16, np.random.default_rng(i)) for i in range(100)]
    )

    assert squares.shape == (100, 16, 16, 3)
    mirrored = squares[:, 0, 0, 0] > squares[:, 0, -1, 0]
    upside_down = squares[:, 0, 0, 1] > squares[:, -1, 0, 1]
    assert 30 < mirrored.sum() < 70
    assert not upside_down.any()
    assert squares[..., 0].min() == 0
    assert squares[..., 0].max() == 4 * 49
    assert squares[..., 1].min() == 0
    assert squares[..., 1].max() == 4 * 19


def test_random_squares_are_zoomed_without_a_change_of_aspect():
    photo = ramp(36, 60)

    squares = np.int16(
        [random_square(photo, 16, np.random.default_rng(i)) for i in range(100)]
    )

    widths = np.abs(squares[:, 0, -1, 0] - squares[:, 0, 0, 0])
    heights = squares[:, -1, 0, 1] - squares[:, 0, 0, 1]
    np.testing.assert_allclose(widths, heights, atol=8)
    # Between half and all of the shorter side, minus a pixel of the grid.
    assert 4 * 16 <= widths.min() <= 4 * 18
    assert 4 * 33 < widths.max() < 4 * 36


def test_random_squares_of_small_photos_stay_sharp():
    photo = ramp(20, 50)

    squares = np.int16(
        [random_square(photo, 20, np.random.default_rng(i)) for i in range(100)]
    )

    assert np.abs(squares[:, 0, -1, 0] - squares[:, 0, 0, 0]).min() >= 4 * 14


def test_stretched_squares_are_smaller_and_change_the_aspect():
    photo = ramp(60, 60)

    squares = np.float32(
        [
            random_stretched_square(photo, 16, np.random.default_rng(i))
            for i in range(200)
        ]
    )

    assert squares.shape == (200, 16, 16, 3)
    assert squares.max() > 4 * 57
    assert squares[..., :2].min() < 4 * 2
    widths = np.abs(squares[:, 0, -1, 0] - squares[:, 0, 0, 0])
    heights = squares[:, -1, 0, 1] - squares[:, 0, 0, 1]
    assert 4 * 18 < np.sqrt(widths * heights).min() < 4 * 26
    aspects = widths / heights
    assert 1.2 < aspects.max() < 1.4
    assert 1.2 < 1 / aspects.min() < 1.4


def test_a_rectangle_of_another_square_is_pasted_at_its_place():
    square, other = ramp(40, 40), 255 - ramp(40, 40)

    shares = []
    for i in range(100):
        pasted = paste_rectangle(square, other, np.random.default_rng(i))
        here = (pasted == other).all(axis=-1)
        assert np.array_equal(pasted[~here], square[~here])
        rows, columns = here.any(axis=1).sum(), here.any(axis=0).sum()
        assert here.sum() == rows * columns
        shares.append(here.mean())

    assert np.array_equal(square, ramp(40, 40))
    assert 0.08 < min(shares) < 0.15
    assert 0.4 < max(shares) < 0.52


def test_strong_training_pairs_are_repeatable_and_mix_two_photos(tmp_path):
    photos = []
    for name, level in ("dark", 60), ("light", 190):
        photos.append(tmp_path / f"{name}.png")
        Image.new("RGB", (48, 48), (level, level, level)).save(photos[-1])
    photos *= 10

    def load(seed=0, strong=True):
        pairs = make_dataset(photos, 32, 20, training=True, seed=seed, strong=strong)
        return next(iter(pairs))[1].numpy()

    def mixed(color):
        return sum(len(np.unique(photo.round(3))) > 1 for photo in color)

    assert equal(load(), load())
    assert not equal(load(), load(seed=1))
    assert mixed(load(strong=False)) == 0
    # Two of five, and half of these have a rectangle of their own kind.
    assert 0 < mixed(load()) < 12


def test_half_of_the_photos_keep_their_tone():
    tones = [random_tone(np.random.default_rng(i)) for i in range(200)]

    assert 80 < sum(np.array_equal(tone, KEEP_TONE) for tone in tones) < 120


def test_another_tone_changes_the_luma_and_keeps_the_chroma():
    color = np.random.default_rng(0).uniform(0.4, 0.6, (4, 8, 8, 3)).astype("float32")
    tone = np.float32([KEEP_TONE, [2, 0, 1], [1, 0.2, 1], [1, 0, 0.8]])

    toned = apply_tone(color, tone)

    luma, expected = rgb_to_luma(toned), rgb_to_luma(color)
    np.testing.assert_allclose(luma[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(luma[1], expected[1] ** 2, atol=1e-6)
    np.testing.assert_allclose(luma[2], 0.2 + 0.8 * expected[2], atol=1e-6)
    np.testing.assert_allclose(luma[3], 0.8 * expected[3], atol=1e-6)
    np.testing.assert_allclose(rgb_to_chroma(toned), rgb_to_chroma(color), atol=1e-6)


def test_no_tone_leaves_the_range_of_photos():
    color = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)

    toned = apply_tone(color, np.float32([[0.5, -0.1, 1.1], [2, 0.2, 1.1]])).numpy()

    assert toned.min() >= 0
    assert toned.max() <= 1
