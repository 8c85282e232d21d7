"""Tests the limits of requests in bytes, time and addresses."""

import contextlib
import re
import socket
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `service`")

import httpx
from running import RunningService, encode, wait_for

from colorizer_tf.service.app import STATIC


def test_another_method_is_told_which_to_use(service):
    response = httpx.get(f"{service.url}/api/colorize")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert "POST" in response.json()["reason"]
    assert httpx.post(f"{service.url}/health").headers["Allow"] == "GET"


def test_head_is_as_good_as_get(service):
    for path in ("/health", "/", "/static/icon.svg", "/api/about"):
        response = httpx.head(service.url + path)
        assert (response.status_code, response.content) == (200, b"")
        assert int(response.headers["content-length"]) > 0


def test_what_holds_no_photos_is_small(service):
    body = bytes(2**16 + 1)
    response = httpx.request("GET", f"{service.url}/health", content=body)
    assert response.status_code == 413


def test_slow_readers_keep_nobody_out(colorizer):
    photo = encode((1000, 1000))
    with RunningService(colorizer, received_bytes=2 * len(photo)) as running:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(httpx.Client(timeout=60))
                files = {"photo": ("a.png", photo)}
                url = f"{running.url}/api/colorize"
                response = client.stream("POST", url, files=files)
                assert stack.enter_context(response).status_code == 200
            assert running.post(("a.png", photo)).status_code == 200


def test_a_body_without_a_length_is_bounded_too(service):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"'
        yield b"\r\n\r\n"
        for _ in range(100):
            yield bytes(2**20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = httpx.post(
        f"{service.url}/api/colorize", content=body(), headers=headers
    )
    assert response.status_code == 413


def test_a_hundred_connections_that_never_finish_hold_nobody_up(service):
    head = b"POST /api/colorize HTTP/1.1\r\nHost: x\r\nContent-Type: "
    head += b"multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n--x"
    begun = [b"", b"POST /api", head, head + bytes(1000)]
    slow = []
    for number in range(100):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(begun[number % len(begun)])
        slow.append(connection)
    start = time.monotonic()
    assert service.post(("a.png", encode())).status_code == 200
    assert time.monotonic() - start < 10
    # A client that stalls within a body gets 408.
    slow[2].settimeout(20)
    assert b" 408 " in slow[2].recv(1000)
    for connection in slow:
        connection.close()
    assert service.post(("a.png", encode())).status_code == 200
    assert service.is_tidy()


def test_who_does_not_take_the_answer_is_let_go(colorizer, monkeypatch):
    monkeypatch.setattr("colorizer_tf.service.middleware.IDLE_SECONDS", 0.5)
    photo = encode((1000, 1000))
    body = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.png"'
    body += b"\r\n\r\n" + photo + b"\r\n--x--\r\n"
    head = b"POST /api/colorize HTTP/1.1\r\nHost: x\r\nContent-Type: "
    head += b"multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n"
    with RunningService(colorizer, stall_seconds=0.5) as running:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(head % len(body) + body)
        wait_for(lambda: len(running.store.queue) == 1)
        wait_for(lambda: not len(running.store.queue), 60)
        wait_for(running.is_tidy)
        gone = 'route="/api/colorize",status="499"} 1.0'
        wait_for(lambda: gone in httpx.get(f"{running.url}/metrics").text)
    connection.close()


def test_a_silent_connection_is_closed(service, monkeypatch):
    monkeypatch.setattr("colorizer_tf.service.middleware.IDLE_SECONDS", 0.2)
    for begun in (b"", b"GET /health HTTP/1.1\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(begun)
            connection.settimeout(10)
            try:
                assert connection.recv(1000) == b""
            except ConnectionResetError:
                pass


def test_the_pages_refer_to_no_other_host(service):
    static = [path for path in STATIC.rglob("*") if path.suffix != ".jpg"]
    texts = [path.read_text("utf-8") for path in static if path.is_file()]
    docs = httpx.get(f"{service.url}/docs").text
    for text in (*texts, docs):
        hosts = set(re.findall(r"(?:https?:)?//([\w.-]+\.[a-z]{2,}|[\d.]+:)", text))
        # The W3C's address is only the name of SVG's namespace.
        assert hosts <= {"www.w3.org"}
    scripts = re.findall(r'(?:src|href)="((?:docs|static)/[^"]+)"', docs)
    assert len(scripts) == 3
    for script in scripts:
        response = httpx.get(f"{service.url}/{script}")
        assert response.status_code == 200
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    asked = {f"/api/{name}" for name in ("colorize", "suggest", "variants", "about")}
    assert paths.keys() == asked | {"/health", "/metrics"}


def test_the_page_runs_no_script_but_its_own(service):
    for path in ("/", "/static/main.js"):
        headers = httpx.get(service.url + path).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/..%2f..%2f__init__.py",
        "/static//etc/passwd",
        "/docs/scripts/..%2f..%2f__init__.py",
        "/etc/passwd",
        "/app.py",
    ],
)
def test_no_path_on_the_server_can_be_read(service, path):
    response = httpx.get(service.url + path)
    assert response.status_code in (400, 403, 404)
    assert "root:" not in response.text
