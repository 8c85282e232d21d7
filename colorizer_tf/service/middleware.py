"""What stands between clients and the service, so that none can hold it up."""

import asyncio
import re
import socket
import time

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from colorizer_tf.service.jobs import Refusal
from colorizer_tf.service.page import choose_texts, explain

MAX_CONNECTIONS = 500
IDLE_SECONDS = 10
# What others call it when a client did not wait for its answer, or take it.
GONE = 499
RETRY_SECONDS = 5
# Of requests without photos: what the page tells the service.
MAX_OTHER_BYTES = 2**18
_UPLOAD = "/gradio_api/upload"
# Answers that the page keeps open for news, without an end of their own.
_STREAMS = ("/gradio_api/queue/data", "/gradio_api/upload_progress")
_OWN_ROUTES = {
    "/api/colorize": "POST",
    "/health": "GET",
    "/metrics": "GET",
    "/docs": "GET",
    "/openapi.json": "GET",
}
# All that the page asks for. Gradio has more, some of which fetches addresses
# from elsewhere.
_PAGE_ROUTES = re.compile(
    r"/($|config$|theme\.css$|favicon\.ico$|manifest\.json$|assets/|static/|svelte/"
    r"|docs/scripts/"
    r"|gradio_api/(info$|startup-events$|upload$|upload_progress$|queue/join$"
    r"|queue/data$|cancel$|reset/?$|heartbeat/|file=/))"
)
_FROM_HERE = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' "
    "blob:; style-src 'self' 'unsafe-inline'"
)
# Pictures for those who share the page, and examples for its own API.
_FROM_ELSEWHERE = re.compile(
    rb"<meta[^>]*https?://[^>]*>|https://(?:raw\.githubusercontent|github)\.com/[\w./-]*"
)


class PatientProtocol(H11Protocol):
    """HTTP, but a connection on which nothing is asked for long is closed.

    uvicorn itself waits for ever for the head of a first request, for the rest of
    a body that nobody reads, and for a client that does not take its answer.
    """

    def connection_made(self, transport):
        super().connection_made(transport)
        self._timer = None
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            # A small buffer of the kernel's: what a client takes is seen soon.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 2**17
            )
            self._look_again(None)

    def connection_lost(self, error):
        if self._timer:
            self._timer.cancel()
        super().connection_lost(error)

    def _look_again(self, seen):
        """Closes a connection on which nothing has moved since `seen`."""
        cycle = self.cycle
        over = cycle is None or cycle.response_complete or self.transport.is_closing()
        now = (cycle, self.transport.get_write_buffer_size()) if over else None
        if over and now == seen:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(IDLE_SECONDS, self._look_again, now)


class _StalledError(Exception):
    """A client does not take its answer."""


class Guard:
    """Middleware that bounds what comes in, in bytes and time, and counts it.

    Args:
        app: what is guarded.
        reception: a `Reception`.
        limits: its `Limits`.
        requests: a Prometheus counter by route and status.
        seconds: a histogram by route.
    """

    def __init__(self, app, reception, limits, requests, seconds):
        self.app = app
        self.reception = reception
        self.limits = limits
        self.requests = requests
        self.seconds = seconds
        self.received = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(self, scope, receive, send)
        try:
            refusal = await self._refuse(scope)
            await (refusal or self._app_for(scope))(scope, visit.receive, visit.send)
        except _StalledError:
            visit.status = GONE
        finally:
            self.received -= visit.received
            route = scope["path"] if scope["path"] in _OWN_ROUTES else "page"
            self.requests.labels(route, visit.status).inc()
            self.seconds.labels(route).observe(time.monotonic() - visit.start)

    async def _refuse(self, scope):
        """Returns the answer to a request that is not even begun, or None."""
        path = scope["path"]
        if path not in _OWN_ROUTES and not _PAGE_ROUTES.match(path):
            return answer(404, "There is nothing here.")
        if scope["method"] != (method := _OWN_ROUTES.get(path, scope["method"])):
            return answer(405, f"This address takes {method}.", {"Allow": method})
        if path.startswith("/gradio_api/heartbeat/"):
            # A connection that never ends, which the page does without.
            return Response(status_code=204)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        large = not length.isdigit() or int(length) > self.most_bytes(path)
        if path != _UPLOAD:
            return answer(413, self.too_large(path)) if large else None
        if large:
            refusal = Refusal(413, "too_much", self.too_large(path))
        elif await run_in_threadpool(self.reception.page_is_full, int(length)):
            refusal = Refusal(503, "full", "The page's folder is full.")
        else:
            return None
        # The page shows what it is answered as it stands.
        words = explain(refusal, choose_texts(headers), self.limits)
        return PlainTextResponse(words, refusal.status)

    def most_bytes(self, path):
        takes_photos = path in (_UPLOAD, "/api/colorize")
        return self.limits.request_bytes if takes_photos else MAX_OTHER_BYTES

    def too_large(self, path):
        return f"Too large: such a request has at most {self.most_bytes(path):,} bytes."

    def _app_for(self, scope):
        return _PageFromHere(self.app) if scope["path"] == "/" else self.app


class _Visit:
    """One request: its bytes and its time."""

    def __init__(self, guard, scope, receive, send):
        self.guard, self._receive, self._send = guard, receive, send
        self.path = scope["path"]
        self.start = time.monotonic()
        self.received = 0
        self.status = 0
        self.complete = False

    async def receive(self):
        if self.complete:  # what comes now is that the client goes
            if self.path in _STREAMS and self.guard.reception.is_ending():
                return {"type": "http.disconnect"}
            return self._note_end(await self._receive())
        limits = self.guard.limits
        left = self.start + limits.upload_seconds - time.monotonic()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(0, min(limits.stall_seconds, left))
            )
        except TimeoutError as error:
            raise HTTPException(408, "The request did not come in in time.") from error
        self._note_end(message)
        size = len(message.get("body", b""))
        self.received += size
        self.guard.received += size
        self.complete = not message.get("more_body", False)
        if self.received > self.guard.most_bytes(self.path):
            raise HTTPException(413, self.guard.too_large(self.path))
        if self.guard.received > limits.received_bytes:
            raise HTTPException(503, "Too much is coming in; try again in a moment.")
        return message

    def _note_end(self, message):
        if message["type"] == "http.disconnect" and not self.status:
            self.status = GONE
        return message

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = self.status or message["status"]
            # What came in is dealt with: a slow reader keeps nobody out.
            self.guard.received -= self.received
            self.received = 0
            policy = (b"content-security-policy", _FROM_HERE.encode())
            message["headers"] = [*message.get("headers", ()), policy]
        limits = self.guard.limits
        left = self.start + limits.answer_seconds - time.monotonic()
        try:
            await asyncio.wait_for(
                self._send(message), max(0, min(limits.stall_seconds, left))
            )
        except TimeoutError as error:
            raise _StalledError from error


class _PageFromHere:
    """The page without the addresses from elsewhere that Gradio puts into it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        start, body = {}, b""

        async def gather(message):
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                page = _FROM_ELSEWHERE.sub(b"", body)
                length = (b"content-length", str(len(page)).encode())
                start["headers"] = [
                    pair for pair in start["headers"] if pair[0] != length[0]
                ] + [length]
                await send(start)
                await send({"type": "http.response.body", "body": page})

        await self.app({**scope, "headers": headers}, receive, gather)


def answer(status, reason, headers=None):
    """Returns an error as the service gives it, in JSON."""
    if status == 503:
        headers = {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"reason": reason}, status, headers)
