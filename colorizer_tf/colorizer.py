"""A trained generator, used: on a photo of any size, a file, a folder."""

from pathlib import Path

import cv2
import numpy as np

from colorizer_tf.files import check_free
from colorizer_tf.folder import colorize_folder
from colorizer_tf.hints import (
    HINT_STRIDE,
    Hint,
    correct_chroma,
    encode_hints,
    place_in_grid,
    scale_chroma,
)
from colorizer_tf.network import KerasNetwork, Network, load_network
from colorizer_tf.photos import GrayPhoto, read_gray, to_gray
from colorizer_tf.pipeline import predict, prepare
from colorizer_tf.suggestions import choose_variants, look_around, suggest_colors

WORKING_SIZE = 128
LONGEST = 4
# A photo that is larger than the network's view by this factor is halved first.
HALVE_FROM = 8


class Colorizer:
    """Gives gray photos their colors with a trained generator.

    Args:
        generator: a Keras model from gray (B, H, W, 1), or gray and hints
            (B, H / 4, W / 4, 3), to RGB (B, H, W, 3), gray and RGB in [0, 1]. H
            and W may be free, up to strides of 256, or fixed. Or a `Network`.
        working_size: the network sees the photo scaled down so that its shorter
            side has at most this many pixels, and its longer side at most four
            times as many. Its chroma is brought up again along the edges of the
            luma; the luma of the result is the photo's own.

    Attributes:
        takes_hints: whether the generator takes colors that a person sets.
        network: the generator as a function from gray, and hints, to chroma; a
            `network.Network`, or a `network.KerasNetwork` of a Keras model.
        WEIGHTS: where the generator that comes with the package lies.

    Raises:
        ValueError: the model is none from gray to RGB of the same size.
    """

    WEIGHTS = Path(__file__).parent / "weights/generator.keras"

    def __init__(self, generator, working_size=WORKING_SIZE):
        if working_size < 1:
            raise ValueError(
                f"working_size must be at least 1. Received: {working_size}"
            )
        if not isinstance(generator, Network | KerasNetwork):
            generator = KerasNetwork(generator)
        self.network = generator
        self.working_size = working_size
        self.takes_hints = self.network.takes_hints

    @property
    def generator(self):
        """The Keras model; it is loaded anew if the network runs without Keras."""
        return self.network.generator

    @classmethod
    def load(cls, path, threads=None, **kwargs):
        """Loads a generator; arguments and errors are those of `load_network`.

        Args:
            path: a `.keras` file, the `.xml` file of an export, or "hf://owner/name".
            threads: that the network computes with; None takes all processors.
            **kwargs: as `Colorizer` takes them.
        """
        return cls(load_network(path, threads), **kwargs)

    @classmethod
    def pretrained(cls, **kwargs):
        """Loads the generator that comes with the package."""
        return cls.load(cls.WEIGHTS, **kwargs)

    def colorize(self, photo, strength=1.0, hints=()):
        """Returns a photo in color.

        Args:
            photo: uint8 or uint16; (H, W), (H, W, 1), RGB (H, W, 3) or RGBA
                (H, W, 4), whose own colors and transparency are dropped.
            strength: scales the color that is predicted, not that of the hints:
                0 gives the gray photo, or one that hints alone color.
            hints: a list of `Hint`: colors that places of the photo have.

        Returns:
            RGB of the same size and type, (H, W, 3). Turned gray again it is the
            photo that came in, to within a level.

        Raises:
            ValueError: there are hints, and the generator takes none.
        """
        photo = prepare(self, GrayPhoto(to_gray(photo)), strength, hints)
        predict(self, [photo])
        return photo.paint()

    def suggest(self, photo, x, y, count=6, hints=()):
        """Returns colors that are likely at a place of a photo.

        Args:
            photo: as `colorize` takes it.
            x, y: the place, as `Hint` has it.
            count: of colors, at most.
            hints: a list of `Hint` that are set already.

        Returns:
            A list of (color "#rrggbb", probability): the automatic one, then the most
            probable ones, CIEDE2000 of 10 or more apart, at the luma of the place.

        Raises:
            ValueError: the generator has no output `likely`.

        Example:

        ```python
        colorizer.suggest(photo, x=0.41, y=0.33)  # [("#8c4a3b", 0.31), ...]
        ```
        """
        place, gray = Hint(x, y, "#000000"), to_gray(photo)
        luma = self.shrink(gray)
        likely, chroma = self._predict_likely(luma, hints)
        around = look_around(likely, chroma, luma, *place_in_grid(place, luma))
        probabilities, _, automatic = around
        return suggest_colors(probabilities, _luma_at(gray, x, y), automatic, count)

    def variants(self, photo, count=4, strength=1.0, hints=()):
        """Returns whole results that differ where the network is in doubt.

        The first one is what `colorize` returns. Each other one has another likely
        color at a place where a large thing could have several.

        Args:
            photo, strength, hints: as `colorize` takes them.
            count: of results, at most.

        Returns:
            A list of RGB photos of the same size and type, (H, W, 3).

        Raises:
            ValueError: the generator has no output `likely`.
        """
        gray = to_gray(photo)
        return [
            self.colorize(gray, strength, [*hints, *more])
            for more in self.find_variants(gray, count, hints)
        ]

    def find_variants(self, photo, count=4, hints=()):
        """Returns what `variants` sets: for each result a list of hints to add.

        Args:
            photo, count, hints: as for `variants`.
        """
        luma = self.shrink(to_gray(photo))
        likely, chroma = self._predict_likely(luma, hints)
        return [[], *choose_variants(likely, chroma, luma, count - 1)]

    def _predict_likely(self, luma, hints):
        if not self.network.suggests:
            raise ValueError(
                'This generator suggests no colors: it has no output "likely". Take '
                "the one in the package, or add it with training.models.add_likely."
            )
        grid = self.encode_hints(hints, luma)
        batch = self._pad(luma)[None, ..., None]
        grids = _stack_hints([grid], batch) if self.takes_hints else None
        height, width = (-(-side // HINT_STRIDE) for side in luma.shape)
        likely = self.network.likely(batch, grids)[0, :height, :width]
        return likely, self.predict_chroma([luma], [grid])[0]

    def colorize_file(self, source, destination, strength=1.0, hints=()):
        """Colorizes a photo file.

        Resolution, EXIF, color profile and transparency go along where the
        format of the result has them; 16 bits stay 16 in PNG and TIFF.

        Args:
            source: the photo; it is not touched.
            destination: the result, in the format that its ending names; or a
                folder, which is there or whose name has no ending, for a result
                of the same name. What is there already is not replaced.
            strength: as in `colorize`.
            hints: a list of `Hint`: colors that places of the photo have.

        Returns:
            The path of the result.

        Raises:
            PhotoError: the photo cannot be read, or the result not written.
            FileExistsError: there is such a file.
        """
        destination = _name_result(source, destination)
        check_free(destination)
        self._write(read_gray(source), destination, strength, hints)
        return destination

    def colorize_variants(self, source, destination, count=4, strength=1.0, hints=()):
        """Writes the `variants` of a photo file.

        Args:
            source, strength, hints: as for `colorize_file`.
            destination: "colors.jpg" gives "colors (1).jpg", "colors (2).jpg" and so
                on; the first is what `colorize_file` gives.
            count: of results, at most.

        Returns:
            The paths of the results.

        Raises:
            PhotoError, FileExistsError: as `colorize_file`.
            ValueError: the generator has no output `likely`.
        """
        destination = _name_result(source, destination)
        paths = [
            destination.with_stem(f"{destination.stem} ({number})")
            for number in range(1, count + 1)
        ]
        for path in paths:
            check_free(path)
        photo = read_gray(source)
        variants = self.find_variants(photo.gray, count, hints)
        for path, more in zip(paths, variants, strict=False):
            self._write(photo, path, strength, [*hints, *more])
        return paths[: len(variants)]

    def _write(self, source, destination, strength, hints):
        photo = prepare(self, source, strength, hints)
        predict(self, [photo])
        photo.write(destination)

    def colorize_folder(self, source, destination, strength=1.0, extension=None):
        """Colorizes all photos below a folder; see `folder.colorize_folder`."""
        return colorize_folder(self, source, destination, strength, extension)

    def colorize_film(self, source, destination, strength=1.0, hints=()):
        """Colorizes a film; see `film.colorize_film`.

        Raises:
            ImportError: PyAV is not installed.
        """
        from colorizer_tf.film import colorize_film

        return colorize_film(self, source, destination, strength, hints)

    def working_shape(self, height, width):
        """The size, (h, w), at which the network sees a photo of this size."""
        if self.network.fixed_size:
            scale = min(
                1,
                self.network.fixed_size[0] / height,
                self.network.fixed_size[1] / width,
            )
        else:
            scale = min(
                1,
                self.working_size / min(height, width),
                LONGEST * self.working_size / max(height, width),
            )
        return max(1, round(scale * height)), max(1, round(scale * width))

    def network_shape(self, height, width):
        """The size of the network's input for photos that it sees at this size."""
        if self.network.fixed_size:
            return self.network.fixed_size
        return (
            height + -height % self.network.stride,
            width + -width % self.network.stride,
        )

    def shrink(self, gray):
        """Returns the luma that the network sees of a gray photo.

        float32 (h, w) in [0, 1], from uint8 or uint16 (H, W).
        """
        height, width = self.working_shape(*gray.shape)
        # Means of 2x2 pixels are twenty times as fast as those of other areas.
        while min(gray.shape[0] // height, gray.shape[1] // width) >= HALVE_FROM:
            half = gray.shape[1] // 2, gray.shape[0] // 2
            even = gray[: 2 * half[1], : 2 * half[0]]
            gray = cv2.resize(even, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        return np.float32(small) / np.iinfo(gray.dtype).max

    def encode_hints(self, hints, luma):
        """Returns what `predict_chroma` is told of a photo's hints.

        Args:
            hints: a list of `Hint`.
            luma: the photo, as `shrink` returns it.

        Returns:
            float32 (h', w', 3), see `hints.encode_hints`; None without hints.

        Raises:
            ValueError: there are hints, and the generator takes none.
        """
        if not hints:
            return None
        if not self.takes_hints:
            raise ValueError(
                "This generator takes no hints: train one with "
                "build_generator(hints=True), or take the one in the package."
            )
        return encode_hints(hints, luma)

    def predict_chroma(self, lumas, hints=None, strengths=None):
        """Runs the network on photos that share one `network_shape`.

        Args:
            lumas: a list of float32 (h, w), as `shrink` returns them.
            hints: for each photo what `encode_hints` returns, or None.
            strengths: for each photo what scales the colors that are not of its
                hints; 1 by default.

        Returns:
            A list of chroma (Cb, Cr), float32 (h, w, 2).
        """
        # What is missing to the network's size is filled by mirroring the edge,
        # and cut off afterwards.
        batch = np.stack([self._pad(luma) for luma in lumas])[..., None]
        hints = hints or [None] * len(lumas)
        strengths = strengths or [1.0] * len(lumas)
        chromas = self._run(batch, hints, lumas)
        for at, (luma, cells, strength) in enumerate(
            zip(lumas, hints, strengths, strict=True)
        ):
            if cells is None:
                chromas[at] = strength * chromas[at]
                continue
            chromas[at], near = correct_chroma(chromas[at], cells, luma)
            if strength != 1:  # what hints reach is what is otherwise without them
                (own,) = self._run(batch[at : at + 1], [None], [luma])
                chromas[at] = scale_chroma(chromas[at], near, own, strength)
        return chromas

    def _run(self, batch, hints, lumas):
        grids = _stack_hints(hints, batch) if self.takes_hints else None
        predicted = self.network(batch, grids)
        if not np.isfinite(predicted).all():
            raise ValueError("The generator must return finite RGB. Received: NaN")
        return [
            chroma[: len(luma), : luma.shape[1]]
            for chroma, luma in zip(predicted, lumas, strict=True)
        ]

    def _pad(self, luma):
        height, width = self.network_shape(*luma.shape)
        bottom, right = height - luma.shape[0], width - luma.shape[1]
        return cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REFLECT)


def _luma_at(gray, x, y):
    """The mean luma of a spot of a photo, in [0, 1]."""
    height, width = gray.shape
    radius = max(2, min(height, width) // 200)
    row, column = int(y * (height - 1)), int(x * (width - 1))
    spot = np.s_[
        max(row - radius, 0) : row + radius + 1,
        max(column - radius, 0) : column + radius + 1,
    ]
    return gray[spot].mean() / np.iinfo(gray.dtype).max


def _name_result(source, destination):
    destination = Path(destination)
    if destination.is_dir() or not destination.suffix:
        return destination / Path(source).name
    return destination


def _stack_hints(hints, batch):
    """The hints of a batch of photos, (B, H, W, 1), as (B, H / 4, W / 4, 3)."""
    count, height, width, _ = batch.shape
    stacked = np.zeros((count, height // HINT_STRIDE, width // HINT_STRIDE, 3), "f4")
    for given, cells in zip(stacked, hints, strict=True):
        if cells is not None:
            given[: cells.shape[0], : cells.shape[1]] = cells
    return stacked
