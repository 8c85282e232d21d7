"""A server of static files for the tests."""

import functools
import http.server
import threading


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Works as `python -m http.server`, and keeps the requested paths."""

    def do_GET(self):
        if self.path.endswith(self.server.missing):
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_):
        self.server.asked.append(f"{self.command} {self.path}")


class RunningSite:
    """A folder on a free port, in a thread of this process.

    Args:
        folder: the folder to serve.
        missing: endings of names that the server does not find.
    """

    def __init__(self, folder, missing=()):
        handler = functools.partial(QuietHandler, directory=folder)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.missing = missing
        self.asked = self.server.asked = []
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
