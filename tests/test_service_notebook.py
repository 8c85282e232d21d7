"""Runs notebook 05 by papermill from another folder."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="needs the extra `service`")


def test_the_service_starts_colorizes_and_stops(run_notebook, generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    photo = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")

    notebook = run_notebook("05_service", photo="a.png", weights="generator.keras")

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "a.png: 200, image/png" in text
    assert "The service has ended, with exit code 0" in text
    data = [output.get("data", {}) for output in outputs]
    assert any("<iframe" in each.get("text/html", "") for each in data)
    assert any("image/png" in each for each in data)
