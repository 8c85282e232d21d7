"""Finds films by their names, and reads the hints of a film. It needs no PyAV."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from colorizer_tf.files import list_files, name_order
from colorizer_tf.hints import Hint, HintError, parse_hints

# FFmpeg reads more kinds of files; these count as films.
EXTENSIONS = (
    *(".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".wmv"),
    *(".mts", ".m2ts", ".ts", ".vob", ".flv", ".ogv", ".dv", ".mxf", ".3gp"),
)


def is_film_name(name):
    """Whether a file of this name counts as a film; hidden files do not."""
    name = Path(name).name.lower()
    return not name.startswith(".") and name.endswith(EXTENSIONS)


def find_films(folder):
    """Returns the names of the films below a folder, sorted, with "/" between parts."""
    return sorted(filter(is_film_name, list_files(folder)), key=name_order)


@dataclass(frozen=True)
class FilmHint(Hint):
    """The color of a place in a film; the hint applies to the whole shot.

    Args:
        x, y: the place, as fractions of the upright picture's width and height.
        color: "#rrggbb", or three levels in 0..255.
        time: of a frame in which the place is seen, in seconds from the film's start.

    Raises:
        HintError: the place is outside the picture, or color or time is invalid.

    Example:

    ```python
    hint = ct.FilmHint(x=0.41, y=0.33, color="#2e5d34", time=12.4)
    colorizer.colorize_film("film.mp4", "color.mp4", hints=[hint])
    ```
    """

    time: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        time = self.time
        if isinstance(time, bool) or not isinstance(time, int | float):
            time = np.nan
        if not 0 <= time < np.inf:
            raise HintError(
                f"time must be seconds from the start. Received: {self.time!r:.80}"
            )


def read_film_hints(path: str | os.PathLike) -> list[FilmHint]:
    """Reads a film's hints from a JSON file.

    The file holds a list of `{"x": 0.41, "y": 0.33, "color": "#2e5d34", "time": 12.4}`.

    Args:
        path: the file, in UTF-8.

    Returns:
        A list of `FilmHint`.

    Raises:
        HintError: the file cannot be read, or an entry is invalid; the message names
            both.

    Example:

    ```python
    hints = ct.read_film_hints("film.hints.json")
    colorizer.colorize_film("film.mp4", "color.mp4", hints=hints)
    ```
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HintError(f"{path} cannot be read: {error}") from error
    try:
        entries = json.loads(text)
        times = [entry.pop("time") for entry in entries]
    except KeyError as error:
        raise HintError(f'{path}: each hint of a film needs a "time".') from error
    except (ValueError, TypeError, AttributeError, RecursionError):
        times, entries = [], None  # `parse_hints` raises with the reason
    hints = parse_hints(text if entries is None else json.dumps(entries), str(path))
    made = []
    for number, (hint, time) in enumerate(zip(hints, times, strict=True), 1):
        try:
            made.append(FilmHint(**asdict(hint), time=time))
        except HintError as error:
            raise HintError(f"{path}, entry {number}: {error}") from error
    return made


def find_frames(times, hints):
    """Assigns hints to the frames that are shown at their times.

    Args:
        times: yields the start of each frame, in seconds.
        hints: a list of `FilmHint`.

    Returns:
        A dictionary: number of a frame -> its hints as a list of (x, y, color).

    Raises:
        HintError: a time is more than a second after the start of the last frame.
    """
    waiting = sorted(hints, key=lambda hint: hint.time)
    starts, number, time = {}, 0, 0.0
    for number, time in enumerate(times):
        while waiting and waiting[0].time < time - 1e-6:
            _note(starts, number - 1, waiting.pop(0))
        if not waiting:
            break
    for hint in waiting:
        if hint.time > time + 1:
            raise HintError(
                f"A hint has the time {hint.time:g}, but the last frame of the film "
                f"starts at {time:.2f} seconds."
            )
        _note(starts, number, hint)
    return starts


def _note(starts, number, hint):
    starts.setdefault(max(0, number), []).append((hint.x, hint.y, hint.color))
