"""Runs notebook 04 by papermill from another folder."""

import numpy as np
from PIL import Image

import colorizer_tf as ct


def test_a_folder_comes_out_in_color(run_notebook, generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    (tmp_path / "scans").mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(photo).save(tmp_path / "scans/a.png")

    notebook = run_notebook(
        "04_colorize", photos="scans", output="out", weights="generator.keras"
    )

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "1 photos: 1 done" in "".join(output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert ct.read_photo(tmp_path / "out/a.png").shape == (40, 50, 3)
