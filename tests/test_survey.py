import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from colorizer_tf.survey import find_duplicates, survey_photo, survey_photos


@pytest.fixture
def photo(make_photo):
    return make_photo(90, 120)


def apart(one, other):
    """Returns the RMS difference of two photos' thumbnails, in levels of 255."""
    one, other = (np.float64(survey_photo(path).thumbnail) for path in (one, other))
    return np.sqrt(np.square(one - other).mean())


def test_facts_of_a_photo(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")

    facts = survey_photo(str(tmp_path / "a.png"))

    lab = rgb2lab(photo)
    assert facts.path == tmp_path / "a.png"
    assert facts.error is None
    assert facts.size == (90, 120)
    assert facts.format == "PNG"
    assert facts.luma == pytest.approx(
        np.asarray(Image.fromarray(photo).convert("L")).mean(), abs=0.5
    )
    assert facts.chroma == pytest.approx(
        np.hypot(lab[..., 1], lab[..., 2]).mean(), rel=0.01
    )


def test_size_is_that_of_the_upright_photo(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif)

    assert survey_photo(tmp_path / "a.jpg").size == (120, 90)


@pytest.mark.parametrize(("tint", "near_gray"), [(8, True), (12, False)])
def test_near_gray_is_a_mean_chroma_below_four(tmp_path, tint, near_gray):
    photo = np.full((20, 20, 3), 120, np.uint8)
    photo[..., 0] += np.uint8(tint)
    Image.fromarray(photo).save(tmp_path / "a.png")
    lab = rgb2lab(photo)
    assert (np.hypot(lab[..., 1], lab[..., 2]).mean() < 4) == near_gray

    assert survey_photo(tmp_path / "a.png").near_gray == near_gray


def test_near_duplicates_have_one_thumbnail_and_others_do_not(
    tmp_path, photo, make_photo
):
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(photo).resize((80, 60)).save(tmp_path / "copy.jpg")
    Image.fromarray(make_photo(90, 120, seed=1)).save(tmp_path / "other.png")

    assert survey_photo(tmp_path / "a.png").thumbnail.shape == (16, 16, 3)
    assert apart(tmp_path / "a.png", tmp_path / "copy.jpg") < 8
    assert apart(tmp_path / "a.png", tmp_path / "other.png") > 16


def test_duplicates_are_found_in_pairs(tmp_path, photo, make_photo):
    names = ["a.png", "broken.png", "other.png", "copy.jpg", "copy.webp"]
    for name in names:
        image = make_photo(90, 120, seed=1) if name == "other.png" else photo
        Image.fromarray(image).save(tmp_path / name, quality=90)
    (tmp_path / "broken.png").write_text("no photo")

    pairs = find_duplicates(survey_photos(tmp_path / name for name in names))

    assert [(one.name, other.name) for one, other in pairs] == [
        ("a.png", "copy.jpg"),
        ("a.png", "copy.webp"),
        ("copy.jpg", "copy.webp"),
    ]


def test_duplicates_differ_by_at_most_the_distance(tmp_path, photo, make_photo):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.fromarray(photo).save(paths[0])
    Image.fromarray(make_photo(90, 120, seed=1)).save(paths[1])
    facts = survey_photos(paths)

    assert find_duplicates(facts, distance=1.01 * apart(*paths)) == [tuple(paths)]
    assert find_duplicates(facts, distance=0.99 * apart(*paths)) == []
    assert find_duplicates([]) == []


def test_photos_keep_their_order_and_broken_ones_say_why(tmp_path, write_photos):
    paths = write_photos(tmp_path, 3)
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    order = [paths[2], broken, paths[0], paths[1]]

    facts = survey_photos(iter(order))

    assert [fact.path for fact in facts] == order
    assert [fact.error is None for fact in facts] == [True, False, True, True]
    assert str(broken) in facts[1].error


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (600, 800)])
def test_photos_of_any_shape(tmp_path, make_photo, size):
    Image.fromarray(make_photo(*size)).save(tmp_path / "a.png")

    facts = survey_photo(tmp_path / "a.png")

    assert facts.size == size
    assert facts.chroma > 0
