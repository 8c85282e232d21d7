"""Runs notebooks, and writes what they show as pages: docs/notebooks/NAME.md.

    python docs/run_notebooks.py 00_quickstart 01_explore_data

Without names, it runs all. They run on the embedded sample, so that it takes minutes.
"""

import argparse
import base64
import io
import re
import shutil
import tempfile
from pathlib import Path

import papermill
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
PAGES = PROJECT / "docs/notebooks"
RUN = str(PROJECT / "runs/sample")
# What differs from the defaults, so that a page is made in minutes.
PARAMETERS = {
    "01_explore_data": {"photos": "sample"},
    "02_train": {
        "photos": "sample",
        "run_dir": RUN,
        "batch_size": 32,
        "epochs": 40,
    },
    "03_evaluate": {"runs": RUN, "pretrained": True},
    "06_hints": {"photos": "sample"},
}
WIDTH = 900
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# What a page does not show: a bar of progress at its start, a frame of a service.
LIVE = ("application/vnd.jupyter.widget-view+json", "<IPython.lib.display.IFrame")


def main():
    """Runs the notebooks that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as 00_quickstart")
    known = sorted(path.stem for path in PROJECT.glob("notebooks/*.ipynb"))
    for name in parser.parse_args().names or known:
        with tempfile.TemporaryDirectory() as folder:
            notebook = papermill.execute_notebook(
                PROJECT / f"notebooks/{name}.ipynb",
                f"{folder}/{name}.ipynb",
                PARAMETERS.get(name, {}),
                cwd=PROJECT,
                progress_bar=False,
            )
        write_page(name, notebook)


def write_page(name, notebook):
    """Writes a notebook that was run: its text, its code, and its outputs."""
    pictures = PAGES / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    title, *parts = (part for cell in notebook.cells for part in show(cell, pictures))
    note = f"*[The notebook](../../notebooks/{name}.ipynb), run on the sample.*"
    text = "\n\n".join([*add_note(title, note), *parts]) + "\n"
    (PAGES / f"{name}.md").write_text(text, "utf-8")
    print(PAGES / f"{name}.md")


def add_note(title, note):
    """Puts a note below the heading of a page."""
    heading, _, rest = title.partition("\n")
    return [heading, note, rest.strip()]


def show(cell, pictures):
    """Yields a cell's text or code, then its outputs, as Markdown."""
    if cell.cell_type == "markdown":
        yield cell.source.replace("](../docs/", "](../")
        return
    yield fence(cell.source, "python")
    printed = ""
    for output in cell.outputs:
        if output.get("name") == "stdout":
            printed += output.text
        data = output.get("data", {})
        if "image/png" in data:
            path = pictures / f"{len(list(pictures.iterdir())) + 1}.jpg"
            save(data["image/png"], path)
            yield f"![Output]({pictures.name}/{path.name})"
        elif any(live in str(data) for live in LIVE):
            continue
        elif "text/plain" in data:  # with LaTeX, source code that was shown
            language = "python" if "text/latex" in data else "text"
            yield fence(ESCAPES.sub("", data["text/plain"]), language)
    if printed.strip():
        yield fence(ESCAPES.sub("", printed), "text")


def fence(text, language):
    """Returns a block of code, without the paths of this machine."""
    text = text.replace(str(PROJECT), "colorizer_tf").strip("\n")
    return f"```{language}\n{text}\n```"


def save(png, path):
    """Saves a picture as a small JPEG."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.split()[3] if image.mode == "RGBA" else None)
    white.thumbnail((WIDTH, 4 * WIDTH))
    white.save(path, quality=80, optimize=True)


if __name__ == "__main__":
    main()
