"""Gathers the pages of the documentation's site in build/docs.

    python docs/build.py
    colorizer-tf site build/docs/try
    zensical build --clean --strict

The pages are written for a reader of the repository. On the site, links to files
outside of docs/ must lead to copies: this script makes them and turns the links.
The link "Try it" leads to the page that `colorizer-tf site` writes.
"""

import os
import re
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SITE = PROJECT / "build/docs"
# Pages from outside of docs/, and their names on the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "readme.md",
    "README.ru.md": "readme.ru.md",
    "colorizer_tf/weights/README.md": "model-card.md",
    "data/README.md": "photos.md",
    "examples/README.md": "examples.md",
}
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[#)])")
# A reader of the repository has no built page: there, the link leads to its guide.
TRY_IT, TRY_IT_ON_SITE = "[Try it](site.md)", "[Try it](try/index.html)"


def main():
    """Gathers the pages anew."""
    shutil.rmtree(SITE, ignore_errors=True)
    names = dict(PAGES)
    for path in sorted((PROJECT / "docs").rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            names[str(path.relative_to(PROJECT))] = str(
                path.relative_to(PROJECT / "docs")
            )
    for path in PROJECT.glob("notebooks/*.ipynb"):
        page = f"notebooks/{path.stem}.md"
        if f"docs/{page}" in names:  # the executed copy
            names[f"notebooks/{path.name}"] = page
    for source, name in names.items():
        target = SITE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            text = FRONT_MATTER.sub("", (PROJECT / source).read_text("utf-8"))
            text = turn_links(text, source, names)
            target.write_text(text.replace(TRY_IT, TRY_IT_ON_SITE), "utf-8")
        elif not source.endswith(".ipynb"):
            shutil.copy(PROJECT / source, target)


def turn_links(text, source, names):
    """Returns a page whose relative links lead to pages and files of the site."""

    def turn(link):
        path = os.path.normpath(os.path.join(os.path.dirname(source), link[1]))
        name = names.get(path)
        if name in (None, names[source]):  # an executed copy links to its notebook
            name = f"files/{path}"
            target = SITE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / path, target)
        return os.path.relpath(name, os.path.dirname(names[source]) or ".")

    return LINK.sub(turn, text)


if __name__ == "__main__":
    main()
