"""Tests that TensorFlow's start prints nothing if it works."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

NOTICES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written "
    "to STDERR\n"
    "I0000 00:00:1795527232.002672   10500 cudart_stub.cc:31] Could not find cuda\n"
    "2025-09-17 14:44:05.157831: I external/cudart_stub.cc:32] Could not find cuda\n"
)
ERROR = "E0000 00:00:1795527232.002672   10500 loader.cc:31] Cannot be loaded\n"


def run(*arguments, **environment):
    names = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    inherited = {name: os.environ[name] for name in os.environ if name not in names}
    return subprocess.run(
        [sys.executable, *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
    )


def test_the_import_is_quiet():
    ended = run("-c", "from colorizer_tf.training import keras; keras.ops.ones(3) + 1")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_command_shows_what_is_its_own(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "in/a.png")
    command = "-m", "colorizer_tf", "colorize", tmp_path / "in", tmp_path / "out"

    ended = run(*command)

    assert ended.returncode == 0
    assert "1 photos: 1 done" in ended.stdout
    lines = ended.stderr.replace("\r", "\n").splitlines()
    assert [line for line in lines if line and "colorizing: " not in line] == []


@pytest.fixture
def stand_in(tmp_path):
    """A function that writes a fake package `tensorflow`, and imports it."""

    def execute(code, **environment):
        package = tmp_path / "tensorflow"
        package.mkdir()
        (tmp_path / "keras").mkdir()
        (tmp_path / "keras/__init__.py").touch()
        text = f"import os, sys\nos.write(2, {(NOTICES + ERROR).encode()})\n"
        (package / "__init__.py").write_text(text + code)
        path = os.pathsep.join([str(tmp_path), *sys.path])
        code = "import colorizer_tf.training, os; os.write(2, b'after')"
        return run("-c", code, PYTHONPATH=path, **environment)

    return execute


def test_errors_are_shown(stand_in):
    assert stand_in("").stderr == ERROR + "after"


def test_notices_are_shown_to_those_who_ask_for_them(stand_in):
    assert stand_in("", TF_CPP_MIN_LOG_LEVEL="0").stderr == NOTICES + ERROR + "after"


def test_an_import_that_fails_says_why(stand_in):
    ended = stand_in("raise ImportError('no libraries')")
    assert ended.stderr.startswith(ERROR)
    assert "ImportError: no libraries" in ended.stderr


def test_a_crash_says_where(stand_in):
    ended = stand_in("import faulthandler; faulthandler._sigabrt()")
    assert ended.returncode != 0
    assert "tensorflow/__init__.py" in ended.stderr.replace(os.sep, "/")
