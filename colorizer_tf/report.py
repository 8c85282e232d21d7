"""Progress while many photos are colorized, and a report of their outcomes."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from colorizer_tf.photos import PhotoError
from colorizer_tf.places import Place


@dataclass
class Outcome:
    """The outcome of one photo.

    Attributes:
        photo: its path, or its address in a bucket.
        result: the path or address of its result; if it failed, the intended one.
        status: "done", "skipped" (the result was already up to date) or "failed".
        reason: why it failed; or notes on a film that is done.

    Example:

    ```python
    for outcome in report.with_status("failed"):
        print(outcome.photo, outcome.reason)
    ```
    """

    photo: Path | str
    result: Path | str
    status: str
    reason: str = ""

    @property
    def is_here(self) -> bool:
        """Whether photo and result are files on this machine, not in a bucket."""
        return isinstance(self.photo, Path) and isinstance(self.result, Path)


class Report:
    """The outcomes of all photos, an `Outcome` each, sorted by name.

    Args:
        source: the `places.Place` of the photos.
        destination: the `places.Place` of the results.
        names: the photos' names, sorted.
        kind: the word that the text uses for them.

    Example:

    ```python
    report = colorizer.colorize_folder("scans", "colorized")
    print(report)  # 2 photos: 2 done, 0 skipped, 0 failed
    report.count("failed")  # 0
    ```
    """

    def __init__(
        self,
        source: Place,
        destination: Place,
        names: Sequence[str],
        kind: str = "photos",
    ):
        self._kind = kind
        # Names and statuses, not an `Outcome` each: there may be a million photos.
        self._source = source
        self._destination = destination
        self._names = names
        self._results = list(names)
        self._statuses = ["failed"] * len(names)
        self._reasons: dict[int, str] = {}

    def __iter__(self) -> Iterator[Outcome]:
        return map(self._outcome, range(len(self)))

    def __len__(self) -> int:
        return len(self._names)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{self.count(status)} {status}" for status in ("done", "skipped", "failed")
        )
        reasons = [f"  {reason}" for _, reason in sorted(self._reasons.items())]
        return "\n".join([f"{len(self)} {self._kind}: {counts}", *reasons])

    def count(self, status: str) -> int:
        """Returns how many photos have a status: "done", "skipped" or "failed"."""
        return self._statuses.count(status)

    def with_status(self, status: str) -> list[Outcome]:
        """Returns the outcomes with a status: "done", "skipped" or "failed"."""
        return [
            self._outcome(number)
            for number, has in enumerate(self._statuses)
            if has == status
        ]

    def set(
        self, number: int, status: str, reason: str = "", result: str | None = None
    ) -> None:
        """Sets the outcome of a photo, by its index.

        Args:
            number: the photo's index in the names.
            status: "done", "skipped" or "failed".
            reason: why it failed, or a note.
            result: the name of the result; by default the one set before.
        """
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
    """A progress bar and the `Report` that it fills; a context manager.

    Args:
        source: the `places.Place` of the photos.
        destination: the `places.Place` of the results.
        names: the names of all photos.
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
        """Yields the number and the `Claim` of each photo that must be colorized."""
        for number, name in enumerate(self._names):
            try:
                claim = account.claim(name, extension)
                done = account.is_done(claim)
            except (OSError, PhotoError) as error:  # such as a photo just deleted
                self.finish(number, str(error))
                continue
            self.report.set(number, "skipped" if done else "failed", "", claim.result)
            if done:
                self._bar.update()
            else:
                yield number, claim

    def announce(self, text):
        """Shows a text on the bar until the first photo is finished."""
        self._bar.set_description(text)
        self._waiting = True

    def finish(self, number, reason=""):
        """Sets a photo as done, or as failed if there is a reason."""
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
    """Returns options of `tqdm`: a bar in a terminal or notebook, else log lines."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return {"mininterval": 1}
    return {"mininterval": 30, "file": _Lines(), "ncols": 80}


class _Lines:
    """Writes each update of `tqdm` as a line of the log."""

    def write(self, text):
        if text := text.strip():
            sys.stderr.write(f"{text}\n")

    def flush(self):
        sys.stderr.flush()
