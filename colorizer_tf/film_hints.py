"""Films by their names; and colors that a person sets in one.

Nothing here needs PyAV.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from colorizer_tf.files import list_files, name_order
from colorizer_tf.hints import Hint, HintError, parse_hints

# Whatever of these FFmpeg reads is taken for a film.
EXTENSIONS = (
    *(".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".wmv"),
    *(".mts", ".m2ts", ".ts", ".vob", ".flv", ".ogv", ".dv", ".mxf", ".3gp"),
)


def is_film_name(name):
    """Whether a file of this name counts as a film; hidden ones do not."""
    name = Path(name).name.lower()
    return not name.startswith(".") and name.endswith(EXTENSIONS)


def find_films(folder):
    """Returns the films below a folder as names, sorted, "/" between."""
    return sorted(filter(is_film_name, list_files(folder)), key=name_order)


@dataclass(frozen=True)
class FilmHint(Hint):
    """A color that a place of a film has, from the cut before to the cut after.

    Args:
        x, y: the place, as fractions of the upright picture's width and height.
        color: "#rrggbb", or three levels in 0..255.
        time: when it is there, in seconds from the film's start.

    Raises:
        HintError: the place is outside the picture, there is no such color, or no
            such time.
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


def read_film_hints(path):
    """Reads a JSON file of hints for a film.

    Each is `{"x": 0.41, "y": 0.33, "color": "#2e5d34", "time": 12.4}`.

    Returns:
        A list of `FilmHint`.

    Raises:
        HintError: the file cannot be read; the message names it, and the entry.
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
        times, entries = [], None  # which `parse_hints` has the words for
    hints = parse_hints(text if entries is None else json.dumps(entries), str(path))
    made = []
    for number, (hint, time) in enumerate(zip(hints, times, strict=True), 1):
        try:
            made.append(FilmHint(**asdict(hint), time=time))
        except HintError as error:
            raise HintError(f"{path}, entry {number}: {error}") from error
    return made


def find_frames(times, hints):
    """Returns hints by the number of the frame that is shown at their time.

    Args:
        times: yields when each frame begins, in seconds.
        hints: a list of `FilmHint`.

    Returns:
        For the number of a frame its hints, as a list of (x, y, color).
    """
    waiting = sorted(hints, key=lambda hint: hint.time)
    starts, number = {}, 0
    for number, time in enumerate(times):
        while waiting and waiting[0].time < time - 1e-6:
            _note(starts, number - 1, waiting.pop(0))
        if not waiting:
            break
    for hint in waiting:
        _note(starts, number, hint)
    return starts


def _note(starts, number, hint):
    starts.setdefault(max(0, number), []).append((hint.x, hint.y, hint.color))
