"""Colorizes all films below a folder, with the same account as its photos."""

import logging
from pathlib import Path

from colorizer_tf.account import RECORD, Account
from colorizer_tf.film import ending_for, replace_film
from colorizer_tf.film_hints import find_films, read_film_hints
from colorizer_tf.folder import check_destination, describe
from colorizer_tf.painting import check_strength
from colorizer_tf.photos import PhotoError
from colorizer_tf.places import Folder
from colorizer_tf.report import Report

_log = logging.getLogger(__name__)


def colorize_films(colorizer, source, destination, strength=1.0):
    """Colorizes all films below a folder into the same tree of folders, one by one.

    Names, hints and skipping follow `folder.colorize_folder`. A film that a killed
    run left unfinished continues after its last finished piece.

    Args:
        colorizer: a `Colorizer`.
        source, destination: folders; the destination may lie inside the source.
        strength: factor of the predicted color, not of the hints; 0 or more.

    Returns:
        A `Report`; the reason of a film that is done holds notes on it.

    Raises:
        OSError: the destination cannot be created or written to.
        ValueError: the destination is or contains the source, or the strength is
            below 0.
    """
    check_strength(strength)
    source, destination = Folder(source), Folder(destination)
    check_destination(source, destination)
    inside = source.find_inside(destination)
    names = find_films(source.path)
    if inside is not None:
        names = [name for name in names if not name.startswith(f"{inside}/")]
    destination.make()
    account = Account(source, destination, describe(colorizer, strength))
    report = Report(source, destination, names, "films")
    with open(destination.path / RECORD, "a", encoding="utf-8") as record:

        def note(claim, finished):
            record.write(account.line(claim, finished))
            record.flush()

        record.write("\n")  # ends a partial line that a killed run left
        for number, name in enumerate(names):
            try:
                claim = account.claim(name, ending_for(name))
                report.set(number, "failed", result=claim.result)
                if account.is_done(claim):
                    report.set(number, "skipped")
                    continue
                notes = _colorize(colorizer, source, destination, claim, strength, note)
                report.set(number, "done", notes)
            except Exception as error:
                if not isinstance(error, OSError | ValueError | PhotoError):
                    _log.exception("%s cannot be colorized", source.locate(name))
                reason = str(error) or type(error).__name__
                report.set(number, "failed", reason)
    return report


def _colorize(colorizer, source, destination, claim, strength, note):
    """Colorizes a film; returns its notes as text, or ""."""
    hints = read_film_hints(source.locate(claim.hints)) if claim.hints else ()
    result = Path(destination.locate(claim.result))
    result.parent.mkdir(parents=True, exist_ok=True)
    note(claim, False)
    film = replace_film(colorizer, source.locate(claim.photo), result, strength, hints)
    note(claim, True)
    return f"{result}: {'; '.join(film.notes)}" if film.notes else ""
