"""Draws photos, histories and palettes as matplotlib figures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

# In inches: the widths of a column of `plot_rows` and of `plot_photos`, and the gap.
COLUMN, THUMBNAIL, GAP = 2.4, 1.6, 0.05
TALLEST = 1.5  # the largest height of a photo, in widths of a column


def plot_rows(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    labels: Sequence[str] | None = None,
) -> Figure:
    """Draws photos in rows, such as gray, colorized and original.

    Args:
        rows: rows of photos, (H, W, 3) or (H, W, 1), uint8, or float in [0, 1].
        titles: a title for each column.
        labels: a label for each row.

    Example:

    ```python
    figure = ct.plot_rows([(gray[..., None], rgb)], ("gray", "color"))
    figure.savefig("photos.png")
    ```
    """
    heights = [min(TALLEST, max(_shape(photo) for photo in row)) for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(COLUMN * len(titles), COLUMN * sum(heights) + 0.3),
        height_ratios=heights,
        squeeze=False,
        layout=ConstrainedLayoutEngine(
            w_pad=GAP / 2, h_pad=GAP / 2, wspace=0, hspace=0, compress=True
        ),
    )
    for i, (row, row_axes) in enumerate(zip(rows, axes, strict=True)):
        for photo, axis in zip(row, row_axes, strict=True):
            _show(axis, photo)
        if labels:
            row_axes[0].set_ylabel(labels[i], fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def plot_photos(
    photos: Sequence[np.ndarray], columns: int = 8, titles: Sequence[str] | None = None
) -> Figure:
    """Draws photos on a contact sheet.

    The photos of a line have the same height, and fill the width of the sheet.

    Args:
        photos: photos, (H, W, 3) or (H, W, 1), uint8, or float in [0, 1].
        columns: the number of photos of a line.
        titles: a title for each photo.

    Example:

    ```python
    figure = ct.plot_photos([ct.read_photo(path) for path in ct.find_photos("scans")])
    ```
    """
    lines = [
        range(len(photos))[i : i + columns] for i in range(0, len(photos), columns)
    ]
    width, above = THUMBNAIL * columns, 0.2 if titles else 0
    heights = []
    for line in lines:
        gaps = GAP * (len(line) - 1)
        height = (width - gaps) / sum(1 / _shape(photos[i]) for i in line)
        if len(line) < columns:  # the last line must not be higher than the others
            height = min([height, *heights[-1:]])
        heights.append(min(height, TALLEST * THUMBNAIL))
    total = sum(heights) + (above + GAP) * len(lines) - GAP
    figure = plt.figure(figsize=(width, total))
    bottom = total
    for line, height in zip(lines, heights, strict=True):
        left, bottom = 0, bottom - above - height
        for i in line:
            across = height / _shape(photos[i])
            place = left / width, bottom / total, across / width, height / total
            axis = figure.add_axes(place)
            axis.axis("off")
            _show(axis, photos[i])
            if titles:
                axis.set_title(titles[i], fontsize=8)
            left += across + GAP
        bottom -= GAP
    return figure


def plot_history(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draws the history of runs, epoch by epoch.

    The panels are squared error, PSNR and colorfulness on the validation side, and
    the discriminator's loss and probabilities.

    Args:
        histories: the history of each run by its name, as from `read_history`.

    Example:

    ```python
    figure = ct.plot_history({"mine": ct.read_history("runs/mine")})
    ```
    """
    panels = {
        "mean squared error": ("mse", "val_mse"),
        "PSNR, dB": ("val_psnr",),
        "colorfulness, 1 is natural": ("val_colorfulness",),
        "discriminator's loss": ("d_loss", "val_d_loss"),
        "its probability of “real”": ("p_real", "p_fake"),
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.4 * len(panels), 3.4), layout="constrained"
    )
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for color, (name, history) in enumerate(histories.items()):
            epochs = [row["epoch"] for row in history]
            for column, style in zip(columns, ("-", "--"), strict=False):
                values = [row.get(column, np.nan) for row in history]
                label = f"{name} {column}" if len(histories) > 1 else column
                axis.plot(epochs, values, style, color=f"C{color}", label=label)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        # Below the panel, the legend hides no curve.
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    # Drawing lays out again: the first layout moves ticks as it makes room for legends.
    figure.draw_without_rendering()
    return figure


def plot_palette(lab: np.ndarray) -> Figure:
    """Draws a histogram of colors over CIELAB's a and b.

    Args:
        lab: pixels in CIELAB, (N, 3).

    Example:

    ```python
    lab = skimage.color.rgb2lab(ct.read_photo("photo.jpg"))
    figure = ct.plot_palette(lab.reshape(-1, 3))
    ```
    """
    figure, axis = plt.subplots(figsize=(4, 3.6), layout="constrained")
    image = axis.hist2d(
        lab[:, 1], lab[:, 2], bins=88, range=[[-60, 60], [-60, 60]], norm="log"
    )[3]
    figure.colorbar(image, label="pixels")
    axis.set(xlabel="a: green to red", ylabel="b: blue to yellow", title="palette")
    return figure


def _shape(photo):
    """Returns the height divided by the width."""
    return len(photo) / photo.shape[1]


def _show(axis, photo):
    axis.imshow(
        photo.squeeze(), cmap="gray", vmin=0, vmax=255 if photo.dtype == np.uint8 else 1
    )
    axis.set(xticks=[], yticks=[])
