from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot as plt

from colorizer_tf.figures import plot_history, plot_photos, plot_rows


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def shown(axis):
    return axis.images[0].get_array()


def test_rows_show_gray_and_color_photos_side_by_side(make_photo):
    color = make_photo(8, 10)
    gray = np.full((8, 10, 1), 0.25, np.float32)

    figure = plot_rows([(gray, color), (gray, color)], ("gray", "original"))

    assert len(figure.axes) == 4
    assert figure.axes[1].get_title() == "original"
    np.testing.assert_array_equal(shown(figure.axes[3]), color)
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_a_contact_sheet_shows_every_photo(make_photo):
    photos = [make_photo(8, 10, seed) for seed in range(5)]

    axes = plot_photos(photos, columns=3).axes

    assert len(axes) == 5
    for axis, photo in zip(axes, photos, strict=False):
        np.testing.assert_array_equal(shown(axis), photo)


def places(figure):
    """Left, top, right and bottom of the shown photos, in inches."""
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    boxes = [axis.get_position() for axis in figure.axes]  # with the aspects applied
    return [
        (
            box.x0 * width,
            height - box.y1 * height,
            box.x1 * width,
            (1 - box.y0) * height,
        )
        for box in boxes
    ]


@pytest.mark.parametrize("size", [(20, 30), (20, 60), (30, 20), (20, 20)])
def test_rows_lie_close_whatever_the_shape_of_the_photos(make_photo, size):
    figure = plot_rows([[make_photo(*size)] * 2] * 3, ("one", "the other"))

    boxes = places(figure)

    for left, right in zip(boxes[::2], boxes[1::2], strict=True):
        assert 0 < right[0] - left[2] < 0.15
    for upper, lower in pairwise(boxes[::2]):
        assert 0 < lower[1] - upper[3] < 0.15
    assert figure.get_size_inches()[1] - boxes[-1][3] < 0.2


def test_photos_of_any_shape_fill_a_contact_sheet(make_photo):
    shapes = [(20, 50), (40, 30), (20, 30), (20, 30), (30, 20), (20, 20), (20, 20)]
    figure = plot_photos([make_photo(*shape) for shape in shapes], columns=3)

    boxes = places(figure)

    for line in (boxes[:3], boxes[3:6]):
        assert line[0][0] == pytest.approx(0, abs=0.01)
        assert line[-1][2] == pytest.approx(figure.get_size_inches()[0], abs=0.01)
        assert len({round(top, 2) for _, top, _, _ in line}) == 1
        assert len({round(bottom, 2) for *_, bottom in line}) == 1
        for left, right in pairwise(line):
            assert 0 < right[0] - left[2] < 0.15
    assert 0 < boxes[3][1] - boxes[0][3] < 0.15
    assert boxes[6][3] - boxes[6][1] <= boxes[3][3] - boxes[3][1] + 0.01


def test_a_history_is_drawn_for_each_run():
    history = [{"epoch": epoch, "mse": 1 / epoch} for epoch in (1, 2, 3)]

    axis = plot_history({"b64": history, "b32": history}).axes[0]

    labels = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
    assert labels["b64 mse"] == labels["b32 mse"] == [1, 1 / 2, 1 / 3]


def test_the_labels_of_a_history_lie_within_the_figure():
    history = [
        {
            "epoch": epoch,
            "mse": 0.0295 - 0.004 * epoch,
            "val_mse": 0.0128 - 0.0024 * epoch,
        }
        for epoch in (1, 2)
    ]

    figure = plot_history({"one": history, "two": history})

    figure.draw_without_rendering()
    for axis in figure.axes:
        left, bottom, right, top = axis.get_tightbbox().extents
        assert left >= 0 and bottom >= 0
        assert right <= figure.bbox.width and top <= figure.bbox.height
