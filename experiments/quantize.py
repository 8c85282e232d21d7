"""Compares the package's generator in float32, bfloat16 and int8.

    pip install nncf
    python experiments/quantize.py data/photos photos/more

It calibrates NNCF's post-training quantization on photos for training, some with hints,
and colors held-out photos. It prints for each precision: milliseconds per photo at
batch 1 and 8, colorfulness, palette distance, and the gains of `compare_generators.py`.
Quantized colors are duller; `--strength` compensates for it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import nncf
import numpy as np
import openvino
from compare_generators import KEPT_OUT, SIDE, choose_photos, colorize, report

import colorizer_tf as ct
from colorizer_tf.color import rgb_to_chroma
from colorizer_tf.hints import HINT_STRIDE
from colorizer_tf.photos import shrink_photo
from colorizer_tf.sources import hash_position

BOX = ct.Colorizer.WEIGHTS.with_suffix(".xml")
SIZE = 128
HINTS = 0, 0, 1, 3, 10, 30


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", help="folders of color photos")
    parser.add_argument("--calibrate", type=int, default=300, help="photos")
    parser.add_argument("--most", type=int, default=8, help="photos of each prefix")
    parser.add_argument("--strength", type=float, default=1.13, help="of int8")
    args = parser.parse_args()
    photos = choose_photos(args.photos, args.most)
    originals = [shrink_photo(ct.read_photo(path), SIDE) for path in photos]
    kinds = [path.stem.split("_")[0] for path in photos]
    with tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / "int8.xml"
        nncf.set_log_level(40)
        examples = nncf.Dataset(list(make_examples(args.photos, args.calibrate)))
        model = openvino.Core().read_model(BOX)
        model = nncf.quantize(model, examples, subset_size=args.calibrate)
        openvino.save_model(model, quantized, compress_to_fp16=False)
        for name, path, precision in (
            ("float32", BOX, "f32"),
            ("bfloat16", BOX, "bf16"),
            ("int8", quantized, "f32"),
        ):
            times = [f"{measure_time(path, precision, n):.1f}" for n in (1, 8)]
            print(f"{name}: {' and '.join(times)} ms a photo at batch 1 and 8")
        for path, strength in ((BOX, 1), (quantized, 1), (quantized, args.strength)):
            results = colorize(ct.Colorizer.load(path), originals, strength)
            report(path.stem, results, originals, kinds, strength, [])


def make_examples(folders, count):
    """Yields gray photos and hints as inputs of the network."""
    rng = np.random.default_rng(0)
    paths = [path for folder in folders for path in ct.find_photos(folder)]
    paths = sorted(path for path in paths if hash_position(path) >= KEPT_OUT)
    for index in rng.choice(len(paths), count, replace=False):
        photo = cv2.resize(ct.read_photo(paths[index]), (SIZE, SIZE))
        cells = SIZE // HINT_STRIDE
        small = cv2.resize(np.float32(photo) / 255, (cells, cells))
        hints = np.zeros((1, cells, cells, 3), np.float32)
        for row, column in rng.integers(cells, size=(rng.choice(HINTS), 2)):
            hints[0, row, column] = 1, *rgb_to_chroma(small[row, column])
        yield np.float32(ct.to_gray(photo))[None, ..., None] / 255, hints


def measure_time(path, precision, count):
    """Returns the least time of thirty runs, in milliseconds per photo."""
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision}
    network = core.compile_model(core.read_model(path), "CPU", settings)
    cells = SIZE // HINT_STRIDE
    inputs = [
        np.random.default_rng(0).random((count, SIZE, SIZE, 1), "f4"),
        np.zeros((count, cells, cells, 3), "f4"),
    ]
    times = []
    for _ in range(30):
        start = time.perf_counter()
        network(inputs)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / count


if __name__ == "__main__":
    main()
