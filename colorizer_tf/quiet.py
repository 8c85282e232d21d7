"""TensorFlow, imported without the notices that it opens with."""

import contextlib
import faulthandler
import importlib.abc
import importlib.machinery
import os
import re
import tempfile

# What is for information, in the old form and the new one, and what goes with it.
_NOTICE = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |To enable the following instructions:|"
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
)


class QuietImport(importlib.abc.MetaPathFinder):
    """Leaves TensorFlow's start-up notices out, whoever imports it.

    TensorFlow writes them as its libraries are loaded, before it looks at
    `TF_CPP_MIN_LOG_LEVEL`, so they are taken out of what it has written. All else
    is shown when the import has ended, well or not.
    """

    def find_spec(self, name, path=None, target=None):
        """Returns how TensorFlow is imported; None for all else."""
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module):
                with _without_notices():
                    execute(module)

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _without_notices():
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
