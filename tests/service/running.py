"""A service for the tests, and photos to send to it."""

import io
import socket
import threading
import time

import httpx
import numpy as np
import uvicorn
from PIL import Image

from colorizer_tf.service import build_app
from colorizer_tf.service.middleware import IdleTimeoutProtocol
from colorizer_tf.service.validation import Limits


def encode(shape=(40, 50), seed=0, file_format="PNG", dtype=np.uint8, **options):
    high = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(seed).integers(0, high, shape).astype(dtype)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def decode(content):
    return Image.open(io.BytesIO(content))


def read_luma(content):
    return np.asarray(decode(content).convert("L")).astype(int)


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class RunningService:
    """A service on a free port, in a thread of this process."""

    def __init__(self, colorizer, port=None, **limits):
        self.app = build_app(colorizer, Limits(**limits))
        self.store = self.app.state.store
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            self.app,
            port=self.port,
            http=IdleTimeoutProtocol,
            ws="none",
            log_level="info",
            access_log=False,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()

    def post(self, *photos, **fields):
        files = [("photo", photo) for photo in photos]
        return httpx.post(
            f"{self.url}/api/colorize", files=files, data=fields, timeout=60
        )

    def is_tidy(self):
        """Whether the temporary folder is empty."""
        return not list(self.store.folder.iterdir())
