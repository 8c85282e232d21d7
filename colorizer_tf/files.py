"""Files: photos found below a folder, and files written whole or not at all."""

import contextlib
import os
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_photos(folder):
    """Returns the photos below a folder, as a sorted list of paths.

    Photos are known by their extension, in upper or lower case; hidden files
    are passed over.

    Raises:
        FileNotFoundError: no such folder, or no photo in it.
    """
    folder = Path(folder)
    return [folder / name for name in find_names(folder)]


def find_names(folder):
    """Returns what `find_photos` finds as names below the folder, "/" between."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()}.")
    names = [name for name in list_files(folder) if is_photo_name(name)]
    if not names:
        raise no_photos(folder.absolute())
    names.sort(key=name_order)
    return names


def is_photo_name(name):
    """Whether a file of this name counts as a photo."""
    name = name.rpartition("/")[2]
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def name_order(name):
    """What names below a folder are sorted by: as paths are."""
    return name.replace("/", "\0")


def no_photos(place):
    """Returns the error for a place where no photo is."""
    return FileNotFoundError(
        f"No photos in {place} or the folders below it: looked for files ending in "
        f"{', '.join(EXTENSIONS)}."
    )


def list_files(folder, above=""):
    """Yields the names of all files below a folder, "/" between."""
    # A folder that may not be looked into is passed over.
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from list_files(entry.path, f"{above}{entry.name}/")
            elif entry.is_file():
                yield above + entry.name


@contextlib.contextmanager
def atomic_write(path, sync=True):
    """A temporary path that takes the place of `path` when all went well.

    Whatever interrupts the writing, `path` holds either what it held before or
    all of what is new. A file left behind by a kill is taken over by the
    next writing of the same `path`.

    Args:
        path: the file.
        sync: wait until the disk has it, so that not even a power cut leaves an
            empty file.
    """
    path = Path(path)
    temporary = path.with_name(f".partial.{path.name}")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_free(path):
    """Raises `FileExistsError` for a path that is there already."""
    if path.exists():
        raise FileExistsError(
            f"{path} is there already: name another file, or remove it."
        )
