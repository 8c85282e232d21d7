"""A trained generator, used: on a photo of any size."""

from pathlib import Path

import cv2
import keras
import numpy as np

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma

STRIDE = 32


class Colorizer:
    """Gives gray photos their colours with a trained generator.

    Args:
        generator: a Keras model from gray (B, H, W, 1) to RGB (B, H, W, 3), in
            [0, 1], for H and W that are multiples of 32.
        working_size: the network sees the photo scaled down so that its shorter
            side has at most this many pixels; its chroma is brought up again,
            the luma of the result is the photo's own.
    """

    def __init__(self, generator, working_size=128):
        self.generator = generator
        self.working_size = working_size

    @classmethod
    def load(cls, path, **kwargs):
        """Loads a generator from a `.keras` file.

        Raises:
            FileNotFoundError: no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no generator {path.absolute()}: train one with "
                "notebooks/02_train.ipynb, or name another file."
            )
        return cls(keras.models.load_model(path, compile=False), **kwargs)

    def colorize(self, photo):
        """Returns a photo in colour.

        Args:
            photo: uint8 (H, W), (H, W, 1), or RGB (H, W, 3), whose own colours
                are dropped.

        Returns:
            uint8 RGB of the same size, (H, W, 3). Turned gray again it is the
            photo that came in, to within a level.
        """
        gray = _to_gray(np.asarray(photo))
        height, width = gray.shape
        scale = min(1, self.working_size / min(height, width))
        small = cv2.resize(
            gray,
            (max(1, round(scale * width)), max(1, round(scale * height))),
            interpolation=cv2.INTER_AREA,
        )
        chroma = cv2.resize(self._predict_chroma(small), (width, height))
        rgb = np.asarray(join_luma_chroma(gray[..., None], chroma))
        return (255 * rgb).round().astype(np.uint8)

    def _predict_chroma(self, gray):
        # The network takes multiples of its strides: what is missing is filled
        # by repeating the edge, and cut off afterwards.
        height, width = gray.shape
        padded = cv2.copyMakeBorder(
            gray, 0, -height % STRIDE, 0, -width % STRIDE, cv2.BORDER_REPLICATE
        )
        rgb = self.generator.predict_on_batch(padded[None, ..., None])[0]
        return np.asarray(rgb_to_chroma(rgb))[:height, :width]


def _to_gray(photo):
    if photo.dtype != np.uint8:
        raise ValueError(f"The photo must be uint8. Received: {photo.dtype}")
    if photo.ndim == 3 and photo.shape[-1] == 1:
        photo = photo[..., 0]
    elif photo.ndim == 3 and photo.shape[-1] == 3:
        return cv2.cvtColor(np.float32(photo) / 255, cv2.COLOR_RGB2GRAY)
    if photo.ndim != 2 or not photo.size:
        raise ValueError(
            "The photo must be (H, W), (H, W, 1) or (H, W, 3), and not empty. "
            f"Received: shape {photo.shape}"
        )
    return np.float32(photo) / 255
