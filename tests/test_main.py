"""The command, as a person types it."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tiny_networks import build_tiny_generator

import colorizer_tf as ct
from colorizer_tf.__main__ import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "generator.keras"
    build_tiny_generator().save(path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "in/a.png")
    return tmp_path / "in"


def test_help_comes_without_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "colorizer_tf", "colorize"]
    run = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "SOURCE" in run.stdout
    assert "tensorflow" not in run.stderr


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/bin/colorizer-tf", "colorizer-tf"),
        ("/lib/colorizer_tf/__main__.py", "python -m colorizer_tf"),
    ],
)
def test_help_has_the_name_that_was_typed(started, name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"colorizer_tf {ct.__version__}\n"


def test_a_generator_of_the_hub_needs_its_package(
    photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    command = ["colorize", str(photos), str(tmp_path / "out")]
    assert main([*command, "--weights", "hf://somebody/colorizer"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: hf://somebody/colorizer needs huggingface_hub")
    assert "pip install huggingface_hub" in error
    assert error.count("\n") == 1


def test_a_folder_and_a_file(photos, weights, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["colorize", str(photos), out, "--weights", weights]) == 0
    assert "1 photos: 1 done" in capsys.readouterr().out
    result = str(tmp_path / "b.jpg")
    command = ["colorize", str(photos / "a.png"), result, "--weights", weights]
    assert main([*command, "--strength", "0.5", "--working-size", "64"]) == 0
    with Image.open(result) as image:
        assert image.size == (30, 20)


def test_a_photo_that_failed_shows_in_the_exit_code(photos, weights, tmp_path, capsys):
    (photos / "b.jpg").write_text("nothing")
    command = ["colorize", str(photos), str(tmp_path / "out"), "--weights", weights]
    assert main([*command, "--format", "jpg"]) == 1
    assert "b.jpg cannot be read" in capsys.readouterr().out
    assert (tmp_path / "out/a.jpg").is_file()


@pytest.mark.parametrize(
    "change", [{"source": "no"}, {"weights": "no.keras"}, {"weights": __file__}]
)
def test_errors_are_a_line(photos, weights, tmp_path, capsys, change):
    names = {"source": str(photos), "weights": weights} | change
    command = ["colorize", names["source"], str(tmp_path / "out")]
    assert main([*command, "--weights", names["weights"]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "Traceback" not in error


def test_a_format_for_a_photo_is_refused(photos, weights, tmp_path, capsys):
    command = ["colorize", str(photos / "a.png"), str(tmp_path / "b.jpg")]
    assert main([*command, "--weights", weights, "--format", "png"]) == 1
    assert "--format" in capsys.readouterr().err
    assert not (tmp_path / "b.jpg").exists()


def test_a_photo_with_hints(photos, tmp_path, capsys):
    build_tiny_generator(hints=True).save(tmp_path / "hints.keras")
    hints = tmp_path / "a.hints.json"
    hints.write_text('[{"x": 0.5, "y": 0.5, "color": "#c03030"}]')
    command = ["colorize", str(photos / "a.png"), str(tmp_path / "b.png")]
    command += ["--weights", str(tmp_path / "hints.keras"), "--hints", str(hints)]
    assert main(command) == 0
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize(
    ("source", "text", "reason"),
    [
        ("a.png", "[7]", "a.hints.json, entry 1"),
        ("a.png", None, "a.hints.json cannot be read"),
        ("a.png", '[{"x": 0, "y": 0, "color": "#000000"}]', "takes no hints"),
        (".", "[]", "--hints is for a photo"),
    ],
    ids=["entry", "missing", "generator", "folder"],
)
def test_hints_that_do_not_fit(photos, weights, tmp_path, capsys, source, text, reason):
    hints = tmp_path / "a.hints.json"
    if text:
        hints.write_text(text)
    command = ["colorize", str(photos / source), str(tmp_path / "b.png")]
    assert main([*command, "--weights", weights, "--hints", str(hints)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert reason in error
    assert not (tmp_path / "b.png").exists()


def test_a_file_where_a_folder_should_be(photos, weights, tmp_path, capsys):
    (tmp_path / "out").write_text("a letter")
    command = ["colorize", str(photos), str(tmp_path / "out"), "--weights", weights]
    assert main(command) == 1
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a letter"


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_leaves_things_in_order(photos, weights, tmp_path, stop):
    for number in range(300):
        Image.new("L", (200, 200 + number % 40)).save(photos / f"{number:03}.png")
    out = tmp_path / "out"
    command = ["colorize", photos, out, "--weights", weights]
    run = subprocess.Popen(
        [sys.executable, "-m", "colorizer_tf", *command], stderr=subprocess.PIPE
    )
    while not list(out.glob("*.png")) and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(stop)
    error = run.communicate()[1].decode()

    assert run.returncode == 130
    assert "continues from here" in error
    assert "Traceback" not in error
    results = list(out.glob("*.png"))
    assert 0 < len(results) < 300
    assert not list(out.glob(".partial*"))


def test_serve_without_its_parts_says_what_to_install(weights, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi_offline", None)
    for name in ("colorizer_tf.service", "colorizer_tf.service.app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main(["serve", "--weights", weights]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: The service needs fastapi_offline")
    assert "colorizer_tf[service]" in error
    assert error.count("\n") == 1


def test_serve_stopped_during_its_start_ends_in_order(capsys, monkeypatch):
    pytest.importorskip("uvicorn", reason="needs the extra `service`")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ct.Colorizer, "load", stop)
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit) as end:
        main(["serve", f"--port={port}"])
    assert end.value.code == 2
    assert f"{port} is no port" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "a", "1.5"])
def test_what_is_no_working_size_is_refused(size, capsys):
    with pytest.raises(SystemExit) as end:
        main(["colorize", "a.jpg", "b.jpg", f"--working-size={size}"])
    assert end.value.code == 2
    assert f"{size} is no number of pixels" in capsys.readouterr().err


def test_serve_without_weights_says_so(capsys, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra `service`")
    assert main(["serve", "--weights", str(tmp_path / "no.keras")]) == 1
    assert capsys.readouterr().err.startswith("Error: There is no generator")
