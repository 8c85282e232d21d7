"""Notebook 04, run by papermill from a folder that is not its own."""

from pathlib import Path

import numpy as np
import papermill
from PIL import Image

import colorizer_tf as ct

NOTEBOOK = Path(__file__).parent.parent / "notebooks/04_colorize.ipynb"


def test_a_folder_comes_out_in_colour(generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    (tmp_path / "scans").mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(photo).save(tmp_path / "scans/a.png")

    notebook = papermill.execute_notebook(
        NOTEBOOK,
        tmp_path / "04_colorize.ipynb",
        {"photos": "scans", "output": "out", "weights": "generator.keras"},
        cwd=tmp_path,
        progress_bar=False,
        execution_timeout=300,
    )

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "1 photos: 1 done" in "".join(output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert ct.read_photo(tmp_path / "out/a.png").shape == (40, 50, 3)
