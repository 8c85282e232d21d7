"""The places of photos and results: a folder, or a bucket at an address."""

import contextlib
import os
import shutil
import socket
import uuid
from pathlib import Path
from typing import Protocol

from colorizer_tf.files import (
    EXTENSIONS,
    atomic_write,
    find_names,
    is_photo_name,
    name_order,
    no_photos,
)
from colorizer_tf.photos import PhotoError

# Each of several writers keeps its part of the account here. At the end, or in the
# next run, the parts are merged into the record.
PARTS = ".colorizer_tf"
SCRATCH = f"{PARTS}/scratch"
# The ending of the names of files with hints.
HINTS = ".hints.json"
# Stores that write a file whole or not at all. Elsewhere a file is renamed at the end.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}


class Place(Protocol):
    """What `Folder` and `Bucket` have in common.

    A file's name is its path below the place, with "/" between folders.

    Attributes:
        lists_once: whether files are listed only once, so that later ones stay unseen.
        scratch: a folder from which `put` can rename files; None if there is none.
    """

    lists_once: bool
    scratch: Path | None

    def make(self): ...
    def make_scratch(self): ...
    def require(self, name=""): ...
    def locate(self, name): ...
    def address(self, name): ...
    def local_path(self, name): ...
    def find_inside(self, other): ...
    def find(self): ...
    def find_hints(self, photo): ...
    def state(self, name): ...
    def size(self, name): ...
    def has_address(self, address): ...
    def read(self, names): ...
    def write(self, name, content): ...
    def put(self, path, name): ...
    def parts(self): ...
    def remove(self, parts): ...


class Folder:
    """A folder of photos, or for results.

    Args:
        path: the folder.
    """

    lists_once = False

    def __init__(self, path):
        self.path = Path(path).resolve()
        self._root = str(self.path)
        self._hints_in = None, frozenset()

    def __str__(self):
        return self._root

    def make(self):
        """Creates the folder if it is missing."""
        if self.path.is_file():
            raise NotADirectoryError(f"{self} is a file: name a folder.")
        self.path.mkdir(parents=True, exist_ok=True)

    def make_scratch(self):
        """Creates the folder in which workers write results before they rename them."""
        (self.path / SCRATCH).mkdir(parents=True, exist_ok=True)

    def require(self, name=""):
        """Raises `FileNotFoundError` if this machine does not find the folder.

        Args:
            name: a folder that must be in it; a different folder under the same path
                lacks it.
        """
        if not (self.path / name).is_dir():
            raise FileNotFoundError(
                f"The machine {socket.gethostname()} does not find {self}: photos and "
                "results must lie where all machines find them, under the same name."
            )

    @property
    def scratch(self):
        """The folder for files that `put` renames into this place."""
        return self.path / SCRATCH

    def local_path(self, name):
        """Returns the path of a file on this machine; None if it must be fetched."""
        return self.path / name

    def put(self, path, name):
        """Moves a file from `scratch` to this place, whole or not at all."""
        there = self.path / name
        there.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, there)

    def locate(self, name):
        """Returns the path of a file of this folder."""
        return self.path / name

    def address(self, name):
        """Returns the path as text; this takes a tenth of the time of `locate`."""
        return os.path.join(self._root, name.replace("/", os.sep))

    def find_inside(self, other):
        """Returns the name of another place in this one: "." for itself, else None."""
        if not isinstance(other, Folder) or not other.path.is_relative_to(self.path):
            return None
        return other.path.relative_to(self.path).as_posix()

    def find(self):
        """Returns the names of the photos in it; see `files.find_names`."""
        return find_names(self.path)

    def find_hints(self, photo):
        """Returns the name of the file with a photo's hints; see `choose_hints`."""
        folder, _, _ = photo.rpartition("/")
        if self._hints_in[0] != folder:  # photos come sorted by folder
            files = os.listdir(self.address(folder))
            self._hints_in = folder, {name for name in files if name.endswith(HINTS)}
        return choose_hints(
            photo,
            lambda name: name.rpartition("/")[2] in self._hints_in[1],
            lambda name: self.size(name) is not None,
        )

    def state(self, name):
        """Returns a file's size in bytes and its time of change in nanoseconds."""
        facts = os.stat(self.address(name))
        return facts.st_size, facts.st_mtime_ns

    def size(self, name):
        """Returns a file's size in bytes; None if there is no such file."""
        try:
            return os.stat(self.address(name)).st_size
        except FileNotFoundError:
            return None

    def has_address(self, address):
        """Whether a photo exists at an address that an account holds."""
        return Path(address).exists()

    def read(self, names):
        """Yields the content of files, and skips missing ones."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield (self.path / name).read_bytes()

    def write(self, name, content):
        """Writes a file, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    def parts(self):
        """Returns the names of the account's parts, in the order of their creation."""
        paths = sorted((self.path / PARTS).glob("*.jsonl"))
        return [path.relative_to(self.path).as_posix() for path in paths]

    def remove(self, parts):
        """Removes parts of the account, and the files that killed writers left."""
        for name in parts:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is missing or not empty
            (self.path / PARTS).rmdir()


class Bucket:
    """Photos or results at an address that fsspec opens.

    Args:
        address: such as "s3://bucket/scans", opened with the machine's credentials.

    Raises:
        ValueError: fsspec does not know this kind of address, or lacks its package.
        OSError: the address cannot be reached.
    """

    lists_once = True
    scratch = None

    def __init__(self, address):
        import fsspec

        self._address = address.rstrip("/")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self._address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{address} cannot be opened: {error}") from error
        except Exception as error:  # each file system raises errors of its own
            raise self._unreachable(error) from error
        self.root = self.root.rstrip("/")
        self._listing = None

    def __str__(self):
        return self._address

    def make(self):
        pass  # the first written file creates the address

    make_scratch = make

    def require(self, name=""):
        pass

    def local_path(self, name):
        return None

    def locate(self, name):
        return f"{self}/{name}"

    address = locate

    def find_inside(self, other):
        if not f"{other}/".startswith(f"{self}/"):
            return None
        return str(other)[len(self._address) + 1 :] or "."

    def find(self):
        names = [name for name in self._list() if is_photo_name(name)]
        if not names:
            if not self._list() and not self.files.exists(self.root):
                raise FileNotFoundError(f"There is no {self}.")
            raise no_photos(self)
        return sorted(names, key=name_order)

    def state(self, name):
        return self._list()[name]

    def find_hints(self, photo):
        return choose_hints(photo, self._list().__contains__, self._list().__contains__)

    def size(self, name):
        size, _ = self._list().get(name, (None, None))
        return size

    def has_address(self, address):
        return address.startswith(f"{self}/") and (
            address.removeprefix(f"{self}/") in self._list()
        )

    def read(self, names):
        paths = [self._path(name) for name in names]
        for start in range(0, len(paths), 256):
            some = self.files.cat(paths[start : start + 256], on_error="return")
            for content in some.values():
                if isinstance(content, bytes):
                    yield content
                elif not isinstance(content, FileNotFoundError):
                    raise self._unreachable(content) from content

    def write(self, name, content):
        self._place(name, lambda path: self.files.pipe_file(path, content))

    def parts(self):
        # Results are listed before the account: each listed one is already noted in it.
        self._list()
        self.files.invalidate_cache()
        start = len(self.root) + 1
        with contextlib.suppress(FileNotFoundError):
            paths = self.files.find(self._path(PARTS))
            return sorted(path[start:] for path in paths if path.endswith(".jsonl"))
        return []

    def remove(self, parts):
        with contextlib.suppress(FileNotFoundError):
            self.files.rm([self._path(name) for name in parts])

    def fetch(self, name, path):
        """Downloads a file to a path."""
        self.files.get_file(self._path(name), str(path))

    def put(self, path, name):
        """Uploads a file, whole or not at all."""
        self._place(name, lambda there: self.files.put_file(str(path), there))

    def _place(self, name, step):
        path = self._path(name)
        protocols = self.files.protocol
        if OBJECT_STORES.intersection(
            [protocols] if isinstance(protocols, str) else protocols
        ):
            step(path)
            return
        folder, _, last = path.rpartition("/")
        self.files.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.partial.{uuid.uuid4().hex}.{last}"
        try:
            step(temporary)
            self.files.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.files.rm_file(temporary)
            raise

    def _path(self, name):
        return f"{self.root}/{name}"

    def _list(self):
        """Returns all files as name -> (bytes, stamp); see `_find_stamp`."""
        if self._listing is None:
            self.files.invalidate_cache()
            try:
                found = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                found = {}
            except Exception as error:
                raise self._unreachable(error) from error
            start = len(self.root) + 1
            self._listing = {
                path[start:]: (facts["size"], _find_stamp(facts))
                for path, facts in found.items()
                if len(path) > start
            }
        return self._listing

    def _unreachable(self, error):
        reason = str(error) or type(error).__name__
        return OSError(f"{self} cannot be reached: {reason}")


def _find_stamp(facts):
    """Returns a fact of the file system that changes with a file's content, or ""."""
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if facts.get(key):
            return str(facts[key])
    return ""


def is_address(place):
    """Whether a place is an address such as s3://bucket/scans and not a path."""
    return "://" in str(place)


def open_place(place):
    """Returns a `Folder` for a path, and a `Bucket` for an address."""
    if is_address(place) and not str(place).startswith("file://"):
        return Bucket(str(place))
    return Folder(str(place).removeprefix("file://"))


def choose_hints(photo, has_hints, has_photo):
    """Returns the name of the file with a photo's hints, or None.

    For `scan.jpg` it is `scan.jpg.hints.json`, or else `scan.hints.json`.

    Args:
        photo: the photo's name.
        has_hints: returns whether a file of hints with this name exists.
        has_photo: returns whether a photo with this name exists.

    Raises:
        PhotoError: `scan.hints.json` may also belong to another photo.
    """
    if has_hints(photo + HINTS):
        return photo + HINTS
    stem, own = os.path.splitext(photo)
    if not has_hints(stem + HINTS):
        return None
    for extension in (*EXTENSIONS, *map(str.upper, EXTENSIONS)):
        if extension != own and has_photo(stem + extension):
            raise PhotoError(
                f"{stem}{HINTS} may belong to {photo} or to {stem}{extension}: name it "
                f"after the whole name of one, {photo}{HINTS}."
            )
    return stem + HINTS
