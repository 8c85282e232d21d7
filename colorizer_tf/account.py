"""The account: a record beside the results that says which photo gave which result."""

import json
import os
import sys
import unicodedata
from typing import NamedTuple

RECORD = ".colorizer_tf.jsonl"
# After a worker dies, its photos are colorized one by one, each at most this often.
MAX_TRIES = 2


class Claim(NamedTuple):
    """A photo and the name that its result gets.

    Attributes:
        photo: its name below the source.
        result: the name of its result below the destination.
        state: size and stamp of the photo, and of its hints, to detect changes.
        hints: the name of the file with its hints, or None.
    """

    photo: str
    result: str
    state: tuple
    hints: str | None = None


class Account:
    """Knows which results are finished, and finds names for new ones.

    It consists of lines of JSON: one before a result is written, and one after. If a
    run is killed, the next one knows which files it wrote and which are finished.

    Args:
        source: the `places.Place` of the photos.
        destination: the `places.Place` of the results.
        settings: a digest of generator and settings; see `folder.describe`.
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
        """Merges the parts of several writers into the record."""
        parts = self.destination.parts()
        if parts:
            self._load(parts)
            lines = (make_line(*entry) for entry in self._entries.items())
            self.destination.write(RECORD, "".join(lines).encode())
        self.destination.remove(parts)

    def claim(self, photo, extension=None):
        """Finds a free name for a photo's result.

        Args:
            photo: the photo's name.
            extension: of the result; by default that of the photo.

        Returns:
            A `Claim`.

        Raises:
            OSError: the photo no longer exists.
            PhotoError: it is unclear which photo the hints belong to.
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
        """Whether the result exists, is finished and is up to date."""
        entry = self._entries.get(_fold(claim.result))
        return (
            entry is not None
            and entry[1:] == (claim.state, self.settings, True)
            # A power cut can leave an empty file.
            and bool(self.destination.size(claim.result))
        )

    def line(self, claim, finished):
        """Returns the line that notes a result as finished or not."""
        return make_line(*make_entry(self.source, claim, self.settings, finished))

    def _is_free(self, name, photo, state):
        folded = _fold(name)
        if folded in self._claimed:
            return False
        if folded not in self._entries:
            if self.destination.size(name) is None:
                return True
            # The file is foreign, unless a worker that outlived its run has just
            # written it. A bucket lists its files before the account is read.
            if not self.destination.lists_once:
                self._load(self.destination.parts())
            if folded not in self._entries:
                return False
        address, known, *_ = self._entries[folded]
        # The name is free for the same photo, changed or moved.
        return address == self.source.address(photo) or (
            known == state and not self.source.has_address(address)
        )

    def _load(self, names):
        for content in self.destination.read(names):
            for line in content.splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # a partial line that a killed run left
                    continue
                self._entries[entry["result"]] = (
                    entry["photo"],
                    tuple(entry["state"]),
                    sys.intern(entry["settings"]),
                    entry["finished"],
                )


def make_entry(source, claim, settings, finished):
    """Returns the key and the value of a result in an `Account`."""
    photo = source.address(claim.photo)
    return _fold(claim.result), (photo, claim.state, settings, finished)


def make_line(result, entry, tries=1):
    """Returns an entry, with the number of tries, as a line of JSON."""
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
    # Some file systems ignore case and Unicode normalization in names.
    return unicodedata.normalize("NFC", name).casefold()


class Notes:
    """The part of the account that belongs to a worker's chunk of photos.

    Args:
        place: the `places.Place` of the results.
        part: the name of the part.
        entries: each photo's number -> key and value of its result, without the
            last field, `finished`; see `make_entry`.

    Attributes:
        seen: whether a worker that died has begun the chunk.
    """

    def __init__(self, place, part, entries):
        self._place = place
        self._part = part
        self._entries = entries
        self._finished = set()
        self._tries = dict.fromkeys(entries, 0)
        self.seen = False
        numbers = {result: number for number, (result, _) in entries.items()}
        for content in place.read([part]):
            self.seen = True
            for note in map(json.loads, content.splitlines()):
                number = numbers[note["result"]]
                self._tries[number] = note["tries"]
                if note["finished"]:
                    self._finished.add(number)

    def begin(self, work):
        """Notes a try at a single photo; returns whether to colorize the photo."""
        if work.number in self._finished:
            return False
        if self._tries[work.number] == MAX_TRIES:
            work.reason = (
                f"{work.photo} cannot be colorized: the process that tried was "
                f"killed, {MAX_TRIES} times. Is it too large for the memory?"
            )
            return False
        self._tries[work.number] += 1
        self.save()
        return True

    def finish(self, works):
        """Notes which photos are done; `save` writes it."""
        self._finished.update(work.number for work in works if not work.reason)

    def save(self, unfinished=True):
        """Writes the part, with or without unfinished photos."""
        lines = [
            make_line(result, (*facts, number in self._finished), self._tries[number])
            for number, (result, facts) in self._entries.items()
            if unfinished or number in self._finished
        ]
        self._place.write(self._part, "".join(lines).encode())
