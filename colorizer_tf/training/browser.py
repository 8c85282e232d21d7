"""Exports a trained generator for browsers, as one ONNX graph.

The graph maps a photo's luma, at the network's size, to the slope and offset that
`painting` uses. It encodes hints, pads to the stride, runs the network, corrects
chroma at hints, applies the strength, and fits chroma to luma. It repeats the
arithmetic of `hints`, `colorizer` and `painting` in `keras.ops`.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from keras import ops

from colorizer_tf.color import join_luma_chroma, rgb_to_chroma
from colorizer_tf.hints import (
    BLENDING,
    HINT_STRIDE,
    LEAST_CHROMA,
    LUMA_OF_A_STEP,
    OWN,
    REACH,
    THEIRS,
)
from colorizer_tf.network import (
    FACTS,
    ExportError,
    find_stride,
    hash_file,
    input_shapes,
    load_generator,
)
from colorizer_tf.painting import CHROMA_SUBSAMPLING, EPSILON, SIGMA
from colorizer_tf.training import keras, tf

OPSET = 17
FAR = 1e6  # more than any distance of two cells
# (down, right) of the eight cells around a cell.
NEIGHBORS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
SCALES = np.linspace(0, 2, 65, dtype=np.float32)
RGB_TO_XYZ = np.float32(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
# The size of the file; arrays of fewer weights stay in 32 bits.
MAX_BYTES, LEAST = 7_900_000, 1024


class BrowserGraph(keras.Model):
    """A generator with the steps before and after it.

    It maps a list of three tensors to slope and offset of (Cb, Cr), float32
    (4, h', w'); see `painting.fit_chroma`:

    - luma: float32 (h, w), in [0, 1].
    - hints: float32 (n, 5), n at least 1: x, y, and red, green and blue, in [0, 1].
      Rows with an x below 0 are ignored.
    - strength: float32 (1,), the factor of the predicted color.

    Args:
        generator: a functional Keras model; see `Colorizer`.

    Raises:
        ExportError: the generator takes photos of one size alone.
    """

    def __init__(self, generator):
        super().__init__()
        shapes = input_shapes(generator)
        if all(shapes[0][1:3]):
            raise ExportError("The generator takes photos of one size alone.")
        # A browser needs no output `likely`.
        self.generator = keras.Model(generator.inputs, generator.outputs[0])
        self.takes_hints = len(shapes) == 2
        self.stride = find_stride(generator)

    def call(self, inputs):
        luma, hints, strength = inputs
        chroma = self._predict_chroma(luma, hints, strength[0])
        return ops.concatenate(fit_chroma(luma, chroma))

    def _predict_chroma(self, luma, hints, strength):
        """Returns (Cb, Cr), (2, h, w)."""
        height, width = _size(luma)
        padded = _pad(luma, self.stride)
        if not self.takes_hints:
            return strength * self._run(padded[None], None)[0, :, :height, :width]
        place, hinted = encode_hints(hints, luma)
        told = ops.concatenate([ops.ones_like(hinted[:, :1]), hinted], axis=1)
        grid = ops.reshape(ops.transpose(place) @ told, (*_cells(luma), 3))
        grid = _fill(grid, _cells(padded))
        # `scale_chroma` needs the prediction without hints only in this case.
        twice = (ops.max(place) > 0) & (strength != 1)
        photos = ops.arange(1 + ops.cast(twice, "int32"))
        grids = ops.take(ops.stack([grid, ops.zeros_like(grid)]), photos, axis=0)
        lumas = ops.take(ops.stack([padded, padded]), photos, axis=0)
        predicted = self._run(lumas, grids)[:, :, :height, :width]
        chroma, near = correct_chroma(predicted[0], place, hinted, luma)
        return scale_chroma(chroma, near, predicted[-1], strength)

    def _run(self, lumas, grids):
        """Returns (Cb, Cr), (B, 2, H, W), of photos of the network's size."""
        gray = lumas[..., None]
        rgb = self.generator([gray, grids] if self.takes_hints else [gray])
        return ops.transpose(rgb_to_chroma(rgb), (0, 3, 1, 2))


def encode_hints(hints, luma):
    """Returns the cell and the chroma of each hint; see `hints.encode_hints`.

    Args:
        hints: as for `BrowserGraph`, (n, 5).
        luma: (h, w).

    Returns:
        The cell, one-hot (n, cells), and (Cb, Cr), (n, 2). The one-hot row is 0 for an
        ignored hint, and for a hint with a later hint in its cell.
    """
    height, width = _size(luma)
    rows, columns = _cells(luma)

    def cell(fraction, side):
        pixel = ops.cast(fraction * ops.cast(side, "float32"), "int32")
        return ops.clip(pixel, 0, side - 1) // HINT_STRIDE

    key = cell(hints[:, 1], height) * columns + cell(hints[:, 0], width)
    there = hints[:, 0] >= 0
    number = ops.arange(ops.shape(hints)[0])
    later = (key[:, None] == key) & (number[:, None] < number) & there
    there = there & ops.logical_not(ops.any(later, axis=1))
    place = (key[:, None] == ops.arange(rows * columns)) & there[:, None]
    place = ops.cast(place, "float32")
    means = _apply(luma, _mean_of_cells(height), _mean_of_cells(width))
    local = place @ ops.reshape(means, (-1, 1))
    return place, _fit_to_luma(hints[:, 2:], local)


def _fit_to_luma(rgb, luma):
    """See `hints._fit_to_luma`; for colors (n, 3), at lumas (n, 1)."""
    chroma = rgb_to_chroma(rgb)
    tried = join_luma_chroma(
        ops.repeat(luma[:, None], len(SCALES), axis=1),
        SCALES[:, None] * chroma[:, None],
    )
    # A running maximum: at the edge of the gamut, a larger scale changes nothing.
    earlier = np.tri(len(SCALES), dtype=np.float32)
    reached = ops.max(_perceived_chroma(tried)[:, None] * earlier, axis=2)
    wanted = _perceived_chroma(rgb)[:, None]
    below = ops.sum(ops.cast(reached <= wanted, "int32"), axis=1, keepdims=True) - 1
    below = ops.clip(below, 0, len(SCALES) - 2)
    low = ops.take_along_axis(reached, below, axis=1)
    high = ops.take_along_axis(reached, below + 1, axis=1)
    share = ops.clip((wanted - low) / ops.maximum(high - low, 1e-9), 0, 1)
    scale = (ops.cast(below, "float32") + share) * float(SCALES[1])
    return rgb_to_chroma(join_luma_chroma(luma, scale * chroma))


def _perceived_chroma(rgb):
    """Returns the CIE chroma of sRGB colors, (..., 3)."""
    linear = ops.where(
        rgb > 0.04045,
        ((ops.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4,
        rgb / 12.92,
    )
    white = RGB_TO_XYZ.sum(axis=1)
    xyz = ops.matmul(linear, np.float32(RGB_TO_XYZ.T / white))
    root = ops.where(
        xyz > 0.008856,
        ops.maximum(xyz, 0.008856) ** (1 / 3),
        7.787 * xyz + 16 / 116,
    )
    x, y, z = (root[..., at] for at in range(3))
    return ops.sqrt((500 * (x - y)) ** 2 + (200 * (y - z)) ** 2)


def correct_chroma(chroma, place, hinted, luma):
    """See `hints.correct_chroma`.

    Args:
        chroma: (2, h, w).
        place, hinted: as from `encode_hints`.
        luma: (h, w).

    Returns:
        Chroma, (2, h, w), and the nearness of each pixel to a hint, (h, w).
    """
    (height, width), (rows, columns) = _size(luma), _cells(luma)

    def to_cells(planes):
        return _apply(planes, _area(rows, height), _area(columns, width))

    def to_pixels(planes):
        planes = ops.reshape(planes, (-1, rows, columns))
        return _apply(planes, _linear(height, rows), _linear(width, columns))

    predicted = ops.reshape(to_cells(chroma), (2, -1))
    missed = hinted - place @ ops.transpose(predicted)  # (n, 2)
    distance = _measure(place, to_cells(luma))
    within = ops.cast(distance <= 4 * REACH, "float32")
    weight = within / (distance + 1e-3) ** BLENDING
    total = ops.sum(weight, axis=1, keepdims=True) + 1e-12
    nearest = ops.min(distance, axis=1, keepdims=True)
    fade = ops.exp(-((nearest / REACH) ** 2) / 2)
    correction = ops.transpose((weight @ missed) / total * fade)
    return chroma + to_pixels(correction), to_pixels(fade)[0]


def _measure(place, luma):
    """Returns the distance from each cell to each hint along the photo, (cells, n).

    No step is shorter than 1, so 4 * REACH steps give exact distances up to 4 * REACH.
    """
    rows, columns = _size(luma)
    levels = ops.reshape(luma, (-1,))
    row, column = ops.meshgrid(ops.arange(rows), ops.arange(columns), indexing="ij")
    neighbors, costs = [], []
    for down, right in NEIGHBORS:
        below = ops.clip(row + down, 0, rows - 1)
        beside = ops.clip(column + right, 0, columns - 1)
        index = ops.reshape(below * columns + beside, (-1,))
        inside = (below == row + down) & (beside == column + right)
        detour = ops.abs(ops.take(levels, index) - levels) / LUMA_OF_A_STEP
        cost = (down * down + right * right) ** 0.5 + detour
        neighbors.append(index)
        costs.append(ops.where(ops.reshape(inside, (-1,)), cost, FAR))
    neighbors, costs = ops.stack(neighbors), ops.stack(costs)[..., None]
    distance = FAR * (1 - ops.transpose(place))
    for _ in range(4 * REACH):
        further = ops.min(ops.take(distance, neighbors, axis=0) + costs, axis=0)
        distance = ops.minimum(distance, further)
    return distance


def scale_chroma(chroma, near, own, strength):
    """See `hints.scale_chroma`; chroma is (2, h, w)."""

    def length(chroma):
        return ops.sqrt(ops.sum(chroma**2, axis=0))

    longest = ops.maximum(ops.maximum(length(chroma), length(own)), LEAST_CHROMA)
    changed = (length(chroma - own) / longest - OWN) / (THEIRS - OWN)
    share = ops.maximum(near, ops.clip(changed, 0, 1))
    return (share + strength * (1 - share)) * chroma


def fit_chroma(luma, chroma):
    """See `painting.fit_chroma`; chroma, slope and offset are (2, h, w)."""
    size = _size(luma)
    quarter = [ops.maximum(1, side // CHROMA_SUBSAMPLING) for side in size]
    half = [_divide_up(side, 2) for side in size]
    pairs = list(zip(half, size, strict=True))
    to_half = [_area(*pair) for pair in pairs]
    blur = [_blur(side) for side in half]

    def soften(planes):
        sizes = zip(half, quarter, _size(planes), strict=True)
        return _apply(planes, *(_linear(a, b) @ _area(b, c) for a, b, c in sizes))

    def mean(planes):
        return _apply(planes, *blur)

    luma, guide = _apply(luma, *to_half), soften(luma)
    guide_mean = mean(guide)
    variance = mean(guide * guide) - guide_mean * guide_mean + EPSILON
    planes = _apply(chroma, *to_half)
    average = mean(planes)
    slope = (mean(guide * planes) - guide_mean * average) / variance
    offset = mean(average - slope * guide_mean)
    slope = mean(slope)
    return slope, offset + planes - soften(slope * luma + offset)


def _size(planes):
    return ops.shape(planes)[-2:]


def _divide_up(side, by):
    # -(-side // by) would be wrong in ONNX, which rounds towards 0.
    return (side + by - 1) // by


def _cells(luma):
    return [_divide_up(side, HINT_STRIDE) for side in _size(luma)]


def _apply(planes, down, across):
    """Resizes planes, (..., h, w), with a matrix for each direction."""
    return down @ (planes @ ops.transpose(across))


def _area(new, old):
    """Returns the matrix of OpenCV's INTER_AREA, (new, old), with new <= old."""
    scale = ops.cast(old, "float32") / ops.cast(new, "float32")
    start = scale * ops.cast(ops.arange(new), "float32")[:, None]
    pixel = ops.cast(ops.arange(old), "float32")
    shared = ops.minimum(start + scale, pixel + 1) - ops.maximum(start, pixel)
    return ops.maximum(shared, 0) / scale


def _linear(new, old):
    """Returns the matrix of OpenCV's INTER_LINEAR, (new, old)."""
    scale = ops.cast(old, "float32") / ops.cast(new, "float32")
    place = (ops.cast(ops.arange(new), "float32") + 0.5) * scale - 0.5
    place = ops.clip(place, 0, ops.cast(old - 1, "float32"))[:, None]
    return ops.maximum(1 - ops.abs(place - ops.cast(ops.arange(old), "float32")), 0)


def _blur(side):
    """Returns the matrix of a Gaussian over 3 pixels, as OpenCV's with SIGMA."""
    near = float(np.exp(-0.5 / SIGMA**2))
    at = ops.arange(side)
    before = ops.minimum(ops.abs(at - 1), side - 1)
    after = ops.maximum(side - 1 - ops.abs(side - 2 - at), 0)
    one, left, right = (
        ops.cast(index[:, None] == at, "float32") for index in (at, before, after)
    )
    return (one + near * (left + right)) / (1 + 2 * near)


def _mean_of_cells(side):
    """Returns the matrix of the means over cells; the last cell may be smaller."""
    cell = ops.arange(side) // HINT_STRIDE
    within = ops.arange(_divide_up(side, HINT_STRIDE))[:, None] == cell
    within = ops.cast(within, "float32")
    return within / ops.sum(within, axis=1, keepdims=True)


def _pad(luma, stride):
    """See `Colorizer._pad`."""
    for axis, side in enumerate(_size(luma)):
        at = ops.arange(stride * _divide_up(side, stride)) % (2 * side)
        luma = ops.take(luma, ops.minimum(at, 2 * side - 1 - at), axis=axis)
    return luma


def _fill(grid, cells):
    """Pads a grid, (h, w, c), with zeros."""
    for axis, size in enumerate(cells):
        old = ops.shape(grid)[axis]
        at = ops.arange(size)
        there = ops.cast(at < old, "float32")
        shape = [1, 1, 1]
        shape[axis] = -1
        grid = ops.take(grid, ops.minimum(at, old - 1), axis=axis)
        grid = grid * ops.reshape(there, shape)
    return grid


def export_for_browsers(generator, path, source=""):
    """Writes a generator as the ONNX graph of the page.

    Large weights have 8 bits, with a scale for each output channel.

    Args:
        generator: a functional Keras model; see `Colorizer`.
        path: the `.onnx` file. It is written completely or not at all.
        source: the SHA-256 of the generator's `.keras` file.

    Raises:
        ExportError: the generator cannot be exported.
        ModuleNotFoundError: `onnx` or `tf2onnx` is not installed.
    """
    import onnx
    import tf2onnx  # noqa: F401  without it, the error must not be an ExportError

    path = Path(path)
    graph = BrowserGraph(generator)
    graph([ops.zeros(shape) for shape in ((9, 9), (1, 5), (1,))])
    shapes = {"luma": (None, None), "hints": (None, 5), "strength": (1,)}
    signature = [tf.TensorSpec(shape, name=name) for name, shape in shapes.items()]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        file = str(Path(folder) / path.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tf2onnx was made for an older NumPy
                graph.export(
                    file,
                    format="onnx",
                    input_signature=[signature],
                    opset_version=OPSET,
                    verbose=False,
                )
            model = onnx.load(file)
            unknown = {x.name for x in model.graph.input} - shapes.keys()
            if unknown:  # the model uses a tensor that is not a constant of its graph
                raise ValueError(f"its graph asks for {', '.join(sorted(unknown))}")
        except Exception as error:  # a model may fail in any way
            raise ExportError(f"The generator cannot be exported: {error}") from error
        _name_output(model.graph, "fit")
        _quantize(model)
        facts = {"source": source, "hints": str(int(graph.takes_hints))}
        for name, value in facts.items():
            model.metadata_props.add(key=f"{FACTS}.{name}", value=value)
        onnx.save(model, file)
        os.replace(file, path)


def _name_output(graph, name):
    old = graph.output[0].name
    graph.output[0].name = name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name if each == old else each for each in names]


def _quantize(model):
    """Stores weights in 8 bits, with a scale for each output channel, or in 16 bits.

    The engine converts them to 32 bits as it loads them. The smallest arrays get 16
    bits, as far as `MAX_BYTES` allows. They belong to the first and last layers.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    _fold_shapes(graph)
    convolutions = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    weights = {
        tensor.name: (tensor, numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.data_type == tensor.FLOAT and len(tensor.dims) > 1
    }
    small = [name for name, (_, values) in weights.items() if values.size < LEAST]
    for name in small:
        del weights[name]
    room = MAX_BYTES - model.ByteSize() + sum(3 * x.size for _, x in weights.values())
    added = []
    for name in sorted(weights, key=lambda name: weights[name][1].size):
        tensor, values = weights[name]
        graph.initializer.remove(tensor)
        room -= values.size
        if room >= 0:
            stored, scale = values.astype(np.float16), None
        else:
            axis = 0 if name in convolutions else values.ndim - 1
            others = tuple(at for at in range(values.ndim) if at != axis)
            scale = np.maximum(np.abs(values).max(others, keepdims=True), 1e-12) / 127
            stored = np.round(values / scale).astype(np.int8)
        cast = name if scale is None else f"{name}:cast"
        tensors = {f"{name}:stored": stored, f"{name}:scale": scale}
        graph.initializer.extend(
            numpy_helper.from_array(value, each)
            for each, value in tensors.items()
            if value is not None
        )
        added.append(helper.make_node("Cast", [f"{name}:stored"], [cast], to=1))
        if scale is not None:
            added.append(helper.make_node("Mul", [cast, f"{name}:scale"], [name]))
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _fold_shapes(graph):
    """Removes weights of which the graph uses only the shape."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in [*graph.node]:
        if node.op_type == "Shape" and node.input[0] in tensors:
            shape = np.int64(tensors[node.input[0]].dims)
            graph.initializer.append(numpy_helper.from_array(shape, node.output[0]))
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name in tensors.keys() - used:
        graph.initializer.remove(tensors[name])


def export_beside(path):
    """Exports a `.keras` file to the `.onnx` file beside it, for `colorizer-tf site`.

    Args:
        path: the `.keras` file.

    Returns:
        The path of the `.onnx` file.

    Raises:
        ExportError, ModuleNotFoundError: as for `export_for_browsers`.
    """
    path = Path(path)
    export = path.with_suffix(".onnx")
    export_for_browsers(load_generator(path), export, hash_file(path))
    return export


if __name__ == "__main__":
    print(export_beside(*sys.argv[1:]))
