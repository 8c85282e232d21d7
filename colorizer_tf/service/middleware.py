"""What stands between clients and the application, so that none can hold it up."""

import asyncio
import re
import socket
import time

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from colorizer_tf.service.jobs import JobError
from colorizer_tf.service.page import choose_texts, describe_error

MAX_CONNECTIONS = 500
IDLE_SECONDS = 10
# As nginx has it: a client did not wait for its response, or take it.
CLIENT_CLOSED_REQUEST = 499
RETRY_AFTER_SECONDS = 5
# Of requests without photos: what the page tells the service.
MAX_OTHER_BYTES = 2**20
_UPLOAD = "/gradio_api/upload"
# Server-sent events, which the page listens to without an end of their own.
_EVENT_STREAMS = ("/gradio_api/queue/data", "/gradio_api/upload_progress")
_APP_ROUTES = {
    "/api/colorize": "POST",
    "/page/preview": "POST",
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
_CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' "
    "blob:; style-src 'self' 'unsafe-inline'"
)
# Pictures for those who share the page, and examples for its own API.
_EXTERNAL_URLS = re.compile(
    rb"<meta[^>]*https?://[^>]*>|https://(?:raw\.githubusercontent|github)\.com/[\w./-]*"
)


class IdleTimeoutProtocol(H11Protocol):
    """HTTP, but a connection on which nothing is asked for long is closed.

    uvicorn itself waits for ever for the head of a first request, for the rest of
    a body that nobody reads, and for a client that does not take its response.
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
            self._check_idle(None)

    def connection_lost(self, error):
        if self._timer:
            self._timer.cancel()
        super().connection_lost(error)

    def _check_idle(self, seen):
        """Closes a connection on which nothing has moved since `seen`."""
        cycle = self.cycle
        over = cycle is None or cycle.response_complete or self.transport.is_closing()
        now = (cycle, self.transport.get_write_buffer_size()) if over else None
        if over and now == seen:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(IDLE_SECONDS, self._check_idle, now)


class _SendTimeoutError(Exception):
    """A client does not take its response."""


class LimitsMiddleware:
    """Middleware that bounds what comes in, in bytes and time, and counts it.

    Args:
        app: what is protected.
        store: a `JobStore`.
        limits: its `Limits`.
        requests: a Prometheus counter by route and status.
        seconds: a histogram by route.
    """

    def __init__(self, app, store, limits, requests, seconds):
        self.app = app
        self.store = store
        self.limits = limits
        self.requests = requests
        self.seconds = seconds
        self.received = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        try:
            rejection = await self._reject(scope)
            await (rejection or self._app_for(scope))(
                scope, exchange.receive, exchange.send
            )
        except _SendTimeoutError:
            exchange.status = CLIENT_CLOSED_REQUEST
        finally:
            self.received -= exchange.received
            route = scope["path"] if scope["path"] in _APP_ROUTES else "page"
            self.requests.labels(route, exchange.status).inc()
            self.seconds.labels(route).observe(time.monotonic() - exchange.start)

    async def _reject(self, scope):
        """Returns the response to a request that is not even begun, or None."""
        path = scope["path"]
        if path not in _APP_ROUTES and not _PAGE_ROUTES.match(path):
            return error_response(404, "There is nothing here.")
        if scope["method"] != (method := _APP_ROUTES.get(path, scope["method"])):
            return error_response(
                405, f"This address takes {method}.", {"Allow": method}
            )
        if path.startswith("/gradio_api/heartbeat/"):
            # A connection that never ends, which the page does without.
            return Response(status_code=204)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        large = not length.isdigit() or int(length) > self.max_body_bytes(path)
        if path != _UPLOAD:
            return error_response(413, self.too_large_detail(path)) if large else None
        if large:
            error = JobError(413, "too_much", self.too_large_detail(path))
        elif await run_in_threadpool(self.store.page_is_full, int(length)):
            error = JobError(503, "full", "The page's folder is full.")
        else:
            return None
        # The page shows what it is answered as it stands.
        words = describe_error(error, choose_texts(headers), self.limits)
        return PlainTextResponse(words, error.status_code)

    def max_body_bytes(self, path):
        takes_photos = path in (_UPLOAD, "/api/colorize")
        return self.limits.request_bytes if takes_photos else MAX_OTHER_BYTES

    def too_large_detail(self, path):
        most = self.max_body_bytes(path)
        return f"Too large: such a request has at most {most:,} bytes."

    def _app_for(self, scope):
        return _ExternalUrlsRemover(self.app) if scope["path"] == "/" else self.app


class _Exchange:
    """One request and its response: their bytes and their time."""

    def __init__(self, middleware, scope, receive, send):
        self.middleware, self._receive, self._send = middleware, receive, send
        self.path = scope["path"]
        self.start = time.monotonic()
        self.received = 0
        self.status = 0
        self.complete = False

    async def receive(self):
        if self.complete:  # what comes now is that the client goes
            if self.path in _EVENT_STREAMS and self.middleware.store.is_drained():
                return {"type": "http.disconnect"}
            return self._note_disconnect(await self._receive())
        limits = self.middleware.limits
        left = self.start + limits.upload_seconds - time.monotonic()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(0, min(limits.stall_seconds, left))
            )
        except TimeoutError as error:
            raise HTTPException(408, "The request did not come in in time.") from error
        self._note_disconnect(message)
        size = len(message.get("body", b""))
        self.received += size
        self.middleware.received += size
        self.complete = not message.get("more_body", False)
        if self.received > self.middleware.max_body_bytes(self.path):
            raise HTTPException(413, self.middleware.too_large_detail(self.path))
        if self.middleware.received > limits.received_bytes:
            raise HTTPException(503, "Too much is coming in; try again in a moment.")
        return message

    def _note_disconnect(self, message):
        if message["type"] == "http.disconnect" and not self.status:
            self.status = CLIENT_CLOSED_REQUEST
        return message

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = self.status or message["status"]
            # What came in is dealt with: a slow reader keeps nobody out.
            self.middleware.received -= self.received
            self.received = 0
            policy = (b"content-security-policy", _CONTENT_SECURITY_POLICY.encode())
            message["headers"] = [*message.get("headers", ()), policy]
        limits = self.middleware.limits
        left = self.start + limits.response_seconds - time.monotonic()
        try:
            await asyncio.wait_for(
                self._send(message), max(0, min(limits.stall_seconds, left))
            )
        except TimeoutError as error:
            raise _SendTimeoutError from error


class _ExternalUrlsRemover:
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
                page = _EXTERNAL_URLS.sub(b"", body)
                length = (b"content-length", str(len(page)).encode())
                start["headers"] = [
                    pair for pair in start["headers"] if pair[0] != length[0]
                ] + [length]
                await send(start)
                await send({"type": "http.response.body", "body": page})

        await self.app({**scope, "headers": headers}, receive, gather)


def error_response(status, reason, headers=None):
    """Returns an error as the service answers it, in JSON."""
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"reason": reason}, status, headers)
