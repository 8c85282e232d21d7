"""Runs every notebook by papermill from another folder."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from tiny_networks import build_suggesting_generator

PROJECT = Path(__file__).parent.parent
NOTEBOOKS = sorted(PROJECT.glob("notebooks/*.ipynb"))
TINY = {"photos": "sample", "image_size": 32, "epochs": 1, "limit": 8, "batch_size": 4}


def printed(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


def pictures(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean_and_has_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].source.startswith("# ")
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert sum("parameters" in tag for tag in tags) == 1
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def known_parameters(name):
    """The names in the tagged cell, and for 02_train in the following cell too."""
    path = PROJECT / f"notebooks/{name}.ipynb"
    known = set(papermill.inspect_notebook(path))
    cells = nbformat.read(path, as_version=4).cells
    (others,) = [c.source for c in cells if c.source.startswith("others = {")] or [""]
    known |= set(re.findall(r'^    "(\w+)":', others, re.MULTILINE))
    return known | set(re.findall(r'globals\(\)\.get\("(\w+)"', others))


COMMANDS = [PROJECT / "Makefile", *PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_papermill_lines_name_parameters_that_exist(path):
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"papermill .*?notebooks/(\w+)\.ipynb(.*)", text)
    for notebook, options in lines:
        assert set(re.findall(r"-[pry] (\w+)", options)) <= known_parameters(notebook)


def test_a_misspelt_parameter_would_be_seen():
    assert "g_learning_rate" in known_parameters("02_train")
    assert "picture_every" in known_parameters("02_train")
    assert "g_lerning_rate" not in known_parameters("02_train")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_for_eight_parameters_at_most(path):
    assert len(papermill.inspect_notebook(path)) <= 8


def test_quickstart_shows_a_photo_in_color(run_notebook):
    notebook = run_notebook("00_quickstart")
    assert pictures(notebook) == 2


def test_explore_shows_photos(run_notebook):
    notebook = run_notebook("01_explore_data", photos="sample", image_size=32)
    assert "136 photos: 81 for training" in printed(notebook)
    assert pictures(notebook) >= 4


def test_train_goes_on_and_evaluate_compares(run_notebook, tmp_path):
    run_notebook("02_train", **TINY, run_dir="one")
    notebook = run_notebook("02_train", **TINY | {"epochs": 2}, run_dir="one")
    assert "epoch   2/2" in printed(notebook)
    assert "epoch   1/2" not in printed(notebook)
    run_dir = tmp_path / "one"
    assert (run_dir / "pictures/epoch_0002.png").is_file()
    assert json.loads((run_dir / "settings.json").read_text())["batch_size"] == 4
    assert json.loads((run_dir / "figures.json").read_text())["epochs"] == 2

    shutil.copytree(run_dir, tmp_path / "two")
    notebook = run_notebook("03_evaluate", runs="one, two", limit=3)
    assert "unchanged gray" in printed(notebook)
    assert pictures(notebook) == 3
    assert {"test_photos.png", "test_extremes.png", "curves.png"} <= {
        path.name for path in run_dir.iterdir()
    }
    figures = json.loads((run_dir / "evaluation.json").read_text())
    assert figures["one"]["photos"] == 3
    assert figures.keys() == {"one", "two"}


def test_hints_one_by_one_and_what_they_bring(run_notebook, tmp_path):
    build_suggesting_generator().save(tmp_path / "generator.keras")
    tiny = {"weights": "generator.keras", "photos": "sample", "counts": [0, 2]}

    notebook = run_notebook("06_hints", **tiny, limit=2, output="out")

    assert "   2 hints: " in printed(notebook)
    assert pictures(notebook) == 4
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"portrait.jpg", "curve.json"} | {
        f"{name}.png" for name in ("curve", "hints", "likely", "variants")
    }
