"""TensorFlow, imported without the notices that it opens with."""

import contextlib
import faulthandler
import os
import re
import tempfile

# What is for information, in the old form and the new one, and what belongs to it.
_NOTICE = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |To enable the following instructions:|"
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
)


@contextlib.contextmanager
def without_notices():
    """Leaves TensorFlow's start-up notices out of the standard error.

    TensorFlow writes them as its libraries are loaded, before it looks at
    `TF_CPP_MIN_LOG_LEVEL`, so they are taken out of what it has written. All else
    is shown when the import has ended, well or not. With that variable set to 0,
    everything is shown.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    try:
        written, shown = tempfile.TemporaryFile(), os.dup(2)
    except OSError:  # there is no standard error, or no place for files
        yield
        return
    crashes = not faulthandler.is_enabled()
    with written, os.fdopen(shown, "wb") as shown:
        os.dup2(written.fileno(), 2)
        if crashes:  # what kills the process shows where, at least
            faulthandler.enable(shown)
        try:
            yield
        finally:
            if crashes:
                faulthandler.disable()
            os.dup2(shown.fileno(), 2)
            written.seek(0)
            shown.writelines(line for line in written if not _NOTICE.match(line))
