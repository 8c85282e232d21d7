"""Hides the notices that TensorFlow prints at its import."""

import contextlib
import faulthandler
import os
import re
import tempfile

# Lines at level INFO, in the old and the new format, and the lines that belong to them.
_NOTICE = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |To enable the following instructions:|"
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
)


@contextlib.contextmanager
def without_notices():
    """Keeps TensorFlow's start-up notices out of the standard error.

    TensorFlow writes them before it reads `TF_CPP_MIN_LOG_LEVEL`. So this context
    collects the standard error, and prints all other lines at the end, also after an
    error. With `TF_CPP_MIN_LOG_LEVEL=0`, it hides nothing.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    try:
        written, shown = tempfile.TemporaryFile(), os.dup(2)
    except OSError:  # no standard error, or no temporary files
        yield
        return
    crashes = not faulthandler.is_enabled()
    with written, os.fdopen(shown, "wb") as shown:
        os.dup2(written.fileno(), 2)
        if crashes:  # the collected lines are lost, but the traceback is shown
            faulthandler.enable(shown)
        try:
            yield
        finally:
            if crashes:
                faulthandler.disable()
            os.dup2(shown.fileno(), 2)
            written.seek(0)
            shown.writelines(line for line in written if not _NOTICE.match(line))
