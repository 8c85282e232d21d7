"""The account of which photo gave which result, kept where the results are."""

import contextlib
import json
import os
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

from colorizer_tf.photos import EXTENSIONS, PhotoError, find_names, whole_file

RECORD = ".colorizer_tf.jsonl"
# What many writers leave is put in here, each in files of its own, and goes into
# the record with the next run.
PARTS = ".colorizer_tf"
SCRATCH = f"{PARTS}/scratch"
# What the name of a file with a photo's hints ends in.
HINTS = ".hints.json"


class Folder:
    """A folder of photos, or for results.

    Args:
        path: the folder.
    """

    def __init__(self, path):
        self.path = Path(path).resolve()
        self._root = str(self.path)
        self._hints_in = None, frozenset()

    def __str__(self):
        return self._root

    def make(self):
        """Makes the folder, if need be."""
        if self.path.is_file():
            raise NotADirectoryError(f"{self} is a file: name a folder.")
        self.path.mkdir(parents=True, exist_ok=True)

    def locate(self, name):
        """Returns what people and programs call a file of this folder."""
        return self.path / name

    def address(self, name):
        """Returns the same as text, in a tenth of the time."""
        return os.path.join(self._root, name.replace("/", os.sep))

    def find_inside(self, other):
        """Returns the name of a folder that is in this one, or "." for itself."""
        if not isinstance(other, Folder) or not other.path.is_relative_to(self.path):
            return None
        return other.path.relative_to(self.path).as_posix()

    def find(self):
        """Returns the names of the photos in it; see `photos.find_names`."""
        return find_names(self.path)

    def find_hints(self, photo):
        """Returns the name of the file with a photo's hints; see `choose_hints`."""
        folder, _, _ = photo.rpartition("/")
        if self._hints_in[0] != folder:  # photos come folder by folder
            files = os.listdir(self.address(folder))
            self._hints_in = folder, {name for name in files if name.endswith(HINTS)}
        return choose_hints(
            photo,
            lambda name: name.rpartition("/")[2] in self._hints_in[1],
            lambda name: self.size(name) is not None,
        )

    def state(self, name):
        """Returns what tells a file from one that has changed."""
        facts = os.stat(self.address(name))
        return facts.st_size, facts.st_mtime_ns

    def size(self, name):
        """Returns the bytes that a file has; None if there is none."""
        try:
            return os.stat(self.address(name)).st_size
        except FileNotFoundError:
            return None

    def has_address(self, address):
        """Whether there is a photo at an address from an account."""
        return Path(address).exists()

    def read(self, names):
        """Yields the bytes of files; those that are not there are passed over."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield (self.path / name).read_bytes()

    def write(self, name, content):
        """Writes a file, which is there as a whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_bytes(content)

    def parts(self):
        """Returns the names of the account's parts, in the order of their making."""
        paths = sorted((self.path / PARTS).glob("*.jsonl"))
        return [path.relative_to(self.path).as_posix() for path in paths]

    def remove(self, parts):
        """Removes parts of the account, and what killed writers have left."""
        for name in parts:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is none, or it is not empty
            (self.path / PARTS).rmdir()


def choose_hints(photo, has_hints, has_photo):
    """Returns the name of the file with a photo's hints, or None.

    Of `scan.jpg` that is `scan.jpg.hints.json`, or else `scan.hints.json`.

    Args:
        photo: the photo's name.
        has_hints: tells whether there is a file of this name that holds hints.
        has_photo: tells whether there is a photo of this name.

    Raises:
        PhotoError: `scan.hints.json` may belong to another photo as well.
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


class Claim(NamedTuple):
    """What a photo is to become.

    Attributes:
        photo: its name, below the source.
        result: the name of its result, below the destination.
        state: what tells the photo, and its hints, from others.
        hints: the name of the file with its hints, if there is one.
    """

    photo: str
    result: str
    state: tuple
    hints: str | None = None


class Account:
    """Tells which results are there, and which name a result gets.

    It is kept in lines of JSON, one before a result is written, and another after
    it: whenever a run is killed, the next one knows which files are its own, and
    which of them are finished.

    Args:
        source: where photos are, such as a `Folder`.
        destination: where results go, likewise.
        settings: a digest of all that a result depends on but the photo.
    """

    def __init__(self, source, destination, settings):
        self.source = source
        self.destination = destination
        self.settings = settings
        self._entries = {}
        self._claimed = set()
        self._load([RECORD])
        self.merge()

    def merge(self):
        """Brings into the record what many writers have left."""
        parts = self.destination.parts()
        if parts:
            self._load(parts)
            lines = (make_line(*entry) for entry in self._entries.items())
            self.destination.write(RECORD, "".join(lines).encode())
        self.destination.remove(parts)

    def claim(self, photo, extension=None):
        """Finds a name for a photo's result that nothing else has taken.

        Args:
            photo: its name.
            extension: of the result; by default the photo's own.

        Returns:
            A `Claim`.

        Raises:
            OSError: the photo is gone.
            PhotoError: it is unclear whether hints are its own.
        """
        state = self.source.state(photo)
        hints = self.source.find_hints(photo)
        if hints:
            state += self.source.state(hints)
        stem, own = os.path.splitext(photo)
        name = photo if extension in (None, own) else stem + extension
        number, numbered = 1, name
        while not self._is_free(numbered, photo, state):
            number += 1
            numbered = f"{stem} ({number}){extension or own}"
        self._claimed.add(_fold(numbered))
        return Claim(photo, numbered, state, hints)

    def is_done(self, claim):
        """Whether the result is there, finished, and would be the same again."""
        entry = self._entries.get(_fold(claim.result))
        return (
            entry is not None
            and entry[1:] == (claim.state, self.settings, True)
            # A power cut can leave an empty file.
            and bool(self.destination.size(claim.result))
        )

    def line(self, claim, finished):
        """Returns the line that says of a result whether it is finished."""
        return make_line(*make_entry(self.source, claim, self.settings, finished))

    def _is_free(self, name, photo, state):
        folded = _fold(name)
        if folded in self._claimed:
            return False
        if folded not in self._entries:
            if self.destination.size(name) is None:
                return True
            # From elsewhere, unless a killed run's last writer was still at it. (In a
            # bucket, files are listed once, and before the account is read.)
            if isinstance(self.destination, Folder):
                self._load(self.destination.parts())
            if folded not in self._entries:
                return False
        address, known, *_ = self._entries[folded]
        # The same photo may have changed since, or moved.
        return address == self.source.address(photo) or (
            known == state and not self.source.has_address(address)
        )

    def _load(self, names):
        for content in self.destination.read(names):
            for line in content.splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # half a line, left by a kill
                    continue
                self._entries[entry["result"]] = (
                    entry["photo"],
                    tuple(entry["state"]),
                    sys.intern(entry["settings"]),
                    entry["finished"],
                )


def make_entry(source, claim, settings, finished):
    """Returns the key and the value under which an `Account` has a result."""
    photo = source.address(claim.photo)
    return _fold(claim.result), (photo, claim.state, settings, finished)


def make_line(result, entry, tries=1):
    """Returns the line of JSON that stands for an entry, and for tries at it."""
    photo, state, settings, finished = entry
    facts = {
        "result": result,
        "photo": photo,
        "state": state,
        "settings": settings,
        "finished": finished,
        "tries": tries,
    }
    return json.dumps(facts) + "\n"


def _fold(name):
    # Names that differ in this alone are one name to some file systems.
    return unicodedata.normalize("NFC", name).casefold()
