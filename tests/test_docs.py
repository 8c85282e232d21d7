"""Tests the documentation: its links exist, and its commands work.

The commands that train or export take minutes; they run with ALL_COMMANDS=1.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import colorizer_tf as ct
from colorizer_tf.__main__ import _parse, main

PROJECT = Path(__file__).parent.parent
CARD = PROJECT / "colorizer_tf/weights/README.md"
PAGES = [
    *sorted(PROJECT.glob("*.md")),
    *sorted(PROJECT.glob("docs/**/*.md")),
    *(PROJECT / "data/README.md", PROJECT / "examples/README.md", CARD),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# The page without a server, on the documentation's site.
TRY = "try/index.html"
# Commands that need a reader's own photos, a cluster or a container.
BY_HAND = ("docker", "export", "source", "curl", "cd", "jupyter", "pipx", "uvx")
SLOW = pytest.mark.skipif(
    not os.environ.get("ALL_COMMANDS"), reason="takes minutes; set ALL_COMMANDS=1"
)


def name(path):
    return path.relative_to(PROJECT).as_posix()


def prose(path):
    return FENCE.sub("", path.read_text("utf-8"))


def anchors(path):
    """The anchors that GitHub gives to the headings of a page."""
    headings = HEADING.findall(prose(path))
    texts = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in texts}


def blocks(language, pages):
    """The code blocks in a language, each with a name for the report."""
    for path in pages:
        found = FENCE.findall(path.read_text("utf-8"))
        for number, (kind, code) in enumerate(found, 1):
            if kind == language:
                yield f"{name(path)}, block {number}", code


def commands():
    for block, code in blocks("sh", PAGES):
        for line in code.replace("\\\n", " ").splitlines():
            line = re.sub(r"^[A-Z_]+=\S+ ", "", line)
            if words := shlex.split(line, comments=True):
                yield block, tuple(words)


COMMANDS = sorted(set(commands()))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_link_is_dead(path):
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        page = path.parent / target if target else path
        assert page.exists(), link
        if anchor:
            assert anchor in anchors(page), link


def test_a_dead_anchor_would_be_seen():
    assert "train-on-several-workers" in anchors(PROJECT / "docs/many-machines.md")
    assert "no-such-heading" not in anchors(PROJECT / "docs/many-machines.md")


def test_the_model_card_reads_outside_of_the_repository():
    links = LINK.findall(prose(CARD))
    assert all(link.startswith(("https:", "#")) for link in links)


@pytest.mark.parametrize("language", ["", ".ru"])
def test_the_readme_is_one_screen_and_a_half(language):
    text = (PROJECT / f"README{language}.md").read_text("utf-8")
    assert len(text.split()) <= 800
    assert len(text.splitlines()) <= 130


def test_both_readmes_have_the_same_commands():
    both = [PROJECT / "README.md", PROJECT / "README.ru.md"]
    for language in ("sh", "python"):
        english, russian = (
            [code for _, code in blocks(language, [path])] for path in both
        )
        assert english == russian


def test_the_reference_has_all_public_names():
    text = (PROJECT / "docs/reference.md").read_text("utf-8")
    listed = re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE)
    assert set(listed) | {"survey", "training"} == set(ct.__all__)


@pytest.mark.parametrize(("block", "command"), COMMANDS)
def test_a_command_exists(block, command):
    first, *rest = command
    if first == "colorizer-tf":
        if rest != ["--version"]:
            _parse(rest)
    elif first == "make":
        assert re.search(f"^{rest[0]}:", (PROJECT / "Makefile").read_text(), re.M)
    elif first == "pip":
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
        extras = re.findall(r"\[(\w+)\]$", rest[-1])
        ours = not rest[-1].startswith("tensorflow")
        assert (
            not ours
            or set(extras) <= project["project"]["optional-dependencies"].keys()
        )
    elif first == "papermill":
        (notebook,) = [word for word in rest if word.startswith("notebooks/")]
        assert (PROJECT / notebook).is_file()
    elif Path(first).name in ("python", "python3"):
        assert rest[0].startswith("-") or (PROJECT / rest[0]).is_file()
    else:
        assert first in BY_HAND, f"{first}: say here how it is tested"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's current folder, with the examples."""
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_are_colored_as_the_readme_says(folder, capsys):
    ours = [c for _, c in COMMANDS if any(w.startswith("examples") for w in c)]
    ours = sorted({command for command in ours if command[0] == "colorizer-tf"})
    assert len(ours) >= 3
    for command in ours:
        assert main(command[1:]) == 0, command
    assert (folder / "portrait.jpg").is_file()
    assert (folder / "hinted.jpg").read_bytes() != (
        folder / "portrait.jpg"
    ).read_bytes()
    assert {path.name for path in (folder / "colorized").glob("*.jpg")} == {
        "meadow.jpg",
        "portrait.jpg",
    }


def test_with_its_hints_a_folder_has_the_photo_that_the_readme_shows(folder):
    command = "colorize examples/portrait.jpg hinted.jpg --hints"
    assert main([*command.split(), "examples/portrait.hints.json"]) == 0
    assert main(["colorize", "examples", "colorized"]) == 0
    alone, among_others = folder / "hinted.jpg", folder / "colorized/portrait.jpg"
    assert alone.read_bytes() == among_others.read_bytes()


def run(code):
    """Runs code in a process of its own, as a reader does."""
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path.strip(os.pathsep)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


QUICK = [PROJECT / "README.md", PROJECT / "docs/python.md"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=block, marks=[SLOW] if ".fit(" in code else [])
        for block, code in blocks("python", QUICK)
    ],
)
def test_python_of_the_readme_and_the_guide(code):
    run(code)


@SLOW
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", ["docs/evaluation.md", "docs/export.md"])
def test_python_of_a_whole_page(page):
    # The blocks of these pages build on each other.
    run("\n".join(code for _, code in blocks("python", [PROJECT / page])))


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=block) for block, code in blocks("python", PAGES)]
)
def test_python_is_python(code):
    compile(code, "documentation", "exec")


def gather_site(folder, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import build

    monkeypatch.setattr(build, "SITE", folder)
    build.main()


def test_the_pages_of_the_site_are_gathered(tmp_path, monkeypatch):
    gather_site(tmp_path, monkeypatch)
    for path in tmp_path.rglob("*.md"):
        for link in LINK.findall(prose(path)):
            target = link.partition("#")[0]
            if target == TRY:  # `make docs` writes it
                continue
            if target and not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), f"{path}: {link}"


def test_the_site_begins_with_the_page_to_try(tmp_path, monkeypatch):
    site = tomllib.loads((PROJECT / "zensical.toml").read_text("utf-8"))
    assert site["project"]["nav"][0] == {"Try it": TRY}
    assert "site build/docs/try\n" in (PROJECT / "Makefile").read_text("utf-8")
    gather_site(tmp_path, monkeypatch)
    links = LINK.findall((tmp_path / "index.md").read_text("utf-8"))
    assert links[0] == TRY
