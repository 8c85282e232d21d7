import json
import math

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from colorizer_tf import metrics
from colorizer_tf.metrics import evaluate, format_measures


class Recall:
    """A colorizer that knows the result of each gray photo."""

    def __init__(self, photos, results):
        self.results = {
            self.key(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)): result
            for photo, result in zip(photos, results, strict=True)
        }

    def key(self, gray):
        return gray.squeeze().shape, round(float(gray.mean()), 1)

    def colorize(self, gray):
        assert gray.dtype == np.uint8
        return self.results[self.key(gray)]


class KeepGray:
    def colorize(self, gray):
        return np.dstack([gray] * 3)


@pytest.fixture
def save(tmp_path):
    def save(photos):
        paths = [tmp_path / f"{number}.png" for number in range(len(photos))]
        for photo, path in zip(photos, paths, strict=True):
            Image.fromarray(photo).save(path)
        return paths

    return save


@pytest.fixture
def photos(make_photo):
    return [make_photo(24, 30, seed) for seed in range(3)]


def flat(*colors):
    """A photo with a broad stripe of each color."""
    return np.repeat(np.repeat(np.uint8([colors]), 12, axis=0), 12, axis=1)


def test_a_perfect_colorizer(photos, save):
    measures = evaluate(Recall(photos, photos), save(photos)).colorized

    assert measures.psnr == math.inf
    assert measures.ssim == pytest.approx(1)
    assert measures.ciede2000 == 0
    assert measures.colorfulness == pytest.approx(1)
    assert measures.palette == pytest.approx(0)
    assert measures.detail < 0.5


def test_the_gray_row_has_no_color_and_all_detail(photos, save):
    evaluation = evaluate(Recall(photos, photos), save(photos))

    assert evaluation.gray.colorfulness == pytest.approx(0, abs=1e-4)
    assert evaluation.gray.detail == pytest.approx(0, abs=1e-3)
    assert evaluation.gray.ciede2000 > 5
    assert evaluation.gray.seconds is None


def test_the_gray_row_is_what_keeping_gray_scores(photos, save):
    evaluation = evaluate(KeepGray(), save(photos))

    evaluation.colorized.seconds = evaluation.colorized.photos_per_second = None
    assert evaluation.colorized == evaluation.gray


def test_psnr_is_that_of_the_pooled_error_and_ssim_a_mean(photos, save):
    results = [photos[0] // 2, photos[1] // 4 * 3, photos[2] // 8 * 7]

    evaluation = evaluate(Recall(photos, results), save(photos))

    both = list(zip(photos, results, strict=True))
    each = [peak_signal_noise_ratio(*pair) for pair in both]
    pooled = peak_signal_noise_ratio(np.stack(photos), np.stack(results))
    assert evaluation.colorized.psnr == pytest.approx(pooled, abs=1e-4)
    assert abs(pooled - np.mean(each)) > 0.5
    assert evaluation.colorized.ssim == pytest.approx(
        np.mean([structural_similarity(*pair, channel_axis=-1) for pair in both])
    )
    np.testing.assert_allclose(-10 * np.log10(evaluation.errors), each, atol=1e-4)


def test_errors_are_in_the_order_of_the_photos(photos, save):
    paths = save(photos)[::-1]

    evaluation = evaluate(Recall(photos, [photos[0], *photos[1:]]), paths)
    spoilt = evaluate(Recall(photos, [photos[0] // 2, *photos[1:]]), paths)

    assert evaluation.photos == spoilt.photos == paths
    assert not evaluation.errors.any()
    assert (spoilt.errors > 0).tolist() == [False, False, True]


def test_colorfulness_is_a_ratio_of_means(save):
    red, blue = flat((200, 0, 0)), flat((0, 0, 200))
    pale_red = flat((150, 50, 50))

    measures = evaluate(Recall([red, blue], [pale_red, blue]), save([red, blue]))

    strength = {"red": math.hypot(200, 100), "pale": math.hypot(100, 50), "blue": 200}
    expected = (strength["pale"] + strength["blue"]) / (
        strength["red"] + strength["blue"]
    )
    assert measures.colorized.colorfulness == pytest.approx(expected, rel=1e-4)


def test_palettes_without_a_common_color_are_one_apart(save):
    red, blue = flat((200, 0, 0)), flat((0, 0, 200))

    measures = evaluate(Recall([red], [blue]), save([red])).colorized

    assert measures.palette == pytest.approx(1)


def test_palettes_are_pooled_over_all_photos(save):
    red, blue = flat((200, 0, 0)), flat((0, 0, 200))

    swapped = evaluate(Recall([red, blue], [blue, red]), save([red, blue])).colorized
    half = evaluate(Recall([red, blue], [red, red]), save([red, blue])).colorized

    divergence = (math.log2(4 / 3) + math.log2(2 / 3) / 2 + math.log2(2) / 2) / 2
    assert swapped.palette == pytest.approx(0)
    assert half.palette == pytest.approx(math.sqrt(divergence))


def test_detail_is_the_mean_deviation_of_gray_levels(save):
    photo = flat((100, 100, 100), (50, 50, 50), (200, 0, 0), (200, 0, 0))
    result = flat((110, 110, 110), (50, 50, 50), (60, 60, 60), (60, 60, 60))

    measures = evaluate(Recall([photo], [result]), save([photo])).colorized

    assert measures.detail == pytest.approx(10 / 4, abs=1e-3)


class Clock:
    """A colorizer whose first call takes long, on a clock of its own."""

    def __init__(self):
        self.now = 0
        self.durations = [100, 1, 2, 6]

    def perf_counter(self):
        return self.now

    def colorize(self, gray):
        self.now += self.durations.pop(0)
        return np.dstack([gray] * 3)


def test_time_is_measured_without_the_first_call(photos, save, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)

    measures = evaluate(clock, save(photos)).colorized

    assert measures.seconds == 2
    assert measures.photos_per_second == pytest.approx(3 / 9)


@pytest.mark.parametrize(
    ("size", "measured"),
    [((300, 1024), (150, 512)), ((1030, 515), (512, 256)), ((7, 512), (7, 512))],
)
def test_large_photos_are_measured_at_512_pixels(save, make_photo, size, measured):
    shapes = []

    class Watch(KeepGray):
        def colorize(self, gray):
            shapes.append(gray.shape)
            return super().colorize(gray)

    evaluate(Watch(), save([make_photo(*size)]))

    assert set(shapes) == {measured}


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (4, 9)])
def test_small_photos_are_measured_too(save, make_photo, size):
    photo = make_photo(*size)

    assert evaluate(Recall([photo], [photo]), save([photo])).colorized.ssim == 1


def test_no_photos_are_refused():
    with pytest.raises(ValueError, match="no photos"):
        evaluate(KeepGray(), [])


def test_measures_are_written_as_json_and_as_a_table(photos, save):
    evaluation = evaluate(KeepGray(), save(photos))

    values = json.loads(json.dumps(evaluation.to_dict()))
    assert values["photos"] == 3
    assert values["colorized"]["psnr"] == evaluation.gray.psnr
    assert values["gray"]["seconds"] is None
    header, colorized, gray = str(evaluation).splitlines()
    assert "PSNR" in header
    assert colorized.startswith("colorized")
    assert f"{evaluation.gray.psnr:.2f}" in gray
    assert gray.split()[-2:] == ["-", "-"]


def test_a_table_has_a_row_for_each_name(photos, save):
    measures = evaluate(KeepGray(), save(photos)).gray

    lines = format_measures({"b64": measures, "b32, longer": measures}).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == ["b64", "b32,"]
