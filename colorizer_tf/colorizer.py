"""Colors photos, files, folders and films with a trained generator."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from colorizer_tf.files import check_free
from colorizer_tf.film_hints import FilmHint
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
from colorizer_tf.report import Report
from colorizer_tf.suggestions import choose_variants, look_around, suggest_colors

if TYPE_CHECKING:
    import keras

    from colorizer_tf.film import FilmReport

WORKING_SIZE = 192
# Small photos are seen at three quarters of their size, but with 128 pixels at least:
# more takes time, and those of 160 pixels lose by it.
SMALL_SIZE, SHARE = 128, 0.75
LONGEST = 4
# `shrink` halves photos that are larger than the network's view by this factor.
HALVE_FROM = 6


class Colorizer:
    """Colors gray photos with a trained generator.

    The network predicts the chroma of a smaller copy of the photo. `painting` brings
    it to full size along the edges of the luma. The result keeps the photo's luma.

    Args:
        generator: a Keras model or a `Network`. A model maps gray (B, H, W, 1), or
            gray and hints (B, H / 4, W / 4, 3), to RGB (B, H, W, 3). Gray and RGB
            are in [0, 1]. H and W are fixed, or free with a stride of at most 256.
        working_size: the most pixels at the shorter side of the photo, as the network
            sees it. The longer side has at most four times as many. A photo is seen
            at three quarters of its size at most, or with 128 pixels at the shorter
            side if these are more. It is never enlarged.

    Attributes:
        takes_hints: whether the generator takes colors that a person sets.
        network: the function from gray and hints to chroma: a `network.Network`, or
            a `network.KerasNetwork` for a Keras model.
        WEIGHTS: the path of the generator in the package.

    Raises:
        ValueError: the model does not map gray to RGB of the same size, or
            `working_size` is below 1.

    Example:

    ```python
    colorizer = ct.Colorizer.pretrained()
    rgb = colorizer.colorize(ct.read_photo("scan.jpg"))
    colorizer.colorize_file("scan.jpg", "colors.jpg")
    ```
    """

    WEIGHTS = Path(__file__).parent / "weights/generator.keras"

    def __init__(
        self,
        generator: "keras.Model | Network | KerasNetwork",
        working_size: int = WORKING_SIZE,
    ) -> None:
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
    def generator(self) -> "keras.Model":
        """The Keras model. A network on OpenVINO loads it from its `.keras` file."""
        return self.network.generator

    @classmethod
    def load(
        cls, path: str | os.PathLike, threads: int | None = None, **kwargs: Any
    ) -> Self:
        """Loads a generator.

        Args:
            path: a `.keras` file, the `.xml` file of an export, or "hf://owner/name".
            threads: the number of threads of the network; None uses all processors.
            **kwargs: other arguments of `Colorizer`.

        Raises:
            FileNotFoundError, ValueError, ImportError: as for `network.load_network`.
        """
        return cls(load_network(path, threads), **kwargs)

    @classmethod
    def pretrained(cls, **kwargs: Any) -> Self:
        """Loads the generator in the package.

        Args:
            **kwargs: arguments of `load` and `Colorizer`, such as `threads`.
        """
        return cls.load(cls.WEIGHTS, **kwargs)

    def colorize(
        self, photo: np.ndarray, strength: float = 1.0, hints: Sequence[Hint] = ()
    ) -> np.ndarray:
        """Colors a photo.

        Args:
            photo: uint8 or uint16; (H, W), (H, W, 1), RGB (H, W, 3) or RGBA
                (H, W, 4). Its own colors and transparency are dropped.
            strength: the factor of the predicted color, at least 0. Hints keep their
                color: 0 without hints gives the gray photo.
            hints: the known colors of places.

        Returns:
            RGB of the same size and type, (H, W, 3). Its luma is the photo's, to
            within a level.

        Raises:
            ValueError: the photo has another type or shape, the strength is below 0,
                or the generator takes no hints.
        """
        prepared = prepare(self, GrayPhoto(to_gray(photo)), strength, hints)
        predict(self, [prepared])
        return prepared.paint()

    def suggest(
        self,
        photo: np.ndarray,
        x: float,
        y: float,
        count: int = 6,
        hints: Sequence[Hint] = (),
    ) -> list[tuple[str, float]]:
        """Returns the likely colors of a place of a photo.

        The predicted color comes first, then the most probable ones. They have the
        luma of the place, and differ by a CIEDE2000 of at least 10.

        Args:
            photo: as for `colorize`.
            x, y: the place, as in `Hint`.
            count: the largest number of colors.
            hints: the hints that are already set.

        Returns:
            Pairs (color "#rrggbb", probability).

        Raises:
            HintError: the place is outside the photo.
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

    def variants(
        self,
        photo: np.ndarray,
        count: int = 4,
        strength: float = 1.0,
        hints: Sequence[Hint] = (),
    ) -> list[np.ndarray]:
        """Returns several results, which differ where the network is uncertain.

        The first result is that of `colorize`. The second has another likely color at
        one place, where a large object could have several. The third and the fourth
        have a cooler and a warmer tone. Each further one differs at one place again.

        Args:
            photo, strength, hints: as for `colorize`.
            count: the largest number of results.

        Returns:
            RGB photos of the same size and type, (H, W, 3).

        Raises:
            ValueError: the count is below 1, or the generator has no output `likely`.
        """
        gray = to_gray(photo)
        return [
            self.colorize(gray, strength, [*hints, *more])
            for more in self.find_variants(gray, count, hints)
        ]

    def find_variants(
        self, photo: np.ndarray, count: int = 4, hints: Sequence[Hint] = ()
    ) -> list[list[Hint]]:
        """Returns the hints that `variants` adds: a list for each result.

        Args:
            photo, count, hints: as for `variants`.

        Raises:
            ValueError: the count is below 1, or the generator has no output `likely`.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1. Received: {count}")
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
        predicted, likely = self.network.with_likely(batch, grids)
        (chroma,) = _crop(predicted, [luma])
        if grid is not None:
            chroma, _ = correct_chroma(chroma, grid, luma)
        height, width = (-(-side // HINT_STRIDE) for side in luma.shape)
        return likely[0, :height, :width], chroma

    def colorize_file(
        self,
        source: str | os.PathLike,
        destination: str | os.PathLike,
        strength: float = 1.0,
        hints: Sequence[Hint] = (),
    ) -> Path:
        """Colors a photo file.

        The result keeps resolution, EXIF, color profile and transparency if its
        format has them. PNG and TIFF keep 16 bits.

        Args:
            source: the photo.
            destination: the result; its extension names the format. Or a folder, for
                a result with the name of the source. A name without an extension is
                a folder.
            strength, hints: as for `colorize`.

        Returns:
            The path of the result.

        Raises:
            PhotoError: the photo cannot be read, or the result cannot be written.
            FileExistsError: the result exists; it is not replaced.
            ValueError: the strength is below 0, or the generator takes no hints.
        """
        path = _name_result(source, destination)
        check_free(path)
        self._write(read_gray(source), path, strength, hints)
        return path

    def colorize_variants(
        self,
        source: str | os.PathLike,
        destination: str | os.PathLike,
        count: int = 4,
        strength: float = 1.0,
        hints: Sequence[Hint] = (),
    ) -> list[Path]:
        """Writes the `variants` of a photo file.

        Args:
            source, strength, hints: as for `colorize_file`.
            destination: "colors.jpg" gives "colors (1).jpg", "colors (2).jpg" and so
                on. The first is the result of `colorize_file`.
            count: the largest number of results.

        Returns:
            The paths of the results.

        Raises:
            PhotoError, FileExistsError: as for `colorize_file`.
            ValueError: the count is below 1, or the generator has no output `likely`.
        """
        result = _name_result(source, destination)
        paths = [
            result.with_stem(f"{result.stem} ({number})")
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

    def colorize_folder(
        self,
        source: str | os.PathLike,
        destination: str | os.PathLike,
        strength: float = 1.0,
        extension: str | None = None,
    ) -> Report:
        """Colors all photos below a folder; see `folder.colorize_folder`."""
        return colorize_folder(self, source, destination, strength, extension)

    def colorize_film(
        self,
        source: str | os.PathLike,
        destination: str | os.PathLike,
        strength: float = 1.0,
        hints: Sequence[FilmHint] = (),
    ) -> "FilmReport":
        """Colors a film; see `film.colorize_film`.

        Raises:
            ImportError: PyAV is not installed.
        """
        from colorizer_tf.film import colorize_film

        return colorize_film(self, source, destination, strength, hints)

    def working_shape(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (h, w) at which the network sees a photo of this size."""
        if self.network.fixed_size:
            scale = min(
                1,
                self.network.fixed_size[0] / height,
                self.network.fixed_size[1] / width,
            )
        else:
            shorter, longer = sorted((height, width))
            size = min(self.working_size, max(SMALL_SIZE, SHARE * shorter))
            scale = min(1, size / shorter, LONGEST * size / longer)
        return max(1, round(scale * height)), max(1, round(scale * width))

    def network_shape(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (h, w) of the network's input for a working shape.

        Args:
            height, width: as from `working_shape`.
        """
        if self.network.fixed_size:
            return self.network.fixed_size
        stride = self.network.stride or 1
        return height + -height % stride, width + -width % stride

    def shrink(self, gray: np.ndarray) -> np.ndarray:
        """Returns a gray photo at the size and type that the network sees.

        Args:
            gray: uint8 or uint16, (H, W).

        Returns:
            Luma, float32 (h, w), in [0, 1].
        """
        height, width = self.working_shape(*gray.shape)
        white = np.iinfo(gray.dtype).max
        # In OpenCV, means of 2x2 pixels are twenty times as fast as of other areas.
        while min(gray.shape[0] // height, gray.shape[1] // width) >= HALVE_FROM:
            half = gray.shape[1] // 2, gray.shape[0] // 2
            even = gray[: 2 * half[1], : 2 * half[0]]
            gray = cv2.resize(even, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / white

    def encode_hints(
        self, hints: Sequence[Hint], luma: np.ndarray
    ) -> np.ndarray | None:
        """Returns hints in the form that `predict_chroma` takes.

        Args:
            hints: the hints.
            luma: the photo, as from `shrink`.

        Returns:
            float32 (h', w', 3), as from `hints.encode_hints`; None without hints.

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

    def predict_chroma(
        self,
        lumas: Sequence[np.ndarray],
        hints: Sequence[np.ndarray | None] | None = None,
        strengths: Sequence[float] | None = None,
    ) -> list[np.ndarray]:
        """Runs the network on photos that share one `network_shape`.

        Args:
            lumas: float32 (h, w) each, as from `shrink`.
            hints: for each photo the result of `encode_hints`.
            strengths: for each photo the factor of the predicted color; 1 by default.

        Returns:
            Chroma (Cb, Cr) of each photo, float32 (h, w, 2).

        Raises:
            ValueError: the network returns NaN or infinity.
        """
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
            if strength != 1:  # a comparison shows what the hints change
                (own,) = self._run(batch[at : at + 1], [None], [luma])
                chromas[at] = scale_chroma(chromas[at], near, own, strength)
        return chromas

    def _run(self, batch, hints, lumas):
        grids = _stack_hints(hints, batch) if self.takes_hints else None
        return _crop(self.network(batch, grids), lumas)

    def _pad(self, luma):
        height, width = self.network_shape(*luma.shape)
        bottom, right = height - luma.shape[0], width - luma.shape[1]
        return cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REFLECT)


def _crop(chromas, lumas):
    """Returns the part of each chroma that is the photo's, without the padding."""
    if not np.isfinite(chromas).all():
        raise ValueError("The generator must return finite RGB. Received: NaN")
    return [
        chroma[: len(luma), : luma.shape[1]]
        for chroma, luma in zip(chromas, lumas, strict=True)
    ]


def _luma_at(gray, x, y):
    """Returns the mean luma around a place, in [0, 1]."""
    height, width = gray.shape
    radius = max(2, min(height, width) // 200)
    row, column = int(y * (height - 1)), int(x * (width - 1))
    spot = np.s_[
        max(row - radius, 0) : row + radius + 1,
        max(column - radius, 0) : column + radius + 1,
    ]
    return gray[spot].mean() / np.iinfo(gray.dtype).max


def _name_result(source: str | os.PathLike, destination: str | os.PathLike) -> Path:
    path = Path(destination)
    if path.is_dir() or not path.suffix:
        return path / Path(source).name
    return path


def _stack_hints(hints, batch):
    """Returns the hints of a batch, (B, H, W, 1), as (B, H / 4, W / 4, 3)."""
    count, height, width, _ = batch.shape
    stacked = np.zeros((count, height // HINT_STRIDE, width // HINT_STRIDE, 3), "f4")
    for given, cells in zip(stacked, hints, strict=True):
        if cells is not None:
            given[: cells.shape[0], : cells.shape[1]] = cells
    return stacked
