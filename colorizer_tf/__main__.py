"""The commands: `colorizer-tf colorize SOURCE DESTINATION`, `serve` and `site`."""

import argparse
import contextlib
import importlib
import math
import signal
import sys
import warnings
from pathlib import Path

from colorizer_tf import __version__

MAX_VARIANTS = 12
MAX_PORT = 2**16 - 1


def main(arguments=None):
    """Runs a command.

    Args:
        arguments: a list of texts; by default those of the process.

    Returns:
        The exit code: 0 for success, 1 if something failed, 130 if interrupted.
    """
    options = _parse(arguments)
    # SIGTERM acts like Ctrl-C: files in progress are finished first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _parse(arguments):
    run_as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m colorizer_tf" if run_as_module else "colorizer-tf",
        description="Gives black-and-white photos their colors.",
    )
    parser.add_argument(
        "--version", action="version", version=f"colorizer_tf {__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_colorize(commands)
    _add_serve(commands)
    _add_site(commands)
    return parser.parse_args(arguments)


def _add_colorize(commands):
    colorize = commands.add_parser(
        "colorize",
        help="colorize a photo, a film, or all of them below a folder",
        description="Colorizes a photo, a film, or all of them below a folder into the "
        "same tree of folders. Photos are never changed, and results that are up to "
        "date are skipped. With --ray, several machines colorize an archive, in "
        "folders or in buckets such as s3://bucket/scans.",
        epilog="Exit code: 0 for success, 1 if something failed, 2 for wrong "
        "arguments, 130 if interrupted.",
    )
    colorize.add_argument(
        "source", metavar="SOURCE", help="a photo, a film, or a folder"
    )
    colorize.add_argument(
        "destination",
        metavar="DESTINATION",
        help="a file for a photo or a film, or a folder",
    )
    colorize.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="factor of the predicted color, not of the hints; 0 is gray (1)",
    )
    colorize.add_argument(
        "--weights",
        metavar="FILE",
        help="a generator.keras, or hf://owner/name for one on the Hugging Face Hub "
        "(the package's own)",
    )
    colorize.add_argument(
        "--working-size",
        type=_whole_number(1, math.inf, "is no number of pixels: 1 or more"),
        metavar="PIXELS",
        help="most pixels at the shorter side of the network's input (192)",
    )
    colorize.add_argument(
        "--format",
        choices=("bmp", "jpg", "png", "tif", "webp"),
        help="format of a folder's results (that of each photo)",
    )
    colorize.add_argument(
        "--hints",
        metavar="FILE",
        help="colors of places in a photo, as JSON: "
        '[{"x": 0.41, "y": 0.33, "color": "#2e5d34"}], where x and y are fractions of '
        'width and height; for a film, each also has "time": seconds (for a folder: '
        "NAME.hints.json beside a photo)",
    )
    colorize.add_argument(
        "--variants",
        type=_whole_number(1, MAX_VARIANTS, f"is not from 1 to {MAX_VARIANTS}"),
        metavar="COUNT",
        help="write several results of a photo, which differ where the network is "
        "unsure: NAME (1).jpg, NAME (2).jpg, ...",
    )
    colorize.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="colorize on a Ray cluster, or with Ray on this machine (--ray alone, "
        "after DESTINATION)",
    )
    colorize.set_defaults(command=_colorize)


def _add_serve(commands):
    serve = commands.add_parser(
        "serve",
        help="run the service: a page for people, an API for programs",
        description="Runs the service: a page for people at /, and POST "
        "/api/colorize for programs, described at /docs. After SIGTERM or Ctrl-C, it "
        "finishes all accepted photos and ends.",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (127.0.0.1)"
    )
    serve.add_argument(
        "--port",
        type=_whole_number(0, MAX_PORT, f"is no port: the highest is {MAX_PORT}"),
        default=8000,
        help="(8000)",
    )
    serve.add_argument(
        "--weights",
        metavar="FILE",
        help="a generator.keras, or hf://owner/name for one on the Hugging Face Hub "
        "(the package's own)",
    )
    serve.set_defaults(command=_serve)


def _add_site(commands):
    site = commands.add_parser(
        "site",
        help="write the page as a static site, with the network in it",
        description="Writes the page as a static site for any web server. It colorizes "
        "photos in the visitor's browser, and uploads none.",
    )
    site.add_argument(
        "folder", metavar="FOLDER", help="a new folder, or one with an older site"
    )
    site.add_argument(
        "--weights", metavar="FILE", help="a generator.keras (the package's own)"
    )
    site.set_defaults(command=_site)


def _whole_number(lowest, highest, otherwise):
    """Returns a type for argparse; `otherwise` says what is wrong with a text."""

    def parse(text):
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text} {otherwise}")
        return int(text)

    return parse


def _colorize(options):
    # Pillow's warnings about odd files would interrupt the progress bar.
    warnings.filterwarnings("ignore", module="PIL")
    if options.hints and (options.ray or Path(options.source).is_dir()):
        raise ValueError(
            "--hints is for a photo or a film: for a folder, use NAME.hints.json "
            "beside each photo."
        )
    if options.variants and (options.ray or not Path(options.source).is_file()):
        raise ValueError("--variants is for a photo.")
    for place in (options.source, options.destination):
        if "://" in place and not options.ray:
            raise ValueError(
                f"{place} is no folder of this machine: an address needs --ray."
            )
    source = Path(options.source)
    if "://" not in options.source and not source.exists():
        raise FileNotFoundError(f"There is no photo or folder {source.absolute()}.")
    if options.ray:
        return _colorize_archive(options)
    if source.is_file() and options.format:
        raise ValueError(
            "--format is for folders: a photo has the format that DESTINATION ends in."
        )
    films = _find_films(source)
    if films and source.is_file():
        if options.variants:
            raise ValueError("--variants is for a photo, not for a film.")
        return _colorize_film(options)
    hints = _read_hints(options.hints) if options.hints else ()
    colorizer = _load(options.weights, **_size(options))
    if source.is_file():
        settings = options.strength, hints
        if options.variants:
            paths = colorizer.colorize_variants(
                source, options.destination, options.variants, *settings
            )
        else:
            paths = [colorizer.colorize_file(source, options.destination, *settings)]
        print("\n".join(map(str, paths)))
        return 0
    failed = 0
    if not films or _has_photos(source):
        failed = _finish(
            colorizer.colorize_folder(
                source, options.destination, options.strength, _extension(options)
            )
        )
    return _colorize_films(colorizer, options) or failed if films else failed


def _find_films(source):
    from colorizer_tf.film_hints import find_films, is_film_name

    return find_films(source) if source.is_dir() else is_film_name(source)


def _has_photos(source):
    from colorizer_tf.files import is_photo_name

    return any(is_photo_name(path.name) for path in source.rglob("*"))


def _import(name):
    try:
        return importlib.import_module(f"colorizer_tf.{name}")
    except ModuleNotFoundError as error:  # the message says what to install
        raise ValueError(error) from error


def _colorize_film(options):
    _import("film")
    from colorizer_tf.film_hints import read_film_hints

    hints = read_film_hints(options.hints) if options.hints else ()
    colorizer = _load(options.weights, **_size(options))
    print(
        colorizer.colorize_film(
            options.source, options.destination, options.strength, hints
        )
    )
    return 0


def _colorize_films(colorizer, options):
    return _finish(
        _import("films").colorize_films(
            colorizer, options.source, options.destination, options.strength
        )
    )


def _colorize_archive(options):
    if Path(options.source).is_file():
        raise ValueError("--ray is for folders and buckets, not for a single photo.")
    archive = _import("archive")
    colorizer = _load(options.weights, **_size(options))
    return _finish(
        archive.colorize_archive(
            colorizer,
            options.source,
            options.destination,
            options.strength,
            _extension(options),
            options.ray,
        )
    )


def _size(options):
    size = options.working_size
    return {} if size is None else {"working_size": size}


def _extension(options):
    return f".{options.format}" if options.format else None


def _finish(report):
    print(report)
    return 1 if report.count("failed") else 0


def _serve(options):
    # uvicorn raises it again after it has stopped; a second Ctrl-C raises it as well.
    with contextlib.suppress(KeyboardInterrupt):
        try:
            from colorizer_tf.service import serve
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] == "colorizer_tf":
                raise
            raise ValueError(
                f"The service needs {error.name}, which is not installed: "
                'pip install "colorizer_tf[service]", or pip install -e ".[service]" '
                "in the project's folder."
            ) from error
        serve(_load(options.weights), options.host, options.port)
    return 0


def _site(options):
    from colorizer_tf.site import write_site

    print("Gathering the page, the network and ONNX Runtime Web ...", flush=True)
    files = write_site(options.folder, options.weights)
    for name, size in sorted(files.items(), key=lambda item: -item[1]):
        print(f"{size:12,}  {name}")
    print(f"{sum(files.values()):12,}  {Path(options.folder).absolute()}")
    print(f"Try it: {sys.executable} -m http.server --directory {options.folder}")
    return 0


def _read_hints(path):
    from colorizer_tf.hints import read_hints

    return read_hints(path)


def _load(weights, **kwargs):
    # Importing takes time; --help and a wrong SOURCE do without it.
    from colorizer_tf.colorizer import Colorizer

    try:
        return Colorizer.load(weights or Colorizer.WEIGHTS, **kwargs)
    except ImportError as error:  # hf:// needs huggingface_hub
        raise ValueError(error) from error


if __name__ == "__main__":
    sys.exit(main())
