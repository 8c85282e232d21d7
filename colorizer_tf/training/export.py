"""Exports a trained generator to OpenVINO, the engine that colors photos."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

from colorizer_tf.color import rgb_to_chroma
from colorizer_tf.network import (
    FACTS,
    ExportError,
    find_stride,
    hash_file,
    input_shapes,
    list_outputs,
    load_generator,
)
from colorizer_tf.training import keras, tf
from colorizer_tf.training.models import LIMITED

# Rounded to bfloat16, the first layers cause most of its error, for little time.
PRECISE_CONVOLUTIONS = 5


def export_network(
    generator: keras.Model, path: str | os.PathLike, source: str = ""
) -> None:
    """Writes a generator as OpenVINO files, for `network.Network`.

    The exported graph returns chroma, because `painting` fits colors into the gamut
    at full size. That of a model by `build_generator` ends at a quarter of the size:
    the last steps take less time in `network`. A second output, `likely`, stays the
    same.

    Args:
        generator: a functional Keras model; see `Colorizer`.
        path: the `.xml` file. A `.bin` file beside it holds the weights. Each is
            written completely or not at all.
        source: the SHA-256 of the generator's `.keras` file.

    Raises:
        ExportError: OpenVINO cannot convert the model.
        ModuleNotFoundError: `openvino` is not installed.
    """
    import openvino

    path = Path(path)
    shapes = input_shapes(generator)
    stride = 1 if all(shapes[0][1:3]) else find_stride(generator)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        file = Path(folder) / "network.xml"
        try:
            inputs = [
                keras.Input(batch_shape=x.shape, name=x.name) for x in generator.inputs
            ]
            outputs = _find_outputs(generator)(inputs if len(inputs) > 1 else inputs[0])
            chroma, *likely = list_outputs(outputs)
            if chroma.shape[-1] == 3:
                chroma = rgb_to_chroma(chroma)
            to_chroma = keras.Model(inputs, [chroma, *likely])
            with _known_environment():
                to_chroma.export(str(file), format="openvino", verbose=False)
            model = openvino.Core().read_model(file)
            for leftover in model.get_results()[1 + len(likely) :]:
                model.remove_result(leftover)  # sizes, from the attention's reshaping
        except Exception as error:  # a model may fail in any way
            raise ExportError(f"The generator cannot be exported: {error}") from error
        model.set_rt_info(str(stride), [FACTS, "stride"])
        model.set_rt_info(source, [FACTS, "source"])
        whole = Path(folder) / "whole.xml"
        openvino.save_model(model, whole, compress_to_fp16=False)
        _keep_precise(whole)
        os.replace(whole.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(whole, path)


def _find_outputs(generator):
    """Returns a model to small chroma, if it is by `build_generator`; else as it is."""
    if not any(layer.name == LIMITED for layer in generator.layers):
        return generator
    # Its one transposed convolution enlarges chroma, which `ops.pad` has padded.
    (enlarge,) = (
        layer
        for layer in generator.layers
        if isinstance(layer, keras.layers.Conv2DTranspose)
    )
    (pad,) = (step for step in generator.operations if step.output is enlarge.input)
    return keras.Model(generator.inputs, [pad.input, *generator.outputs[1:]])


def _keep_precise(path):
    """Keeps the first layers in float32, up to a branch or the sixth convolution.

    OpenVINO's Python interface cannot set this attribute, but its `.xml` files may.
    """
    tree = ElementTree.parse(path)
    layers = {layer.get("id"): layer for layer in tree.iterfind("layers/layer")}
    readers = defaultdict(list)
    for edge in tree.iterfind("edges/edge"):
        readers[edge.get("from-layer")].append(layers[edge.get("to-layer")])
    first = []
    for layer in layers.values():
        if layer.get("type") not in ("Const", "Parameter", "Result"):
            first.append(layer)
        if layer.get("type") == "Convolution":
            break
    convolutions = 1
    while len(readers[first[-1].get("id")]) == 1:
        (layer,) = readers[first[-1].get("id")]
        convolutions += "Convolution" in layer.get("type")
        if convolutions > PRECISE_CONVOLUTIONS:
            break
        first.append(layer)
    for layer in first:
        facts = layer.find("rt_info")
        if facts is None:
            facts = ElementTree.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, facts)
        ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    tree.write(path)


def _known_environment():
    """Tells OpenVINO the version of TensorFlow: on Python 3.13, its search fails."""
    from openvino.frontend.tensorflow import utils

    facts = {"tensorflow": tf.__version__}
    return mock.patch.object(utils, "get_environment_setup", lambda _: facts)


def export_generator(path: str | os.PathLike) -> Path:
    """Exports a `.keras` file to OpenVINO, so that coloring needs no Keras.

    Args:
        path: the `.keras` file.

    Returns:
        The path of the `.xml` file beside it. `Colorizer.load` finds it.

    Raises:
        FileNotFoundError: the file does not exist.
        ExportError: OpenVINO cannot convert the model. `Colorizer` runs it on Keras.

    Example:

    ```python
    ct.export_generator("runs/mine/generator.keras")
    colorizer = ct.Colorizer.load("runs/mine/generator.keras")
    ```
    """
    path = Path(path)
    export = path.with_suffix(".xml")
    export_network(load_generator(path), export, hash_file(path))
    return export


def dump_generator(generator):
    """Returns the files that `network.load_network` needs, as name -> bytes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export_network(generator, Path(folder) / "generator.xml")
        except ExportError:
            generator.save(Path(folder) / "generator.keras")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
