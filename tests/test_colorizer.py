import cv2
import numpy as np
import pytest

from colorizer_tf.color import join_luma_chroma
from colorizer_tf.colorizer import Colorizer
from colorizer_tf.photos import to_gray


class Painter:
    """A fake generator that paints the left half red and the right half blue."""

    RED, BLUE = (-0.05, 0.15), (0.15, -0.05)

    def __call__(self, gray, training=False):
        red = np.arange(gray.shape[2])[:, None] < gray.shape[2] // 2
        chroma = np.where(red, self.RED, self.BLUE).astype(np.float32)
        return join_luma_chroma(gray, 0 * gray + chroma)


class Uniform(Painter):
    RED = BLUE = (0.1, -0.05)


@pytest.fixture
def painter():
    return Painter()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 7), (300, 1), (33, 47), (64, 32), (97, 151), (200, 150)]
)
@pytest.mark.parametrize("working_size", [32, 160])
def test_any_size_comes_back_as_it_was_with_its_luma(painter, size, working_size):
    photo = noise(*size)

    rgb = Colorizer(painter, working_size=working_size).colorize(photo)

    assert rgb.shape == (*size, 3)
    assert rgb.dtype == np.uint8
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    assert np.abs(np.int16(gray) - photo).max() <= 1


def test_a_trained_generator_keeps_the_luma_too(generator):
    photo = noise(45, 70)

    rgb = Colorizer(generator).colorize(photo)

    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    assert np.abs(np.int16(gray) - photo).max() <= 1
    assert np.ptp(np.int16(rgb), axis=-1).mean() > 20


def test_the_chroma_is_that_of_the_generator():
    photo = np.full((40, 50), 128, np.uint8)

    rgb = Colorizer(Uniform()).colorize(photo)

    red, blue = 128 - 0.05 * 1.402 * 255, 128 + 0.1 * 1.772 * 255
    green = (128 - 0.299 * red - 0.114 * blue) / 0.587
    np.testing.assert_allclose(rgb, np.full((40, 50, 3), (red, green, blue)), atol=1)


@pytest.mark.parametrize("size", [(96, 64), (300, 200), (640, 480)])
def test_colors_lie_where_the_generator_put_them(painter, size):
    photo, width = np.full(size, 128, np.uint8), size[1]

    rgb = np.int16(Colorizer(painter, working_size=64).colorize(photo))

    red_minus_blue = rgb[..., 0] - rgb[..., 2]
    assert (red_minus_blue[:, : width // 2 - width // 16] > 50).all()
    assert (red_minus_blue[:, width // 2 + width // 16 :] < -50).all()


def test_gray_photos_of_two_and_three_dimensions_are_the_same(painter):
    photo, colorizer = noise(30, 40), Colorizer(painter)

    rgb = colorizer.colorize(photo)

    np.testing.assert_array_equal(colorizer.colorize(photo[..., None]), rgb)
    np.testing.assert_array_equal(
        colorizer.colorize(np.repeat(photo[..., None], 3, axis=-1)), rgb
    )


def test_the_colors_of_a_photo_are_dropped_but_not_its_luma(painter):
    photo = noise(30, 40, 3)

    seen = Colorizer(painter).shrink(to_gray(photo))

    expected = cv2.cvtColor(np.float32(photo) / 255, cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(seen, expected, atol=0.51 / 255)


@pytest.mark.parametrize(
    ("size", "seen"),
    [((200, 300), (64, 96)), ((300, 200), (96, 64)), ((20, 50), (32, 64))],
)
def test_the_network_sees_the_photo_at_most_at_the_working_size(painter, size, seen):
    colorizer = Colorizer(painter, working_size=64)

    assert colorizer.network_shape(*colorizer.working_shape(*size)) == seen


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((3000, 4000), (192, 256)),
        ((240, 200), (180, 150)),
        ((150, 160), (128, 137)),
        ((100, 90), (100, 90)),
        ((200, 3000), (40, 600)),
    ],
)
def test_the_network_sees_small_photos_smaller(painter, size, seen):
    assert Colorizer(painter).working_shape(*size) == seen


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool])
def test_a_photo_of_another_type_is_refused(painter, dtype):
    with pytest.raises(ValueError, match=np.dtype(dtype).name):
        Colorizer(painter).colorize(np.zeros((8, 8), dtype))


@pytest.mark.parametrize(
    "shape", [(8,), (8, 8, 2), (8, 8, 5), (1, 8, 8, 3), (0, 8), (8, 0, 1), (0, 8, 3)]
)
def test_a_shape_that_is_no_photo_is_refused(painter, shape):
    with pytest.raises(ValueError, match="shape"):
        Colorizer(painter).colorize(np.zeros(shape, np.uint8))


def test_a_colorizer_is_loaded_from_a_file(generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    gray = np.float32(noise(1, 16, 24, 1)) / 255

    loaded = Colorizer.load(str(tmp_path / "generator.keras"), working_size=32)

    assert loaded.working_size == 32
    np.testing.assert_allclose(loaded.generator(gray), generator(gray), atol=1e-6)


def test_a_missing_generator_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Colorizer.load(tmp_path / "nowhere.keras")

    assert str(tmp_path / "nowhere.keras") in str(error.value)
