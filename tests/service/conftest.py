import threading

import pytest

from colorizer_tf.colorizer import Colorizer


@pytest.fixture(scope="module")
def colorizer(build_vivid_generator):
    return Colorizer(build_vivid_generator(hints=True), working_size=32)


@pytest.fixture(scope="module")
def service(colorizer):
    from running import RunningService  # needs the extra `service`

    limits = {"photo_bytes": 2**21, "request_bytes": 2**23, "photos": 5}
    with RunningService(colorizer, **limits, stall_seconds=2) as running:
        yield running


class SlowColorizer(Colorizer):
    """A colorizer whose network waits until it is let go."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.go = threading.Event()
        self.batches = []

    def predict_chroma(self, lumas, hints=None):
        self.go.wait(30)
        self.batches.append(len(lumas))
        return super().predict_chroma(lumas, hints)


@pytest.fixture
def slow_colorizer(build_vivid_generator):
    return SlowColorizer(build_vivid_generator(hints=True), working_size=32)
