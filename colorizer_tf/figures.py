"""The pictures that notebooks and runs show; all are matplotlib figures."""

import matplotlib.pyplot as plt
import numpy as np


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
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(2.4 * len(titles), 2.4 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for i, (row, row_axes) in enumerate(zip(rows, axes, strict=True)):
        for photo, axis in zip(row, row_axes, strict=True):
            _show(axis, photo)
        if labels:
            row_axes[0].set_ylabel(labels[i], fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def plot_photos(photos, columns=8, titles=None):
    """Shows photos on a contact sheet and returns the figure."""
    lines = -(-len(photos) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(1.6 * columns, 1.6 * lines + (0.2 * lines if titles else 0)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (photo, axis) in enumerate(zip(photos, axes.flat, strict=False)):
        _show(axis, photo)
        if titles:
            axis.set_title(titles[i], fontsize=8)
    return figure


def plot_history(histories):
    """Shows how runs went, epoch by epoch.

    Args:
        histories: a dictionary from the name of a run to its history, the list
            of dictionaries that `training.read_history` returns.

    Returns:
        The figure: squared error, PSNR and colourfulness on the validation
        side, and what the discriminator thinks.
    """
    panels = {
        "mean squared error": ("mse", "val_mse"),
        "PSNR, dB": ("val_psnr",),
        "colourfulness, 1 is natural": ("val_colourfulness",),
        "discriminator's loss": ("d_loss", "val_d_loss"),
        "its probability of “real”": ("p_real", "p_fake"),
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.4 * len(panels), 3), layout="constrained"
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
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    return figure


def plot_palette(lab):
    """Shows how often each colour occurs, and returns the figure.

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


def _show(axis, photo):
    axis.imshow(
        photo.squeeze(), cmap="gray", vmin=0, vmax=255 if photo.dtype == np.uint8 else 1
    )
    axis.set(xticks=[], yticks=[])
