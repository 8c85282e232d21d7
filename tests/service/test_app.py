"""Tests the API: good photos, invalid files, load and shutdown."""

import asyncio
import concurrent.futures
import contextlib
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from colorizer_tf.colorizer import Colorizer
from colorizer_tf.hints import parse_hints
from colorizer_tf.photos import PhotoError, read_gray

pytest.importorskip("uvicorn", reason="needs the extra `service`")

import httpx
from running import RunningService, decode, encode, read_luma, wait_for

from colorizer_tf.service import queue as queue_module


def test_one_photo_comes_back_in_color(service):
    photo = encode()
    response = service.post(("a b.png", photo))
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert "a%20b%20colour.png" in response.headers["content-disposition"]
    result = np.asarray(decode(response.content)).astype(int)
    assert result.shape == (40, 50, 3)
    assert np.ptp(result, axis=2).max() > 20
    assert abs(read_luma(response.content) - read_luma(photo)).max() <= 1
    assert service.is_tidy()


def test_it_is_what_the_colorizer_gives(service, colorizer, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(file_format="JPEG", dpi=(300, 300)))
    colorizer.colorize_file(tmp_path / "a.jpg", tmp_path / "b.jpg", strength=0.5)
    photo = (tmp_path / "a.jpg").read_bytes()
    response = service.post(("a.jpeg", photo), strength="0.5")
    assert response.content == (tmp_path / "b.jpg").read_bytes()
    assert 'filename="a colour.jpeg"' in response.headers["content-disposition"]


def test_sixteen_bits_stay(service, tmp_path):
    response = service.post(("deep.png", encode(dtype=np.uint16)))
    (tmp_path / "deep.png").write_bytes(response.content)
    assert read_gray(tmp_path / "deep.png").gray.dtype == np.uint16


@pytest.mark.parametrize("ending", ["bmp", "jpg", "png", "tif", "webp"])
def test_the_format_that_was_asked_for(service, ending):
    response = service.post(("a.png", encode()), format=ending)
    image = decode(response.content)
    assert response.headers["content-type"] == Image.MIME[image.format]
    assert f'"a colour.{ending}"' in response.headers["content-disposition"]
    assert image.format.lower().startswith({"jpg": "jpeg"}.get(ending, ending))


def test_the_content_says_the_format_not_the_name(service):
    response = service.post(("a.jpg", encode(file_format="WEBP", lossless=True)))
    assert response.headers["content-type"] == "image/webp"


def test_several_come_back_as_a_zip_with_a_report_of_the_bad(service):
    names = ["../../etc/a.png", "a.png", "C:\\x\\A.png", "letter.txt"]
    contents = [encode(seed=seed) for seed in range(3)] + [b"Dear Sir"]
    response = service.post(*zip(names, contents, strict=True))
    assert response.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.namelist() == [
        "a colour.png",
        "a colour (2).png",
        "A colour (3).png",
        "report.txt",
    ]
    assert archive.read("report.txt").startswith(b"letter.txt is not a photo")
    for name, photo in zip(archive.namelist()[:3], contents, strict=False):
        assert abs(read_luma(archive.read(name)) - read_luma(photo)).max() <= 1
    assert service.is_tidy()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"strength": "-1"}, "strength"),
        ({"strength": "nan"}, "strength"),
        ({"strength": "much"}, "strength"),
        ({"format": "gif"}, "format"),
    ],
)
def test_a_bad_parameter(service, fields, part):
    response = service.post(("a.png", encode()), **fields)
    assert response.status_code == 422
    assert part in response.json()["reason"]


def test_a_field_that_is_not_known_is_named_with_those_that_are(service):
    response = service.post(("a.png", encode()), strenght="0.1")
    assert response.status_code == 422
    assert response.json()["code"] == "wrong_field"
    for word in ("strenght", "strength", "hints", "format", "longest_side"):
        assert word in response.json()["reason"]
    files = {"photo": ("a.png", encode())}
    response = httpx.post(f"{service.url}/api/colorize?strength=0.1", files=files)
    assert response.status_code == 422
    assert "query: strength" in response.json()["reason"]
    assert service.is_tidy()


def test_a_preview_is_no_larger_than_asked_for(service):
    photo = encode((300, 400, 4), file_format="TIFF")
    response = service.post(("a.tif", photo), longest_side="80", format="png")
    small = decode(response.content)
    assert (small.size, small.mode) == ((80, 60), "RGBA")
    assert np.ptp(np.asarray(small)[..., :3].astype(int), axis=2).max() > 20
    # No photo is enlarged, and a size of 0 is refused.
    response = service.post(("a.png", encode()), longest_side="80")
    assert decode(response.content).size == (50, 40)
    assert service.post(("a.png", encode()), longest_side="0").status_code == 422


def test_without_color_it_is_the_gray_photo(service, monkeypatch):
    photo = encode()
    with monkeypatch.context() as patch:  # the network does not run on it
        patch.setattr(service.store.queue.colorizer, "predict_chroma", None)
        response = service.post(("a.png", photo), strength="0")
    levels = np.asarray(decode(response.content))
    assert np.ptp(levels, axis=2).max() == 0
    np.testing.assert_array_equal(levels[..., 0], np.asarray(decode(photo)))


HINT = '[{"x": 0.6, "y": 0.25, "color": "#c03030"}]'


def test_hints_give_what_the_colorizer_gives_with_them(service, colorizer, tmp_path):
    (tmp_path / "a.png").write_bytes(encode())
    colorizer.colorize_file(
        tmp_path / "a.png", tmp_path / "b.png", hints=parse_hints(HINT)
    )
    response = service.post(("a.png", encode()), hints=HINT)
    assert response.content == (tmp_path / "b.png").read_bytes()
    plain = service.post(("a.png", encode()))
    assert response.content != plain.content
    # An empty field, as forms send it, counts as missing.
    for none in ("", "[]"):
        assert service.post(("a.png", encode()), hints=none).content == plain.content


def test_photos_with_hints_and_without_share_a_batch(slow_colorizer):
    with (
        RunningService(slow_colorizer) as running,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        fields = [{}, {"hints": HINT}] * 4
        asked = [
            pool.submit(running.post, ("a.png", encode()), **each) for each in fields
        ]
        wait_for(lambda: len(running.store.queue) == 8)
        slow_colorizer.go.set()
        results = np.stack(
            [np.asarray(decode(future.result().content), int) for future in asked]
        )
    assert max(slow_colorizer.batches) >= 2
    # Rounding differs between batches of different sizes: by a level at most.
    assert np.ptp(results[::2], axis=0).max() <= 1
    assert np.ptp(results[1::2], axis=0).max() <= 1
    assert abs(results[1] - results[0]).max() > 10


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ("green", "no JSON"),
        ("{}", "must be a list"),
        (HINT.replace("0.6", "6"), "entry 1: x must be"),
        (HINT.replace("#c03030", "red"), "entry 1: color must be"),
        (f"[{','.join([HINT[1:-1]] * 1001)}]", "1,001 entries"),
        ("9" * 5000, "no JSON"),
    ],
    ids=["word", "object", "outside", "colour", "many", "long"],
)
def test_bad_hints_are_named(service, hints, words):
    response = service.post(("a.png", encode()), hints=hints)
    assert response.status_code == 422
    assert response.json()["reason"].startswith("hints")
    assert words in response.json()["reason"]
    assert service.is_tidy()


def test_hints_belong_to_one_photo(service):
    response = service.post(("a.png", encode()), ("b.png", encode()), hints=HINT)
    assert response.status_code == 422
    assert "one photo" in response.json()["reason"]


def test_a_generator_that_takes_no_hints_says_so(generator):
    with RunningService(Colorizer(generator, working_size=32)) as running:
        response = running.post(("a.png", encode()), hints=HINT)
        assert response.status_code == 422
        assert response.json()["reason"] == "hints: this generator takes none."
        about = httpx.get(f"{running.url}/api/about").json()
        assert about["hints"] == 0
        assert running.is_tidy()


def decompression_bomb():
    """A PNG that claims 500 million pixels."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", 25000, 20000, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def gif():
    return encode(file_format="GIF")


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("empty.png", b"", 400, "not a photo"),
        ("letter.txt", b"Dear Sir", 400, "not a photo"),
        ("a.gif", gif(), 400, "not a photo"),
        ("half.jpg", encode(file_format="JPEG")[:1000], 400, "damaged"),
        ("bomb.png", decompression_bomb(), 413, "pixels"),
        ("zeros.png", bytes(3 * 2**20), 413, "too large"),
        ("zeros.png", bytes(100 * 2**20), 413, "Too large"),
        ("../../../etc/passwd", b"root", 400, "passwd is not a photo"),
    ],
    ids=["empty", "text", "gif", "half", "bomb", "large", "huge", "name"],
)
def test_rubbish(service, name, content, status, words):
    response = service.post((name, content))
    assert response.status_code == status
    assert words in response.json()["reason"]
    assert "/" not in response.json()["reason"]
    assert service.is_tidy()


def test_of_several_bad_photos_each_is_named(service):
    response = service.post(("a.txt", b"text"), ("b.png", encode()[:200]))
    assert response.status_code == 400
    assert "a.txt is not" in response.json()["reason"]
    assert "b.png cannot be read" in response.json()["reason"]


def test_a_full_disk_is_not_the_clients_fault(service, monkeypatch):
    def fail(*_):
        raise PhotoError("no space")

    monkeypatch.setattr("colorizer_tf.pipeline.write_photo", fail)
    assert service.post(("a.png", encode())).status_code == 500
    monkeypatch.setattr("colorizer_tf.service.queue.MIN_FREE_BYTES", 2**62)
    response = service.post(("a.png", encode()))
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)


def test_an_empty_request_and_too_many_photos(service):
    response = httpx.post(f"{service.url}/api/colorize")
    assert response.status_code == 400
    assert "No photo" in response.json()["reason"]
    response = service.post(*[("a.png", encode())] * 6)
    assert response.status_code == 413


def test_each_result_belongs_to_its_photo(service):
    shapes = [(40, 50), (50, 40), (33, 200), (90, 90)]
    photos = [encode(shapes[seed % 4], seed) for seed in range(40)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda photo: service.post(("a.png", photo)), photos))
    for photo, response in zip(photos, responses, strict=True):
        assert response.status_code == 200
        assert abs(read_luma(response.content) - read_luma(photo)).max() <= 1
    assert service.is_tidy()


def test_a_full_queue_says_when_to_come_again(slow_colorizer):
    with (
        RunningService(slow_colorizer, queue_photos=3) as running,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        waiting = [pool.submit(running.post, ("a.png", encode())) for _ in range(3)]
        wait_for(lambda: len(running.store.queue) == 3)
        refused = running.post(("a.png", encode()))
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "try again" in refused.json()["reason"]
        assert httpx.get(f"{running.url}/health").json()["queue"] == 3
        slow_colorizer.go.set()
        assert [each.result().status_code for each in waiting] == [200] * 3
        # Photos that arrived while the network was busy formed one batch.
        assert max(slow_colorizer.batches) >= 2
        assert running.post(("a.png", encode())).status_code == 200


def test_who_goes_away_frees_the_place(slow_colorizer, monkeypatch):
    noticed, cancel = threading.Event(), queue_module.Task.cancel
    monkeypatch.setattr(
        queue_module.Task, "cancel", lambda task: (cancel(task), noticed.set())
    )

    async def ask_and_go(running):
        async with httpx.AsyncClient(timeout=60) as client:
            files = {"photo": ("a.png", encode())}
            url = f"{running.url}/api/colorize"
            asking = asyncio.create_task(client.post(url, files=files))
            while len(running.store.queue) < 2:
                await asyncio.sleep(0.02)
            asking.cancel()

    with RunningService(slow_colorizer, queue_photos=2) as running:
        threading.Thread(target=running.post, args=[("a.png", encode())]).start()
        wait_for(lambda: len(running.store.queue) == 1)
        asyncio.run(ask_and_go(running))
        assert noticed.wait(10)
        slow_colorizer.go.set()
        wait_for(lambda: not len(running.store.queue))
        gone = 'colorizer_requests_total{route="/api/colorize",status="499"} 1.0'
        wait_for(lambda: gone in httpx.get(f"{running.url}/metrics").text)
        assert running.is_tidy()
        folder = running.store.folder
    assert not folder.exists()


def test_a_network_that_fails_does_not_take_the_service_along(service, monkeypatch):
    def fail(lumas, hints=None):
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(service.store.queue.colorizer, "predict_chroma", fail)
        response = service.post(("a.png", encode()))
        assert response.status_code == 500
        expected = {"reason": "a.png could not be colorized.", "code": "failed"}
        assert response.json() == expected
    assert service.post(("a.png", encode())).status_code == 200


def test_the_figures(service):
    service.post(("a.png", encode()))
    service.post(("a.txt", b"text"))
    figures = httpx.get(f"{service.url}/metrics").text
    for line in (
        r'colorizer_requests_total\{route="/api/colorize",status="400"\} \d',
        r'colorizer_request_seconds_count\{route="/api/colorize"\} \d',
        r'colorizer_photos_total\{outcome="done"\} \d',
        r"colorizer_queue_photos 0",
    ):
        assert re.search(line, figures)


def test_nothing_of_a_photo_lies_on_the_disk_by_its_answer(service):
    # A large response is sent from a file whose name is already removed.
    files = {"photo": ("a.png", encode((1200, 1500)))}
    with httpx.stream("POST", f"{service.url}/api/colorize", files=files) as response:
        assert response.status_code == 200
        assert service.is_tidy()
        assert len(response.read()) == int(response.headers["content-length"])


def test_nothing_of_a_photo_is_logged_but_size_and_time(service, caplog):
    with caplog.at_level("INFO"):
        service.post(("secret.png", encode()), ("hidden.txt", b"text"))
    assert "50x40" in caplog.text
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


def test_sigterm_finishes_what_was_accepted(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "colorizer_tf", "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    run = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        # Nothing of a photo is left in it.
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )

    def answers():
        assert run.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/health").is_success

    wait_for(answers, 120)
    # They take longer to colorize than to send.
    photos = [encode((1000, 1500), seed) for seed in range(8)]

    def ask(photo):
        return httpx.post(f"{url}/api/colorize", files={"photo": photo}, timeout=120)

    def accepted():
        figures = httpx.get(f"{url}/metrics").text
        names = r"colorizer_queue_photos|colorizer_photos_total\S*"
        return sum(map(float, re.findall(rf"^(?:{names}) (\S+)", figures, re.M)))

    with concurrent.futures.ThreadPoolExecutor(len(photos)) as pool:
        asked = [pool.submit(ask, photo) for photo in photos]
        wait_for(lambda: accepted() == len(photos), 60)
        run.send_signal(signal.SIGTERM)
        assert not all(future.done() for future in asked)
        error = run.communicate(timeout=120)[1].decode()
    assert run.returncode == 0
    assert "Traceback" not in error
    for photo, future in zip(photos, asked, strict=True):
        response = future.result()
        assert response.status_code == 200
        assert abs(read_luma(response.content) - read_luma(photo)).max() <= 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
    assert not list(tmp_path.iterdir())
