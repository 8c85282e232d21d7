"""What becomes of many photos: progress while they are colorized, and a report."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from colorizer_tf.photos import PhotoError


@dataclass
class Outcome:
    """What became of one photo.

    Attributes:
        photo: the source, a `Path`; of a bucket, its address.
        result: what it gave, or was to give, likewise.
        status: "done", "skipped" (its result was there already) or "failed".
        reason: why it failed, or what else is to be known.
    """

    photo: Path | str
    result: Path | str
    status: str
    reason: str = ""

    @property
    def is_here(self):
        """Whether photo and result are files, and not in a bucket."""
        return isinstance(self.photo, Path) and isinstance(self.result, Path)


class Report:
    """What became of all photos: an `Outcome` for each, in order of names.

    Args:
        source: where the photos are, such as an `places.Folder`.
        destination: where the results are, likewise.
        names: those of the photos.
        kind: what they are called.
    """

    def __init__(self, source, destination, names, kind="photos"):
        self._kind = kind
        # Of a million photos, this is what stays in memory.
        self._source = source
        self._destination = destination
        self._names = names
        self._results = list(names)
        self._statuses = ["failed"] * len(names)
        self._reasons = {}

    def __iter__(self):
        return map(self._outcome, range(len(self)))

    def __len__(self):
        return len(self._names)

    def __str__(self):
        counts = ", ".join(
            f"{self.count(status)} {status}" for status in ("done", "skipped", "failed")
        )
        reasons = [f"  {reason}" for _, reason in sorted(self._reasons.items())]
        return "\n".join([f"{len(self)} {self._kind}: {counts}", *reasons])

    def count(self, status):
        """Returns how many photos are "done", "skipped" or "failed"."""
        return self._statuses.count(status)

    def with_status(self, status):
        """Returns the outcomes that are "done", "skipped" or "failed"."""
        return [
            self._outcome(number)
            for number, has in enumerate(self._statuses)
            if has == status
        ]

    def set(self, number, status, reason="", result=None):
        """Notes what became of a photo, and under which name."""
        self._statuses[number] = status
        if result:
            self._results[number] = result
        if reason:
            self._reasons[number] = reason

    def _outcome(self, number):
        return Outcome(
            self._source.locate(self._names[number]),
            self._destination.locate(self._results[number]),
            self._statuses[number],
            self._reasons.get(number, ""),
        )


class Progress:
    """A bar for people, and a `Report` that comes together; a `with` statement.

    Args:
        source: where photos are, such as an `places.Folder`.
        destination: where results go, likewise.
        names: those of all photos.
    """

    def __init__(self, source, destination, names):
        self.report = Report(source, destination, names)
        self._names = names
        self._bar = tqdm(
            desc="colorizing", total=len(names), unit="photo", **bar_options()
        )
        self._failed = 0
        self._waiting = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def claim_all(self, account, extension):
        """Yields the number and the `Claim` of each photo that is to be done."""
        for number, name in enumerate(self._names):
            try:
                claim = account.claim(name, extension)
                done = account.is_done(claim)
            except (OSError, PhotoError) as error:  # the photo has just gone, say
                self.finish(number, str(error))
                continue
            self.report.set(number, "skipped" if done else "failed", "", claim.result)
            if done:
                self._bar.update()
            else:
                yield number, claim

    def announce(self, text):
        """Shows what has to be waited for until the first photo is through."""
        self._bar.set_description(text)
        self._waiting = True

    def finish(self, number, reason=""):
        """Notes that a photo is done, or why it failed."""
        if self._waiting:
            self._bar.set_description("colorizing", refresh=False)
            self._bar.unpause()
            self._waiting = False
        self.report.set(number, "failed" if reason else "done", reason)
        if reason:
            self._failed += 1
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update()


def bar_options():
    """Returns how `tqdm` shows itself: to people, or as lines of a log."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return {"mininterval": 1}
    return {"mininterval": 30, "file": _Lines(), "ncols": 80}


class _Lines:
    """What `tqdm` writes, as lines of a log."""

    def write(self, text):
        if text := text.strip():
            sys.stderr.write(f"{text}\n")

    def flush(self):
        sys.stderr.flush()
