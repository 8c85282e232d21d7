"""A trained generator, written for the engine that colors with it (OpenVINO)."""

import os
import tempfile
from pathlib import Path

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
from colorizer_tf.training import keras


def export_network(generator, path, source=""):
    """Writes a generator as OpenVINO's files, for `network.Network`.

    The exported graph ends in chroma: the gamut rule is a matter of the full size.
    A second output, `likely`, stays as it is.

    Args:
        generator: a functional Keras model; see `Colorizer`.
        path: the `.xml` file; its weights lie beside it in a `.bin` file. Both are
            there as a whole or not at all.
        source: the SHA-256 of the `.keras` file that holds the generator.

    Raises:
        ExportError: the engine does not take the model.
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
            outputs = generator(inputs if len(inputs) > 1 else inputs[0])
            rgb, *likely = list_outputs(outputs)
            to_chroma = keras.Model(inputs, [rgb_to_chroma(rgb), *likely])
            to_chroma.export(str(file), format="openvino", verbose=False)
            model = openvino.Core().read_model(file)
            for leftover in model.get_results()[1 + len(likely) :]:
                model.remove_result(leftover)  # sizes, of the attention's reshaping
        except Exception as error:  # a model may fail in any way
            raise ExportError(f"The generator cannot be exported: {error}") from error
        model.set_rt_info(str(stride), [FACTS, "stride"])
        model.set_rt_info(source, [FACTS, "source"])
        whole = Path(folder) / "whole.xml"
        openvino.save_model(model, whole, compress_to_fp16=False)
        os.replace(whole.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(whole, path)


def export_generator(path):
    """Exports a `.keras` file, so that it colors photos without Keras.

    Args:
        path: the file.

    Returns:
        The path of the `.xml` file beside it, which `Colorizer.load` finds by itself.

    Raises:
        ExportError: the engine does not take the model; it colors on Keras then.
    """
    path = Path(path)
    export = path.with_suffix(".xml")
    export_network(load_generator(path), export, hash_file(path))
    return export


def dump_generator(generator):
    """Returns the files that `network.load_network` needs: name -> bytes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export_network(generator, Path(folder) / "generator.xml")
        except ExportError:
            generator.save(Path(folder) / "generator.keras")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
