"""The pictures that notebooks and runs show; all are matplotlib figures."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

# Inches: of a column of photos, of a contact sheet's, between photos.
COLUMN, THUMBNAIL, GAP = 2.4, 1.6, 0.05
TALLEST = 1.5  # height by width, of a place for a photo


def plot_rows(rows, titles, labels=None):
    """Shows photos in rows, such as gray | colorized | original.

    Args:
        rows: a list of rows of photos, (H, W, 3) or (H, W, 1), uint8, or float
            in [0, 1].
        titles: a title for each column.
        labels: a text for each row, at its left.

    Returns:
        The figure.
    """
    # A row is as high as its photos, at the width of a column.
    heights = [min(TALLEST, max(_shape(photo) for photo in row)) for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(COLUMN * len(titles), COLUMN * sum(heights) + 0.3),
        height_ratios=heights,
        squeeze=False,
        layout="compressed",
    )
    figure.get_layout_engine().set(w_pad=GAP / 2, h_pad=GAP / 2, wspace=0, hspace=0)
    for i, (row, row_axes) in enumerate(zip(rows, axes, strict=True)):
        for photo, axis in zip(row, row_axes, strict=True):
            _show(axis, photo)
        if labels:
            row_axes[0].set_ylabel(labels[i], fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def plot_photos(photos, columns=8, titles=None):
    """Shows photos on a contact sheet and returns the figure.

    The photos of a line are of one height, and together as wide as the sheet.
    """
    lines = [
        range(len(photos))[i : i + columns] for i in range(0, len(photos), columns)
    ]
    width, above = THUMBNAIL * columns, 0.2 if titles else 0
    heights = []
    for line in lines:
        gaps = GAP * (len(line) - 1)
        height = (width - gaps) / sum(1 / _shape(photos[i]) for i in line)
        if len(line) < columns:  # the last line: no larger than the others
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


def plot_history(histories):
    """Shows how runs went, epoch by epoch.

    Args:
        histories: a dictionary from the name of a run to its history, the list
            of dictionaries that `training.read_history` returns.

    Returns:
        The figure: squared error, PSNR and colorfulness on the validation
        side, and what the discriminator thinks.
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
        # Below the panel, where no curve is.
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    # Laid out twice: the first time, ticks change as the legends take their room.
    figure.draw_without_rendering()
    return figure


def plot_palette(lab):
    """Shows how often each color occurs, and returns the figure.

    Args:
        lab: pixels in CIELAB, (N, 3).
    """
    figure, axis = plt.subplots(figsize=(4, 3.6), layout="constrained")
    image = axis.hist2d(
        lab[:, 1], lab[:, 2], bins=88, range=[[-60, 60], [-60, 60]], norm="log"
    )[3]
    figure.colorbar(image, label="pixels")
    axis.set(xlabel="a: green to red", ylabel="b: blue to yellow", title="palette")
    return figure


def _shape(photo):
    """Height by width."""
    return len(photo) / photo.shape[1]


def _show(axis, photo):
    axis.imshow(
        photo.squeeze(), cmap="gray", vmin=0, vmax=255 if photo.dtype == np.uint8 else 1
    )
    axis.set(xticks=[], yticks=[])
