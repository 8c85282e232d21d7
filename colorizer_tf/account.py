"""The account of which photo gave which result, kept where the results are."""

import contextlib
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

from colorizer_tf.photos import find_names, whole_file

RECORD = ".colorizer_tf.jsonl"
# What many writers leave is put in here, each in files of its own, and goes into
# the record with the next run.
PARTS = ".colorizer_tf"


class Folder:
    """A folder of photos, or for results.

    Args:
        path: the folder.
    """

    def __init__(self, path):
        self.path = Path(path).resolve()

    def __str__(self):
        return str(self.path)

    def locate(self, name):
        """Returns what people and programs call a file of this folder."""
        return self.path / name

    def find_inside(self, other):
        """Returns the name of a folder that is in this one, or "." for itself."""
        if not isinstance(other, Folder) or not other.path.is_relative_to(self.path):
            return None
        return other.path.relative_to(self.path).as_posix()

    def find(self):
        """Returns the names of the photos in it; see `photos.find_names`."""
        return find_names(self.path)

    def state(self, name):
        """Returns what tells a photo from one that has changed."""
        facts = os.stat(self.path / name)
        return facts.st_size, facts.st_mtime_ns

    def size(self, name):
        """Returns the bytes that a file has; None if there is none."""
        try:
            return os.stat(self.path / name).st_size
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

    def remove(self, names):
        """Removes files, and the folder of the account's parts once it is empty."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.path / PARTS).rmdir()


class Claim(NamedTuple):
    """What a photo is to become.

    Attributes:
        photo: its name, below the source.
        result: the name of its result, below the destination.
        state: what tells the photo from one that has changed.
    """

    photo: str
    result: str
    state: tuple


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
        if parts := self.destination.parts():
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
        """
        state = self.source.state(photo)
        stem, own = os.path.splitext(photo)
        name = photo if extension in (None, own) else stem + extension
        number, numbered = 1, name
        while not self._is_free(numbered, photo, state):
            number += 1
            numbered = f"{stem} ({number}){extension or own}"
        self._claimed.add(_fold(numbered))
        return Claim(photo, numbered, state)

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
            return self.destination.size(name) is None
        address, known, *_ = self._entries[folded]
        # The same photo may have changed since, or moved.
        return address == str(self.source.locate(photo)) or (
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
    photo = str(source.locate(claim.photo))
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
