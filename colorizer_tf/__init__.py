"""colorizer_tf gives black-and-white photographs their colors back."""

import os

import lazy_loader

__version__ = "0.2.0"
INSTALL_TRAINING = (
    'pip install "colorizer_tf[train]", or pip install -e ".[train]" in the project\'s '
    "folder."
)

# OpenCV reads sizes for itself, before we can; it asks for its limit once, as it is
# imported. See `sixteen_bit.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

# A module is imported when one of its names is first used; `__init__.pyi` lists them.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if "pip install" in str(error) or f"{error.name}.".startswith(f"{__name__}."):
            raise
        package = error.name.partition(".")[0]
        raise ModuleNotFoundError(
            f"{name} needs {package}, which is not installed: {INSTALL_TRAINING}",
            name=package,
        ) from error
