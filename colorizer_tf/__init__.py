"""colorizer_tf gives black-and-white photographs their colors back."""

import os

import lazy_loader

__version__ = "0.2.0"

# OpenCV reads sizes for itself, before we can; it asks for its limit once, as it is
# imported. See `sixteen_bit.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

# A module is imported when one of its names is first used; `__init__.pyi` lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
