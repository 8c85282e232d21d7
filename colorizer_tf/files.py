"""Finds photos below a folder, and writes files completely or not at all."""

import contextlib
import os
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_photos(folder: str | os.PathLike) -> list[Path]:
    """Returns the sorted paths of all photos below a folder.

    A photo has one of the `EXTENSIONS`, in upper or lower case. Hidden files are
    skipped.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no photo.

    Example:

    ```python
    photos = ct.find_photos("scans")
    ```
    """
    folder = Path(folder)
    return [folder / name for name in find_names(folder)]


def find_names(folder: str | os.PathLike) -> list[str]:
    """Returns the photos of `find_photos` as names relative to it, with "/"."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()}.")
    names = [name for name in list_files(folder) if is_photo_name(name)]
    if not names:
        raise no_photos(folder.absolute())
    names.sort(key=name_order)
    return names


def is_photo_name(name):
    """Returns whether a file of this name counts as a photo."""
    name = name.rpartition("/")[2]
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def name_order(name):
    """Returns a sort key: names sort as their paths do."""
    return name.replace("/", "\0")


def no_photos(place):
    """Returns the error for a place without photos."""
    return FileNotFoundError(
        f"No photos in {place} or the folders below it: looked for files ending in "
        f"{', '.join(EXTENSIONS)}."
    )


def list_files(folder, above=""):
    """Yields the names of all files below a folder, relative to it, with "/".

    It skips folders that it may not read.

    Args:
        folder: the folder.
        above: a prefix for the names.
    """
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from list_files(entry.path, f"{above}{entry.name}/")
            elif entry.is_file():
                yield above + entry.name


@contextlib.contextmanager
def atomic_write(path, sync=True):
    """Yields a temporary path, and renames it to `path` if no error occurs.

    After an interruption, `path` holds its old content or all of the new one. The
    next write to `path` reuses the temporary file of a killed process.

    Args:
        path: the file.
        sync: whether to wait until the disk has the content. Without it, a power cut
            may leave an empty file.
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
    """Raises `FileExistsError` if a path exists."""
    if path.exists():
        raise FileExistsError(
            f"{path} is there already: name another file, or remove it."
        )
