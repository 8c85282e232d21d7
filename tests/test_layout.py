"""Who imports whom."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "colorizer_tf"
MODULES = sorted(LIBRARY.glob("*.py"))
SERVICE = "colorizer_tf.service"


def find_imports(tree):
    """All that a module imports, anywhere in it, as full dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = ["colorizer_tf"] if node.level else []
            parts += [node.module] if node.module else []
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def imports_service(tree):
    return any(f"{name}.".startswith(f"{SERVICE}.") for name in find_imports(tree))


@pytest.mark.parametrize(
    "line",
    [
        "import colorizer_tf.service.jobs",
        "from colorizer_tf import photos, service",
        "from colorizer_tf.service import serve",
        "from colorizer_tf.service.page import mount_page as mount",
        "from .service import serve",
        "from . import service",
        "def serve():\n    from colorizer_tf.service import serve",
    ],
)
def test_an_import_of_the_service_is_seen(line):
    assert imports_service(ast.parse(line))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nobody_in_the_library_imports_the_service(path):
    tree = ast.parse(path.read_text("utf-8"))
    if path.stem == "__main__":
        # The command imports the service only when it is asked to run it.
        (serve,) = [node for node in tree.body if getattr(node, "name", "") == "_serve"]
        assert imports_service(serve)
        tree.body.remove(serve)
    assert not imports_service(tree)
