"""Draws pictures of the documentation, from photographs in installed packages.

    python experiments/draw_docs.py docs
    python experiments/draw_docs.py docs --discriminator before.keras after.keras

The first line writes `portrait.jpg`, `planes.jpg`, `mean_color.jpg`, `network.jpg`,
`full_size.jpg` and the short film `film.webp`. The second one writes
`discriminator.jpg`, with the colors of two generators of your own.
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import av
import cv2
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from PIL import Image

import colorizer_tf as ct
from colorizer_tf.color import join_luma_chroma, rgb_to_chroma, rgb_to_luma
from colorizer_tf.colorizer import WORKING_SIZE
from colorizer_tf.painting import fit_chroma, paint

PROJECT = Path(__file__).resolve().parents[1]
JPEG = {"dpi": 110, "pil_kwargs": {"quality": 85, "optimize": True}}
CHROMA_STRIDE = 4
# The short film: width and height, frames per second and per shot, grain in levels.
FILM_SIZE, RATE, SHOT, GRAIN = (480, 320), 25, 50, 3
# `film.webp` has every second frame, to stay small.
SHOWN = 2


def main():
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--discriminator", nargs=2, help="generators before and after")
    args = parser.parse_args()
    folder = args.folder
    if args.discriminator:
        figure = draw_discriminator(*args.discriminator)
        figure.savefig(folder / "discriminator.jpg", bbox_inches="tight", **JPEG)
        return
    pictures = (draw_portrait, draw_planes, draw_mean_color, draw_network)
    for draw in (*pictures, draw_full_size):
        figure = draw()
        name = draw.__name__.removeprefix("draw_")
        figure.savefig(folder / f"{name}.jpg", bbox_inches="tight", **JPEG)
        plt.close(figure)
    draw_film(folder / "film.webp")


def draw_portrait():
    """Draws the example portrait in gray, with automatic colors, and with hints."""
    photo = PROJECT / "examples/portrait.jpg"
    gray = ct.to_gray(ct.read_photo(photo))
    hints = ct.read_hints(photo.with_suffix(".hints.json"))
    colorizer = ct.Colorizer.pretrained()
    hinted = colorizer.colorize(gray, hints=hints)
    row = [gray[..., None], colorizer.colorize(gray), hinted]
    figure = ct.plot_rows([row], ("gray", "automatic", f"{len(hints)} hints"))
    height, width = gray.shape
    for hint in hints:
        place = hint.x * width, hint.y * height
        figure.axes[2].plot(*place, "o", color=hint.color, markeredgecolor="white")
    return figure


def draw_planes():
    """Draws a color photo beside its luma and its two chroma planes."""
    photo = skimage.data.coffee()
    rgb = np.float32(photo) / 255
    luma, chroma = rgb_to_luma(rgb), rgb_to_chroma(rgb)
    middle = np.full_like(luma, 0.5)
    none = np.zeros_like(luma)
    cb, cr = chroma[..., :1], chroma[..., 1:]
    planes = (np.concatenate(pair, -1) for pair in ((cb, none), (none, cr)))
    row = [rgb, luma, *(join_luma_chroma(middle, plane) for plane in planes)]
    titles = ("photo", "luma Y", "chroma Cb: blue", "chroma Cr: red")
    return ct.plot_rows([row], titles)


def draw_network():
    """Draws the U-Net: skip connections from encoder to decoder at each stride."""
    figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    axis.set(xlim=(-0.9, 5.1), ylim=(-4.6, 0.9))
    axis.axis("off")
    style = {"ha": "center", "va": "center", "fontsize": 9}
    arrow = {"arrowstyle": "->", "color": "gray", "shrinkA": 14, "shrinkB": 14}
    places = {"gray photo\nH × W": (0, 0), "RGB photo\nH × W": (4.2, 0)}
    places |= {"hints\nH/4 × W/4": (2.1, -0.2)}
    for depth, stride in enumerate((4, 8, 16, 32), 1):
        places[f"encoder, stride {stride}"] = (0.25 * depth, -depth)
        places[f"decoder, stride {stride}"] = (4.2 - 0.25 * depth, -depth)
    for name, place in places.items():
        color = "#cfe3f5" if "encoder" in name else "#f8e0c8"
        box = {"boxstyle": "round", "edgecolor": "gray"}
        box["facecolor"] = color if "coder" in name else "white"
        axis.text(*place, name, bbox=box, zorder=5, **style)
    left = [place for name, place in places.items() if "encoder" in name]
    right = [place for name, place in places.items() if "decoder" in name]
    chain = [(0, 0), *left, *reversed(right), (4.2, 0)]
    links = [*pairwise(chain), *zip(left, right, strict=True)]
    links += [((2.1, -0.2), place) for place in right]
    for start, end in [*links, ((0, 0), (4.2, 0))]:
        if start[1] == end[1]:  # the boxes are wide
            start, end = (start[0] + 0.45, start[1]), (end[0] - 0.45, end[1])
        bend = "arc3,rad=-0.2" if start[1] == end[1] == 0 else "arc3"
        axis.annotate(
            "", end, start, arrowprops=arrow | {"connectionstyle": bend}, zorder=1
        )
    axis.text(2.1, 0.75, "luma", color="gray", **style)
    axis.text(4.55, -0.5, "chroma", color="gray", **style)
    return figure


def draw_mean_color():
    """Draws colors of one luma that a coat may have, and their mean."""
    names = ("#8c2f2b", "#2f4f8f", "#3f6b35", "#7a5230", "#6d6a3f")
    luma = np.float32([[[0.38]]])
    chromas = np.stack([rgb_to_chroma(ct.Hint(0, 0, name).rgb) for name in names])
    figure, axes = plt.subplots(
        1, len(names) + 1, figsize=(7.5, 1.5), layout="constrained"
    )
    for axis, chroma in zip(axes, [*chromas, chromas.mean(axis=0)], strict=True):
        axis.imshow(join_luma_chroma(luma, chroma[None, None]))
        axis.set(xticks=[], yticks=[])
    axes[-1].set_title("their mean", fontsize=9)
    axes[2].set_title("equally likely colors of one coat", fontsize=9)
    return figure


def draw_discriminator(before, after):
    """Draws photos with the colors of two generators."""
    photos = skimage.data.cat(), skimage.data.coffee(), skimage.data.astronaut()
    colorizers = [ct.Colorizer.load(path) for path in (before, after)]
    rows = []
    for photo in photos:
        gray = ct.to_gray(photo)
        rows.append(
            [gray[..., None], *(each.colorize(gray) for each in colorizers), photo]
        )
    titles = ("gray", "before the discriminator", "after it", "original")
    return ct.plot_rows(rows, titles)


def draw_full_size():
    """Draws chroma of 32 pixels at full size, upsampled bilinearly and along edges."""
    photo = skimage.data.coffee()
    rgb = np.float32(photo) / 255
    luma, chroma = rgb_to_luma(rgb), rgb_to_chroma(rgb)
    height, width = photo.shape[:2]
    scale = WORKING_SIZE / min(height, width)
    working = round(width * scale), round(height * scale)
    small = tuple(side // CHROMA_STRIDE for side in working)

    def resize(plane, size, method=cv2.INTER_AREA):
        return cv2.resize(plane, size, interpolation=method)

    predicted = resize(chroma, small)
    bilinear = resize(predicted, (width, height), cv2.INTER_LINEAR)
    slope, offset = fit_chroma(
        resize(luma[..., 0], working), resize(predicted, working, cv2.INTER_LINEAR)
    )
    painted = paint(ct.to_gray(photo), slope, offset)
    part = np.s_[190:310, 250:420]
    row = [rgb[part], join_luma_chroma(luma, bilinear)[part], painted[part]]
    return ct.plot_rows([row], ("original", "bilinear", "along the edges of the luma"))


def draw_film(path):
    """Draws a film: gray to the left of a moving line, colorized to the right."""
    with tempfile.TemporaryDirectory() as folder:
        gray, color = Path(folder) / "gray.mp4", Path(folder) / "color.mp4"
        write_gray_film(gray)
        ct.Colorizer.pretrained().colorize_film(gray, color)
        pairs = list(zip(read_film(gray), read_film(color), strict=True))
    frames = []
    for number, (before, after) in enumerate(pairs[::SHOWN]):
        width = after.shape[1]
        turn = 2 * np.pi * number * SHOWN / len(pairs)  # it begins where it ends
        line = round(width * (0.4 - 0.3 * np.sin(turn)))
        after[:, :line] = before[:, :line]
        after[:, line - 1 : line + 1] = 255
        frames.append(Image.fromarray(after))
    options = {"duration": 1000 * SHOWN // RATE, "loop": 0, "quality": 60, "method": 6}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def write_gray_film(path):
    """Writes shots of three photographs, with grain and a cut between them."""
    photos = skimage.data.astronaut(), skimage.data.cat(), skimage.data.rocket()
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, {"crf": "16"})
        stream.width, stream.height = FILM_SIZE
        for photo in photos:
            for view in pan(ct.to_gray(photo)):
                view = np.clip(view + rng.normal(0, GRAIN, view.shape), 0, 255)
                frame = av.VideoFrame.from_ndarray(np.uint8(view), "gray")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def pan(photo):
    """Yields views of a photo, from far and left to near and right."""
    height, width = photo.shape
    for t in np.linspace(0, 1, SHOT):
        scale = (0.95 - 0.2 * t) * min(width / FILM_SIZE[0], height / FILM_SIZE[1])
        x = t * (width - scale * FILM_SIZE[0])
        y = 0.2 * (height - scale * FILM_SIZE[1])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = np.float32([[scale, 0, x], [0, scale, y]])
        yield cv2.warpAffine(photo, view, FILM_SIZE, flags=flags)


def read_film(path):
    """Returns the frames of a film, uint8 RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


if __name__ == "__main__":
    main()
