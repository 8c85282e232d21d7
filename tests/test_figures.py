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


def test_rows_show_gray_and_colour_photos_side_by_side(make_photo):
    colour = make_photo(8, 10)
    gray = np.full((8, 10, 1), 0.25, np.float32)

    figure = plot_rows([(gray, colour), (gray, colour)], ("gray", "original"))

    assert len(figure.axes) == 4
    assert figure.axes[1].get_title() == "original"
    np.testing.assert_array_equal(shown(figure.axes[3]), colour)
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_a_contact_sheet_shows_every_photo(make_photo):
    photos = [make_photo(8, 10, seed) for seed in range(5)]

    axes = plot_photos(photos, columns=3).axes

    assert len(axes) == 6
    for axis, photo in zip(axes, photos, strict=False):
        np.testing.assert_array_equal(shown(axis), photo)


def test_a_history_is_drawn_for_each_run():
    history = [{"epoch": epoch, "mse": 1 / epoch} for epoch in (1, 2, 3)]

    axis = plot_history({"b64": history, "b32": history}).axes[0]

    labels = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
    assert labels["b64 mse"] == labels["b32 mse"] == [1, 1 / 2, 1 / 3]
