"""Tests photos of every size, depth and format."""

import cv2
import keras
import numpy as np
import pytest
import tifffile
from keras import layers
from PIL import Image, ImageCms

from colorizer_tf.color import BLUE, GREEN, RED, join_luma_chroma
from colorizer_tf.colorizer import Colorizer
from colorizer_tf.painting import fit_chroma, paint
from colorizer_tf.photos import PhotoError, read_gray, write_photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def build_painter(size=(None, None)):
    """A model that paints dark parts red and light parts blue."""
    gray = keras.Input((*size, 1))
    chroma = keras.ops.concatenate([gray - 0.5, 0.5 - gray], axis=-1)
    return keras.Model(gray, join_luma_chroma(gray, 0.4 * chroma))


@pytest.fixture(scope="module")
def colorizer():
    return Colorizer(build_painter(), working_size=32)


def noise(*shape, dtype=np.uint8):
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def luma(photo):
    if photo.ndim == 3 and photo.shape[2] > 1:
        return photo[..., :3] @ np.array([RED, GREEN, BLUE])
    return photo.reshape(photo.shape[:2]).astype(float)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 5), (3, 200, 1), (41, 67, 3), (64, 50, 4), (300, 211), (40_000, 1)],
)
def test_size_depth_and_luma_stay(colorizer, shape, dtype):
    photo = noise(*shape, dtype=dtype)

    rgb = colorizer.colorize(photo)

    assert rgb.shape == (*shape[:2], 3)
    assert rgb.dtype == dtype
    assert np.abs(luma(rgb) - luma(photo)).max() <= 1


def test_strength_scales_the_color(colorizer):
    photo = noise(40, 50)
    spread = [
        np.ptp(np.int16(colorizer.colorize(photo, strength)), axis=-1).mean()
        for strength in (0, 0.5, 1, 3)
    ]

    assert spread[0] == 0
    assert sorted(spread) == spread
    np.testing.assert_array_equal(colorizer.colorize(photo, 0)[..., 1], photo)


@pytest.mark.parametrize("strength", [-1, np.nan, np.inf])
def test_a_senseless_strength_is_refused(colorizer, strength):
    with pytest.raises(ValueError, match="strength"):
        colorizer.colorize(noise(4, 4), strength)


@pytest.mark.parametrize("shape", [(8,), (8, 8, 2), (1, 8, 8, 3), (0, 8), (8, 0, 3)])
def test_a_shape_that_is_no_photo_is_refused(colorizer, shape):
    with pytest.raises(ValueError, match="shape"):
        colorizer.colorize(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_other_types_are_refused(colorizer, dtype):
    with pytest.raises(ValueError, match=np.dtype(dtype).name):
        colorizer.colorize(np.zeros((8, 8), dtype))


def test_painting_is_joining_luma_and_chroma():
    gray, rng = noise(60, 80), np.random.default_rng(1)
    chroma = rng.uniform(-0.5, 0.5, (60, 80, 2)).astype(np.float32)

    rgb = paint(gray, np.zeros_like(chroma), chroma)

    expected = np.asarray(join_luma_chroma(np.float32(gray)[..., None] / 255, chroma))
    assert np.abs(255 * expected - rgb).max() <= 0.51


def test_colors_end_where_the_luma_has_its_edge():
    gray = np.full((400, 600), 60, np.uint8)
    gray[:, 310:] = 200
    small = cv2.resize(gray, (60, 40), interpolation=cv2.INTER_AREA) / np.float32(255)
    side = np.float32(np.linspace(0, 1, 60) > 0.52)
    side = cv2.resize(cv2.resize(side[None], (15, 1), interpolation=3), (60, 40))
    chroma = np.dstack([0.2 * side - 0.1, 0.1 - 0.2 * side]).astype(np.float32)

    rgb = np.int16(paint(gray, *fit_chroma(small, chroma)))

    blueness = rgb[200, :, 2] - rgb[200, :, 0]
    assert (blueness[:309] < -40).all()
    assert (blueness[311:] > 40).all()


def test_flat_chroma_stays_flat_to_the_border():
    luma = np.float32(noise(48, 64)) / 255
    chroma = np.zeros((48, 64, 2), np.float32) + np.float32((0.1, -0.2))

    slope, offset = fit_chroma(luma, chroma)

    np.testing.assert_allclose(slope, 0, atol=1e-5)
    np.testing.assert_allclose(offset, chroma[::2, ::2], atol=1e-5)


def test_a_network_that_knows_one_size_only():
    colorizer = Colorizer(build_painter((24, 36)))

    for shape in ((10, 12), (24, 36), (300, 200)):
        photo = noise(*shape)
        assert np.abs(luma(colorizer.colorize(photo)) - photo).max() <= 1


@pytest.mark.parametrize("stride", [1, 48, 128])
def test_a_network_of_any_stride_and_upsampling(stride):
    gray = keras.Input((None, None, 1))
    x = layers.AveragePooling2D(stride)(gray)
    x = layers.UpSampling2D(stride, interpolation="bilinear")(x)
    rgb = layers.Conv2D(3, 1, activation="sigmoid")(layers.Concatenate()([gray, x]))
    colorizer = Colorizer(keras.Model(gray, rgb), working_size=40)

    for shape in ((50, 70), (33, 20)):
        assert colorizer.colorize(noise(*shape)).shape == (*shape, 3)


def test_a_model_that_is_no_generator_is_refused():
    gray = keras.Input((None, None, 1))
    with pytest.raises(ValueError, match="must take gray"):
        Colorizer(keras.Model(gray, layers.Conv2D(2, 1)(gray)))


def test_nan_is_not_painted():
    gray = keras.Input((None, None, 1))
    model = keras.Model(gray, keras.ops.repeat(gray, 3, axis=-1) * float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        Colorizer(model).colorize(noise(8, 8))


def test_pretrained_weights_that_are_not_there_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(Colorizer, "WEIGHTS", tmp_path / "generator.keras")
    with pytest.raises(FileNotFoundError, match="02_train"):
        Colorizer.pretrained()


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "generator.keras").write_text("nothing")
    with pytest.raises(ValueError, match=r"generator\.keras"):
        Colorizer.load(tmp_path / "generator.keras")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_orientation_is_applied_once(colorizer, tmp_path, orientation, ending):
    upright = np.zeros((40, 56), np.uint8)
    upright[:20, :28], upright[20:, 28:] = 250, 120
    stored = Image.fromarray(upright)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / f"photo.{ending}", exif=exif, quality=100)

    result = colorizer.colorize_file(
        tmp_path / f"photo.{ending}", tmp_path / f"result.{ending}"
    )

    with Image.open(result) as image:
        assert image.getexif().get(274, 1) == 1
        assert np.abs(luma(np.asarray(image)) - upright).mean() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_16_bit_png(tmp_path, orientation):
    upright, path = noise(5, 7, dtype=np.uint16), tmp_path / "photo.png"
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.ascontiguousarray(undo[orientation](upright))
    Image.fromarray(stored).save(path, exif=exif)

    np.testing.assert_array_equal(read_gray(path).gray, upright)


@pytest.mark.parametrize("ending", ["tif", "png"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_stay_16_with_all_that_goes_along(
    colorizer, tmp_path, ending, channels
):
    photo = noise(30, 40, channels, dtype=np.uint16).squeeze()
    source, result = tmp_path / f"photo.{ending}", tmp_path / f"result.{ending}"
    exif = Image.Exif()
    exif[270] = "Grandmother"
    metadata = {"dpi": (300, 300), "icc_profile": SRGB, "exif": exif}
    if channels == 1:
        Image.fromarray(photo).save(source, **metadata)
    elif ending == "tif":
        tifffile.imwrite(
            source,
            photo,
            photometric="rgb",
            extrasamples=["unassalpha"] * (channels == 4),
            resolution=(300, 300),
            resolutionunit="INCH",
            iccprofile=SRGB,
            description="Grandmother",
            metadata=None,
        )
    else:
        order = [2, 1, 0, 3][:channels]
        cv2.imwrite(str(source), photo[..., order])

    colorizer.colorize_file(source, result)

    written = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    rgb = written[..., 2::-1]
    assert np.abs(luma(rgb) - luma(photo)).max() <= 1
    if channels == 4:
        np.testing.assert_array_equal(written[..., 3], photo[..., 3])
    if channels == 1 or ending == "tif":
        with Image.open(result) as image:
            assert np.allclose(image.info["dpi"], 300, atol=0.1)
            assert image.info["icc_profile"] == SRGB
            assert image.getexif()[270].rstrip("\0") == "Grandmother"


def test_white_is_zero_in_some_tiffs(tmp_path):
    photo = noise(6, 8, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "photo.tif", 65535 - photo, photometric="miniswhite")

    np.testing.assert_array_equal(read_gray(tmp_path / "photo.tif").gray, photo)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_metadata_goes_along(colorizer, tmp_path, ending):
    exif = Image.Exif()
    exif[270], exif[306] = "Großmutter".encode(), "1931:05:06 07:08:09"
    exif.get_ifd(34665)[36867] = "1931:05:06 07:08:09"
    exif[34665] = exif.get_ifd(34665)
    source, result = tmp_path / f"photo.{ending}", tmp_path / f"result.{ending}"
    Image.fromarray(noise(20, 30, 3)).save(
        source, exif=exif, dpi=(600, 600), icc_profile=SRGB
    )

    colorizer.colorize_file(source, result)

    with Image.open(source) as before, Image.open(result) as after:
        assert after.info["icc_profile"] == SRGB
        assert after.getexif()[270] == before.getexif()[270]
        assert after.getexif().get_ifd(34665)[36867] == "1931:05:06 07:08:09"
        if ending != "webp":
            assert np.allclose(after.info["dpi"], 600, atol=0.1)


def test_a_profile_for_gray_or_cmyk_does_not_go_along(tmp_path):
    profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.jpg", icc_profile=profile)

    assert "icc_profile" not in read_gray(tmp_path / "a.jpg").metadata


def test_transparency_stays_where_the_format_has_it(colorizer, tmp_path):
    photo = noise(20, 30, 4)
    Image.fromarray(photo).save(tmp_path / "photo.png")

    for ending in ("png", "tif", "webp"):
        result = colorizer.colorize_file(
            tmp_path / "photo.png", tmp_path / f"result.{ending}"
        )
        with Image.open(result) as image:
            alpha = np.asarray(image.getchannel("A"))
        np.testing.assert_array_equal(alpha, photo[..., 3])
    result = colorizer.colorize_file(tmp_path / "photo.png", tmp_path / "result.bmp")
    with Image.open(result) as image:
        white = np.asarray(image)[photo[..., 3] == 0]
    assert (white == 255).all()


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("1", "png"), ("L", "bmp"), ("LA", "png"), ("P", "png"), ("RGB", "webp"),
        ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "jpg"), ("RGB", "tiff"),
    ],
)  # fmt: skip
def test_kinds_of_pixels(colorizer, tmp_path, mode, ending):
    smooth = cv2.resize(noise(3, 4, 3), (40, 30))
    photo = Image.fromarray(smooth).convert(mode)
    photo.save(tmp_path / f"photo.{ending}")
    with Image.open(tmp_path / f"photo.{ending}") as image:
        expected = luma(np.asarray(image.convert("RGB")))

    result = colorizer.colorize_file(
        tmp_path / f"photo.{ending}", tmp_path / "result.png"
    )

    with Image.open(result) as image:
        assert np.abs(luma(np.asarray(image)) - expected).max() <= 2.5


@pytest.mark.parametrize("folder", ["there", "new"])
def test_a_file_goes_into_a_folder(colorizer, tmp_path, folder):
    (tmp_path / "there").mkdir()
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")

    result = colorizer.colorize_file(tmp_path / "a.png", tmp_path / folder)

    assert result == tmp_path / folder / "a.png"
    assert result.is_file()


@pytest.mark.parametrize("destination", [".", "a.png", "b.png"])
def test_no_file_is_replaced(colorizer, tmp_path, destination):
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(8, 8)).save(tmp_path / name)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    with pytest.raises(FileExistsError, match="is there already"):
        colorizer.colorize_file(tmp_path / "a.png", tmp_path / destination)

    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_formats_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(PhotoError, match=r"a\.gif"):
        write_photo(tmp_path / "a.gif", noise(4, 4, 3))
    with pytest.raises(PhotoError, match=r"wide\.webp cannot be written"):
        write_photo(tmp_path / "wide.webp", noise(1, 20_000, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side", [11_600, 20_000])
def test_a_decompression_bomb_is_refused_unread(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")

    with pytest.raises(PhotoError, match=r"bomb\.png .*more than 134 million pixels"):
        read_gray(tmp_path / "bomb.png")
