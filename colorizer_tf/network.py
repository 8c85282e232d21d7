"""A trained generator as a function from gray photos, and hints, to chroma.

`load_network` runs a generator on OpenVINO, an engine made for inference. It starts
from what `training.export` writes beside `generator.keras`. Keras is needed only
where there is no such export yet, or where a model cannot be exported.
"""

import functools
import hashlib
import importlib.metadata
import os
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import platformdirs

from colorizer_tf import INSTALL_TRAINING
from colorizer_tf.color import limit_chroma, rgb_to_chroma
from colorizer_tf.hints import HINT_STRIDE

HUB = "hf://"
# Where the export says what the file cannot: stride, and the model it comes from.
FACTS = "colorizer_tf"
MAX_STRIDE = 256
# Photos that a thread computes at a time: more are hardly faster.
MAX_SHARE = 8
# As a matrix, NumPy is ten times as fast at it as TensorFlow, op by op.
_RGB_TO_CHROMA = rgb_to_chroma(np.eye(3, dtype=np.float32))


class Network:
    """A generator on OpenVINO.

    Every photo is computed by one thread, several photos at a time. A photo's result
    depends neither on the other photos of its batch nor on the number of threads.

    Args:
        path: an `.xml` file that `training.export.export_network` has written, with
            its `.bin` beside it.
        source: the `.keras` file it comes from, if there is one.
        threads: that it computes with; None takes all processors.
        precision: "bf16" or "f32". A processor without bfloat16 computes in float32
            all the same. They differ by a tenth of a level of chroma on average.

    Attributes:
        takes_hints: whether it takes colors that a person sets.
        suggests: whether it tells which colors are likely; see `with_likely`.
        fixed_size: the (height, width) that it takes; None if they are free.
        stride: what free heights and widths must be a multiple of.
        digest: 16 hexadecimal digits that change with the weights.
        path, source: the files it was loaded from.

    Raises:
        ValueError: the file is broken, or no such export.
    """

    def __init__(self, path, source=None, threads=None, precision="bf16"):
        self.path, self.source, self._precision = Path(path), source, precision
        self._threads = threads or os.cpu_count()
        try:
            model = self._read()
            self.stride = int(model.get_rt_info([FACTS, "stride"]).value)
            self.suggests = len(model.outputs) == 2
            for result in model.get_results()[1:]:  # colors take less time alone
                model.remove_result(result)
            self._network = self._compile(model)
            _warm_up()
        except RuntimeError as error:
            raise ValueError(
                f"{path} is no generator that colorizer_tf has exported: {error}"
            ) from error
        self.takes_hints = len(model.inputs) == 2
        height, width = list(model.inputs[0].partial_shape)[1:3]
        free = height.is_dynamic or width.is_dynamic
        self.fixed_size = None if free else (height.get_length(), width.get_length())
        self.digest = hash_file(self.path.with_suffix(".bin"))[:16]
        self._own = threading.local()

    def _read(self):
        import openvino

        return openvino.Core().read_model(self.path)

    def _compile(self, model):
        import openvino

        core = openvino.Core()
        if cache := cache_folder():
            core.set_property({"CACHE_DIR": str(cache / "compiled")})
        # Threads that share a photo would round differently, by their number.
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self._threads,
        }
        return core.compile_model(model, "CPU", settings)

    @functools.cached_property
    def _whole(self):
        return self._compile(self._read())

    def with_likely(self, gray, hints=None):
        """Returns chroma and the probabilities of `suggestions.CHROMA_BINS`.

        Args:
            gray, hints: as for `__call__`.

        Returns:
            What `__call__` returns, and float32 (B, H / 4, W / 4, bins).
        """
        inputs = [gray] if hints is None else [gray, hints]
        outputs = self._whole.create_infer_request().infer(inputs)
        return _finish(gray, outputs[0]), outputs[1].copy()

    def __call__(self, gray, hints=None):
        """Returns chroma (Cb, Cr), float32 (B, H, W, 2).

        Args:
            gray: float32 (B, H, W, 1), in [0, 1].
            hints: float32 (B, H / 4, W / 4, 3), if the generator takes them.
        """
        if not hasattr(self._own, "requests"):  # they serve one thread at a time
            create = self._network.create_infer_request
            self._own.requests = [create() for _ in range(self._threads)]
        inputs = [gray] if hints is None else [gray, hints]
        share = min(MAX_SHARE, -(-len(gray) // self._threads))
        starts = range(0, len(gray), share)
        requests, chromas = self._own.requests, []
        for number in range(len(starts) + len(requests)):
            request = requests[number % len(requests)]
            if len(requests) <= number:
                request.wait()
                start = len(chromas) * share
                chroma = request.get_output_tensor(0).data
                chromas.append(_finish(gray[start : start + share], chroma))
            if number < len(starts):
                at = starts[number]
                request.start_async([x[at : at + share] for x in inputs])
        return np.concatenate(chromas)

    @property
    def generator(self):
        """The Keras model it comes from."""
        if not self.source:
            raise ValueError(f"{self.path} has no generator.keras beside it.")
        return load_generator(self.source)

    def dump(self):
        """Returns the files that `load_network` needs: name -> bytes."""
        files = (self.path.with_suffix(".bin"), self.path)
        return {f"generator{path.suffix}": path.read_bytes() for path in files}


def _finish(gray, chroma):
    """Returns a copy of an export's chroma; small chroma enlarged and limited."""
    height, width = gray.shape[1:3]
    if chroma.shape[1:3] == (height, width):
        return chroma.copy()
    return np.stack(
        [
            limit_chroma(luma, cv2.resize(small, (width, height)))
            for luma, small in zip(gray, chroma, strict=True)
        ]
    )


class KerasNetwork:
    """A generator on Keras: the same function, with the weights it has now.

    Args:
        generator: a Keras model, or anything that is called like one.

    Raises:
        ValueError: the model is none from gray to RGB of the same size.
    """

    def __init__(self, generator):
        self.generator = generator
        shapes = input_shapes(generator)
        self.takes_hints = len(shapes) == 2
        self.fixed_size = shapes[0][1:3] if all(shapes[0][1:3]) else None
        self.stride = None if self.fixed_size else find_stride(generator)
        self.suggests = len(getattr(generator, "outputs", ())) == 2
        self._network = _compile(generator, shapes)

    def with_likely(self, gray, hints=None):
        """See `Network.with_likely`."""
        return self._run(gray, hints)

    def __call__(self, gray, hints=None):
        return self._run(gray, hints)[0]

    def _run(self, gray, hints):
        inputs = [_fill_batch(x) for x in (gray, hints) if x is not None]
        outputs = self._network(inputs if self.takes_hints else inputs[0])
        rgb, *likely = (
            np.asarray(output, np.float32)[: len(gray)]
            for output in list_outputs(outputs)
        )
        if rgb.shape != (*gray.shape[:3], 3):
            raise ValueError(
                f"The generator must return RGB of shape {gray.shape[:3]} + (3,). "
                f"Received: shape {rgb.shape}"
            )
        return rgb @ _RGB_TO_CHROMA, *likely

    @property
    def digest(self):
        digest = hashlib.sha256()
        for weights in self.generator.get_weights():
            digest.update(np.ascontiguousarray(weights))
        return digest.hexdigest()[:16]

    def dump(self):
        """See `Network.dump`; the model is exported where that can be done."""
        from colorizer_tf.training.export import dump_generator

        return dump_generator(self.generator)


def _fill_batch(batch):
    """Repeats the last photo until their number is a power of 2, and not 1.

    TensorFlow rounds differently for other numbers: a photo's result would depend on
    how many others happen to be beside it.
    """
    missing = max(2, 2 ** (len(batch) - 1).bit_length()) - len(batch)
    return np.concatenate([batch, *[batch[-1:]] * missing])


def _warm_up():
    """Touches a tensor's data before threads do.

    OpenVINO binds NumPy at the first touch. Two threads that come to it at once
    wait for each other for ever: one holds its lock, the other the interpreter's.
    """
    import openvino

    _ = openvino.Tensor(np.zeros(1, np.float32)).data


def load_network(path, threads=None):
    """Loads a trained generator.

    A `.keras` file is run from its export, `NAME.xml` beside it. Without one it is
    exported once into the user's cache folder. A model that cannot be exported
    runs on Keras.

    Args:
        path: a `.keras` file, the `.xml` of an export, or "hf://owner/name", a
            repository on the Hugging Face Hub that holds a Keras model.
        threads: as `Network` takes it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no generator, or it cannot be downloaded.
        ImportError: a package is missing; the message says how to install it.
    """
    path = find_model(path)
    if path.suffix == ".xml":
        source = path.with_suffix(".keras")
        return Network(path, source if source.is_file() else None, threads)
    if path.is_dir():  # as Keras writes to the Hub
        return KerasNetwork(load_generator(path))
    export, cached, digest = find_export(path, ".xml", _exported_from)
    if export:
        return Network(export, path, threads)
    generator = load_generator(path)
    try:
        from colorizer_tf.training.export import export_network

        if cached:
            export_network(generator, cached, digest)
            return Network(cached, path, threads)
    except (OSError, ImportError, ExportError):
        pass
    return KerasNetwork(generator)


def find_export(path, suffix, read_source):
    """Looks for the export of a `.keras` file: beside it, and in the user's cache.

    Args:
        path: the `.keras` file.
        suffix: of exports, such as ".xml".
        read_source: returns the digest of the file that an export was made from.

    Returns:
        The export, or None; where one may be cached, or None; the file's digest.
    """
    digest, cache = hash_file(path), cache_folder()
    cached = cache and cache / f"{digest}-{_version()}{suffix}"
    for export in filter(None, (path.with_suffix(suffix), cached)):
        if export.is_file() and read_source(export) == digest:
            return export, cached, digest
    return None, cached, digest


class ExportError(ValueError):
    """A model that the engine does not take."""


def load_generator(path):
    """Loads the Keras model of a generator; arguments and errors as `load_network`."""
    path = find_model(path)
    try:
        from colorizer_tf.training import keras
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} needs {error.name}, which is not installed, to be read for the "
            f"first time: {INSTALL_TRAINING}",
            name=error.name,
        ) from error
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras has no one error for a broken file
        raise ValueError(f"{path} cannot be loaded as a model: {error}") from error


def find_model(path):
    """Returns where a model lies, downloaded if need be; see `load_network`."""
    path = Path(_download(str(path)) if str(path).startswith(HUB) else path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no generator {path.absolute()}: train one with "
            "notebooks/02_train.ipynb, or name another file."
        )
    if path.suffix != ".xml" and not (
        zipfile.is_zipfile(path) or (path / "config.json").is_file()
    ):
        raise ValueError(f"{path} is no Keras model: name a .keras file.")
    return path


def hash_file(path):
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder():
    """Returns the user's folder for exports, or None where it cannot be written to."""
    folder = Path(platformdirs.user_cache_dir("colorizer_tf", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def input_shapes(generator):
    """Returns the shapes of a model's inputs, such as [(None, None, None, 1)]."""
    # A subclassed model may not tell: it takes gray photos of any size.
    inputs = getattr(generator, "inputs", None)
    return [tuple(x.shape) for x in inputs] if inputs else [(None, None, None, 1)]


def find_stride(generator):
    """Returns the smallest multiple of 32 that a model takes as height and width.

    Raises:
        ValueError: the model is none from gray to RGB of the same size.
    """
    errors = []
    for size in range(32, MAX_STRIDE + 1, 32):
        try:
            # Real zeros: Keras' own inference of shapes lets wrong ones pass.
            gray = np.zeros((1, size, size, 1), np.float32)
            cells = size // HINT_STRIDE
            hints = np.zeros((1, cells, cells, 3), np.float32)
            inputs = [gray, hints] if len(input_shapes(generator)) == 2 else gray
            shape = list_outputs(generator(inputs))[0].shape
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


def list_outputs(outputs):
    """Returns what a model of one output, or of several, has returned, as a list."""
    return outputs if isinstance(outputs, list | tuple) else [outputs]


def _compile(generator, shapes):
    """One graph for all sizes, or one for each where the model needs to know."""
    from colorizer_tf.training import tf

    def network(inputs):
        return generator(inputs, training=False)

    try:
        specs = [tf.TensorSpec(shape) for shape in shapes]
        signature = [specs if len(specs) == 2 else specs[0]]
        compiled = tf.function(network, input_signature=signature)
        compiled.get_concrete_function()
        return compiled
    except Exception:  # such as UpSampling2D("bilinear"), in whatever way it fails
        return tf.function(network)


def _exported_from(path):
    """The digest of the `.keras` file that an export was made from."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    _, _, rest = text.partition('<source value="')
    return rest.partition('"')[0]


def _version():
    # Another version of the library may export in another way.
    return importlib.metadata.version("colorizer_tf")


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
