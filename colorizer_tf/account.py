"""The account of which photo gave which result, kept where the results are."""

import json
import os
import sys
import unicodedata
from typing import NamedTuple

RECORD = ".colorizer_tf.jsonl"
# Photos during which their worker has died are taken up again one by one, each of
# them so often.
MAX_TRIES = 2


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
        source: where photos are, such as a `places.Folder`.
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
            if not self.destination.lists_once:
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


class Notes:
    """What is known of a chunk's photos, in its own part of the account.

    Attributes:
        seen: whether the chunk was begun before, by a worker that has died.
    """

    def __init__(self, place, part, entries):
        self._place = place
        self._part = part
        self._entries = entries  # of each photo's number
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
        """Notes that a photo is taken up alone; returns whether it has to be."""
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
        """Takes in which photos are done."""
        self._finished.update(work.number for work in works if not work.reason)

    def save(self, unfinished=True):
        """Writes the part, with those that are unfinished or without them."""
        lines = [
            make_line(result, (*facts, number in self._finished), self._tries[number])
            for number, (result, facts) in self._entries.items()
            if unfinished or number in self._finished
        ]
        self._place.write(self._part, "".join(lines).encode())
