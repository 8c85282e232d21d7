"""A trained generator, used: on a photo of any size, a file, a folder."""

import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from colorizer_tf.color import rgb_to_chroma
from colorizer_tf.folder import colorize_folder
from colorizer_tf.hints import (
    HINT_STRIDE,
    correct_chroma,
    encode_hints,
    share_of_hints,
)
from colorizer_tf.photos import read_gray, to_gray, write_photo
from colorizer_tf.upsampling import paint_chroma

LONGEST = 4
HUB = "hf://"
# As a matrix, NumPy is ten times as fast at it as TensorFlow, op by op.
_RGB_TO_CHROMA = np.asarray(rgb_to_chroma(np.eye(3, dtype=np.float32)))


class Colorizer:
    """Gives gray photos their colours with a trained generator.

    Args:
        generator: a Keras model from gray (B, H, W, 1), or gray and hints
            (B, H / 4, W / 4, 3), to RGB (B, H, W, 3), gray and RGB in [0, 1]. H
            and W may be free, up to strides of 256, or fixed.
        working_size: the network sees the photo scaled down so that its shorter
            side has at most this many pixels, and its longer side at most four
            times as many. Its chroma is brought up again along the edges of the
            luma; the luma of the result is the photo's own.

    Attributes:
        takes_hints: whether the generator takes colours that a person sets.
        network: the generator as a compiled function, from gray, and hints if it
            takes them, to RGB.
        frozen: whether `freeze` was called.
        WEIGHTS: where the generator that comes with the package lies.

    Raises:
        ValueError: the model is none from gray to RGB of the same size.
    """

    WEIGHTS = Path(__file__).parent / "weights/generator.keras"

    def __init__(self, generator, working_size=128):
        if working_size < 1:
            raise ValueError(
                f"working_size must be at least 1. Received: {working_size}"
            )
        self.generator = generator
        self.working_size = working_size
        self.takes_hints = len(_input_shapes(generator)) == 2
        self.frozen = False
        self._fixed_size = _fixed_size(generator)
        self._stride = None if self._fixed_size else _find_stride(generator)
        self.network = self._compile(lambda inputs: generator(inputs, training=False))

    @classmethod
    def load(cls, path, **kwargs):
        """Loads a generator from a `.keras` file, or from the Hugging Face Hub.

        Args:
            path: the file; or "hf://owner/name", a repository that holds what
                `keras.saving.save_model` writes there, or a `generator.keras`.
            **kwargs: as `Colorizer` takes them.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file holds no generator, or it cannot be downloaded.
            ImportError: hf:// without the package `huggingface_hub`.
        """
        if str(path).startswith(HUB):
            path = _download(str(path))
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(
                f"There is no generator {path.absolute()}: train one with "
                "notebooks/02_train.ipynb, or name another file."
            )
        if not zipfile.is_zipfile(path) and not (path / "config.json").is_file():
            raise ValueError(f"{path} is no Keras model: name a .keras file.")
        try:
            generator = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras has no one error for a broken file
            raise ValueError(f"{path} cannot be loaded as a model: {error}") from error
        return cls(generator, **kwargs)

    @classmethod
    def pretrained(cls, **kwargs):
        """Loads the generator that comes with the package."""
        return cls.load(cls.WEIGHTS, **kwargs)

    def freeze(self):
        """Makes the network a third faster on a few photos at a time.

        It then works with the weights that the generator has now: a change of
        theirs, by training say, is not seen any more.
        """
        weights = [
            [variable.numpy() for variable in variables]
            for variables in (
                self.generator.trainable_variables,
                self.generator.non_trainable_variables,
            )
        ]

        def network(inputs):
            # As constants, which TensorFlow prepares once for all calls.
            return self.generator.stateless_call(*weights, inputs, training=False)[0]

        self.network = self._compile(network)
        self.frozen = True

    def colorize(self, photo, strength=1.0, hints=()):
        """Returns a photo in colour.

        Args:
            photo: uint8 or uint16; (H, W), (H, W, 1), RGB (H, W, 3) or RGBA
                (H, W, 4), whose own colours and transparency are dropped.
            strength: scales the colour that is predicted, not that of the hints:
                0 gives the gray photo, or one that they alone colour.
            hints: a list of `Hint`: colours that places of the photo have.

        Returns:
            RGB of the same size and type, (H, W, 3). Turned gray again it is the
            photo that came in, to within a level.

        Raises:
            ValueError: there are hints, and the generator takes none.
        """
        gray = to_gray(photo)
        luma = self.shrink(gray)
        cells = self.encode_hints(hints, luma)
        (chroma,) = self.predict_chroma([luma], [cells])
        return paint_chroma(gray, luma, chroma, strength)

    def colorize_file(self, source, destination, strength=1.0, hints=()):
        """Colorizes a photo file.

        Resolution, EXIF, colour profile and transparency go along where the
        format of the result has them; 16 bits stay 16 in PNG and TIFF.

        Args:
            source: the photo; it is not touched.
            destination: the result, in the format that its ending names; or a
                folder, which is there or whose name has no ending, for a result
                of the same name. What is there already is not replaced.
            strength: scales the colour that is predicted.
            hints: a list of `Hint`: colours that places of the photo have.

        Returns:
            The path of the result.

        Raises:
            PhotoError: the photo cannot be read, or the result not written.
            FileExistsError: there is such a file.
        """
        source, destination = Path(source), Path(destination)
        if destination.is_dir() or not destination.suffix:
            destination = destination / source.name
        if destination.exists():
            raise FileExistsError(
                f"{destination} is there already: name another file, or remove it."
            )
        photo = read_gray(source)
        rgb = self.colorize(photo.gray, strength, hints)
        write_photo(destination, rgb, photo)
        return destination

    def colorize_folder(self, source, destination, strength=1.0, extension=None):
        """Colorizes all photos below a folder; see `folder.colorize_folder`."""
        return colorize_folder(self, source, destination, strength, extension)

    def working_shape(self, height, width):
        """The size, (h, w), at which the network sees a photo of this size."""
        if self._fixed_size:
            scale = min(1, self._fixed_size[0] / height, self._fixed_size[1] / width)
        else:
            scale = min(
                1,
                self.working_size / min(height, width),
                LONGEST * self.working_size / max(height, width),
            )
        return max(1, round(scale * height)), max(1, round(scale * width))

    def network_shape(self, height, width):
        """The size of the network's input for photos that it sees at this size."""
        if self._fixed_size:
            return self._fixed_size
        return height + -height % self._stride, width + -width % self._stride

    def shrink(self, gray):
        """Returns the luma that the network sees of a gray photo.

        float32 (h, w) in [0, 1], from uint8 or uint16 (H, W).
        """
        height, width = self.working_shape(*gray.shape)
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

    def predict_chroma(self, lumas, hints=None):
        """Runs the network on photos that share one `network_shape`.

        Args:
            lumas: a list of float32 (h, w), as `shrink` returns them.
            hints: for each photo what `encode_hints` returns, or None.

        Returns:
            A list of chroma (Cb, Cr), float32 (h, w, 2); with hints (h, w, 3), see
            `hints.scale_chroma`.
        """
        # What is missing to the network's size is filled by mirroring the edge,
        # and cut off afterwards.
        batch = np.stack([self._pad(luma) for luma in lumas])[..., None]
        hints = hints or [None] * len(lumas)
        chromas = [
            chroma[: len(luma), : luma.shape[1]]
            for chroma, luma in zip(self._run(batch, hints), lumas, strict=True)
        ]
        hinted = [at for at, cells in enumerate(hints) if cells is not None]
        if hinted:  # what hints reach is what the network makes otherwise for them
            plain = self._run(batch[hinted], [None] * len(hinted))
            for at, own in zip(hinted, plain, strict=True):
                own = own[: len(lumas[at]), : lumas[at].shape[1]]
                chroma, near = correct_chroma(chromas[at], hints[at], lumas[at])
                chromas[at] = np.dstack([chroma, share_of_hints(chroma, near, own)])
        return chromas

    def _run(self, batch, hints):
        """The network's chroma, (B, H, W, 2), of photos of its own size."""
        inputs = [batch, _stack_hints(hints, batch)] if self.takes_hints else batch
        rgb = np.asarray(self.network(inputs), np.float32)
        if rgb.shape != (*batch.shape[:3], 3) or not np.isfinite(rgb).all():
            raise ValueError(
                f"The generator must return finite RGB of shape {batch.shape[:3]} + "
                f"(3,). Received: shape {rgb.shape}, or NaN."
            )
        return rgb @ _RGB_TO_CHROMA

    def _compile(self, network):
        """One graph for all sizes, or one for each where the model needs to know."""
        try:
            specs = [tf.TensorSpec(shape) for shape in _input_shapes(self.generator)]
            signature = [specs if self.takes_hints else specs[0]]
            compiled = tf.function(network, input_signature=signature)
            compiled.get_concrete_function()
            return compiled
        except Exception:  # such as UpSampling2D("bilinear"), in whatever way it fails
            return tf.function(network)

    def _pad(self, luma):
        height, width = self.network_shape(*luma.shape)
        bottom, right = height - luma.shape[0], width - luma.shape[1]
        return cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REFLECT)


def _stack_hints(hints, batch):
    """The hints of a batch of photos, (B, H, W, 1), as (B, H / 4, W / 4, 3)."""
    count, height, width, _ = batch.shape
    stacked = np.zeros((count, height // HINT_STRIDE, width // HINT_STRIDE, 3), "f4")
    for given, cells in zip(stacked, hints, strict=True):
        if cells is not None:
            given[: cells.shape[0], : cells.shape[1]] = cells
    return stacked


def _input_shapes(generator):
    # A subclassed model may not tell: it takes gray photos of any size.
    inputs = getattr(generator, "inputs", None)
    return [tuple(x.shape) for x in inputs] if inputs else [(None, None, None, 1)]


def _download(address):
    """Returns where the model of hf://owner/name lies, downloaded if need be."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{address} needs huggingface_hub, which is not installed: "
            "pip install huggingface_hub"
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id=address.removeprefix(HUB),
            allow_patterns=["generator.keras", "*.json", "model.weights.*"],
            library_name="keras",
        )
    except Exception as error:  # no such repository, no network, no access
        raise ValueError(f"{address} cannot be downloaded: {error}") from error
    file, config = Path(folder) / "generator.keras", Path(folder) / "config.json"
    if not file.is_file() and not config.is_file():
        raise ValueError(
            f"{address} holds no Keras model: neither generator.keras nor config.json."
        )
    return file if file.is_file() else folder


def _fixed_size(generator):
    size = _input_shapes(generator)[0][1:3]
    return size if all(size) else None


def _find_stride(generator):
    """The smallest multiple of 32 that the model takes as height and width."""
    errors = []
    for size in range(32, 257, 32):
        try:
            # Real zeros: Keras' own inference of shapes lets wrong ones pass.
            gray = np.zeros((1, size, size, 1), np.float32)
            cells = size // HINT_STRIDE
            hints = np.zeros((1, cells, cells, 3), np.float32)
            inputs = [gray, hints] if len(_input_shapes(generator)) == 2 else gray
            shape = generator(inputs).shape
        except Exception as error:  # a model may fail in any way at a wrong size
            errors.append(error)
            continue
        if tuple(shape) == (1, size, size, 3):
            return size
        errors.append(f"it returns the shape {tuple(shape)} for {size}x{size} pixels")
    raise ValueError(
        "The generator must take gray (B, H, W, 1) and return RGB (B, H, W, 3), for "
        f"H and W that are a multiple of 256 or less: {errors[0]}"
    )
