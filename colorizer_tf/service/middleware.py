"""Protects the application from slow, large and invalid requests."""

import asyncio
import socket
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from colorizer_tf.service.validation import RequestError

MAX_CONNECTIONS = 500
IDLE_SECONDS = 10
# nginx's status for a client that left before its response was sent.
CLIENT_CLOSED_REQUEST = 499
RETRY_AFTER_SECONDS = 5
# The most bytes of a request without photos.
MAX_OTHER_BYTES = 2**16
COLORIZE, SUGGEST, VARIANTS = "/api/colorize", "/api/suggest", "/api/variants"
_TAKE_PHOTOS = COLORIZE, SUGGEST, VARIANTS
_STATE = "/api/about", "/health", "/metrics", "/docs", "/openapi.json"
_ROUTES = *_TAKE_PHOTOS, *_STATE
_FOLDERS = ("/static/", "/docs/scripts/")
# The page loads scripts and styles only from its own files, and connects only to this
# service. /docs also has scripts and styles inline.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
_DOCS_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'"
)


class IdleTimeoutProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes idle connections.

    uvicorn itself waits without limit in three cases: for the head of a first request,
    for the rest of an unread body, and for a client that does not read its response.
    """

    def connection_made(self, transport):
        super().connection_made(transport)
        self._timer = None
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            # With a small buffer in the kernel, a stalled client is noticed soon.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 2**17
            )
            self._check_idle(None)

    def connection_lost(self, error):
        if self._timer:
            self._timer.cancel()
        super().connection_lost(error)

    def _check_idle(self, seen):
        """Closes a connection whose state has not changed since `seen`."""
        cycle = self.cycle
        over = cycle is None or cycle.response_complete or self.transport.is_closing()
        now = (cycle, self.transport.get_write_buffer_size()) if over else None
        if over and now == seen:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(IDLE_SECONDS, self._check_idle, now)


class _SendTimeoutError(Exception):
    """A client does not read its response."""


class LimitsMiddleware:
    """Middleware that limits requests in bytes and time, and counts them.

    Args:
        app: the ASGI application.
        limits: the `Limits`.
        requests: a Prometheus counter with the labels route and status.
        seconds: a Prometheus histogram with the label route.

    Attributes:
        received: the bytes of all requests that are not yet answered.
    """

    def __init__(self, app, limits, requests, seconds):
        self.app = app
        self.limits = limits
        self.requests = requests
        self.seconds = seconds
        self.received = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server omits the body itself
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(self, scope, receive, send)
        try:
            await (self._reject(scope) or self.app)(
                scope, exchange.receive, exchange.send
            )
        except _SendTimeoutError:
            exchange.status = CLIENT_CLOSED_REQUEST
        finally:
            self.received -= exchange.received
            route = scope["path"] if scope["path"] in _ROUTES else "page"
            self.requests.labels(route, exchange.status).inc()
            self.seconds.labels(route).observe(time.monotonic() - exchange.start)

    def _reject(self, scope):
        """Returns an error response for an invalid head of a request, else None."""
        path = scope["path"]
        if path not in ("/", *_ROUTES) and not path.startswith(_FOLDERS):
            return error_response(404, "not_found", "There is nothing here.")
        method = "POST" if path in _TAKE_PHOTOS else "GET"
        if scope["method"] != method:
            reason = f"This address takes {method}."
            return error_response(405, "wrong_method", reason, {"Allow": method})
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body_bytes(path):
            return error_response(413, "too_large", self.too_large_detail(path))
        return None

    def max_body_bytes(self, path):
        takes_photos = path in _TAKE_PHOTOS
        return self.limits.request_bytes if takes_photos else MAX_OTHER_BYTES

    def too_large_detail(self, path):
        most = self.max_body_bytes(path)
        return f"Too large: such a request has at most {most:,} bytes."


class _Exchange:
    """Counts the bytes and the time of one request and its response."""

    def __init__(self, middleware, scope, receive, send):
        self.middleware, self._receive, self._send = middleware, receive, send
        self.path = scope["path"]
        self.start = time.monotonic()
        self.received = 0
        self.status = 0
        self.complete = False

    async def receive(self):
        if self.complete:  # the only message left is a disconnect
            return self._note_disconnect(await self._receive())
        limits = self.middleware.limits
        left = self.start + limits.upload_seconds - time.monotonic()
        try:
            async with asyncio.timeout(min(limits.stall_seconds, left)):
                message = await self._receive()
        except TimeoutError as error:
            reason = "The request took too long to arrive."
            raise RequestError(408, "too_slow", reason) from error
        self._note_disconnect(message)
        size = len(message.get("body", b""))
        self.received += size
        self.middleware.received += size
        self.complete = not message.get("more_body", False)
        if self.received > self.middleware.max_body_bytes(self.path):
            reason = self.middleware.too_large_detail(self.path)
            raise RequestError(413, "too_large", reason)
        if self.middleware.received > limits.received_bytes:
            reason = "Too many bytes are arriving; try again in a moment."
            raise RequestError(503, "full", reason)
        return message

    def _note_disconnect(self, message):
        if message["type"] == "http.disconnect" and not self.status:
            self.status = CLIENT_CLOSED_REQUEST
        return message

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = self.status or message["status"]
            # The request's bytes are processed: a slow reader must not block others.
            self.middleware.received -= self.received
            self.received = 0
            message["headers"] = [*message.get("headers", ()), *self._safety_headers()]
        limits = self.middleware.limits
        left = self.start + limits.response_seconds - time.monotonic()
        try:
            async with asyncio.timeout(min(limits.stall_seconds, left)):
                await self._send(message)
        except TimeoutError as error:
            raise _SendTimeoutError from error

    def _safety_headers(self):
        policy = _DOCS_POLICY if self.path.startswith("/docs") else _PAGE_POLICY
        yield b"content-security-policy", policy.encode()
        yield b"x-content-type-options", b"nosniff"
        yield b"referrer-policy", b"no-referrer"
        if self.path == "/" or self.path.startswith("/static/"):
            # Browsers revalidate the page, so that a new service gets its own page.
            yield b"cache-control", b"no-cache"


def error_response(status, code, reason, headers=None):
    """Returns an error as a response in JSON."""
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"reason": reason, "code": code}, status, headers)
