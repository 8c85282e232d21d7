"""Tests archives on Ray, in folders and in a bucket."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import colorizer_tf as ct
from colorizer_tf.__main__ import main
from colorizer_tf.account import MAX_TRIES, RECORD, Claim, Notes
from colorizer_tf.folder import Work
from colorizer_tf.photos import photo_size
from colorizer_tf.places import PARTS, Bucket, open_place

archive = pytest.importorskip("colorizer_tf.archive", reason="needs the extra `ray`")
ray = pytest.importorskip("ray")

# A worker that opens this photo dies, as if it ran out of memory; the tests do not.
KILLER = """
import os, sys

def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith("killer.png"):
        os.kill(os.getpid(), 9)

sys.addaudithook(kill)
"""


@pytest.fixture(scope="module")
def bucket_server():
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def cluster(bucket_server, tmp_path_factory):
    """Ray on this machine; its workers reach the bucket, and some photos kill them."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(KILLER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("AWS_ENDPOINT_URL", bucket_server)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=2**27,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def colorizer(build_vivid_generator, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "generator.keras"
    build_vivid_generator(hints=True).save(path)
    return ct.Colorizer.load(path, working_size=32)


def save(path, height=40, width=50, seed=0, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    high = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(seed).integers(0, high, (height, width))
    Image.fromarray(pixels.astype(dtype)).save(path)
    return path


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.name != RECORD
    }


def outcomes(report, source):
    return [
        (str(each.photo).removeprefix(str(source)), each.status, each.reason)
        for each in report
    ]


def test_a_folder_gives_the_same_as_without_ray(cluster, colorizer, tmp_path):
    source = tmp_path / "in"
    for number in range(20):
        save(source / f"{number % 3}/{number}.png", 40, 50 + number % 7, seed=number)
    save(source / "0/deep.tif", dtype=np.uint16)
    save(source / "0/deep.png", 50, 41)
    (source / "bad.png").write_text("nothing")
    ct.write_hints(source / "0/9.hints.json", [ct.Hint(0.3, 0.3, "#c03030")])
    (source / "1/10.png.hints.json").write_text("no JSON")
    for destination in ("out", "expected"):
        save(tmp_path / destination / "0/3.tif")  # a foreign file

    report = ct.colorize_archive(
        colorizer, source, tmp_path / "out", strength=0.7, extension=".tif"
    )

    expected = colorizer.colorize_folder(source, tmp_path / "expected", 0.7, ".tif")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert outcomes(report, source) == outcomes(expected, source)
    assert str(report).startswith("23 photos: 21 done, 0 skipped, 2 failed")
    assert not (tmp_path / "out" / PARTS).exists()
    (source / "bad.png").unlink()
    (source / "1/10.png").unlink()
    for again in (
        ct.colorize_archive(colorizer, source, tmp_path / "out", 0.7, ".tif"),
        colorizer.colorize_folder(source, tmp_path / "out", 0.7, ".tif"),
    ):
        assert again.count("skipped") == len(again) == 21


def test_a_photo_that_kills_stops_no_other(cluster, colorizer, tmp_path):
    for name in ("a.png", "killer.png", "z.png"):
        save(tmp_path / "in" / name)

    report = ct.colorize_archive(colorizer, tmp_path / "in", tmp_path / "out")

    assert [each.status for each in report] == ["done", "failed", "done"]
    (failed,) = report.with_status("failed")
    assert f"{tmp_path}/in/killer.png cannot be colorized" in failed.reason
    assert "killed" in failed.reason
    assert sorted(contents(tmp_path / "out")) == ["a.png", "z.png"]
    assert "killer" not in (tmp_path / "out" / RECORD).read_text()


def test_a_bucket_gives_the_same_as_a_folder(cluster, colorizer, tmp_path):
    s3fs = pytest.importorskip("s3fs")
    source = tmp_path / "in"
    for number in range(12):
        save(source / f"deep/er/{number}.png", 40, 50 + number % 2, seed=number)
    (source / "bad.jpg").write_text("nothing")
    ct.write_hints(source / "deep/er/5.hints.json", [ct.Hint(0.3, 0.3, "#c03030")])
    (source / "deep/er/6.hints.json").write_text("no JSON")
    files = s3fs.S3FileSystem()
    files.mkdir("archive")
    files.put(str(source), "archive/in", recursive=True)
    files.pipe("archive/out/deep/er/3.png", b"from elsewhere")

    report = ct.colorize_archive(colorizer, "s3://archive/in", "s3://archive/out")

    bad, misled = report.with_status("failed")
    assert bad.photo == "s3://archive/in/bad.jpg"
    assert bad.reason.startswith("s3://archive/in/bad.jpg cannot be read")
    assert misled.reason.startswith("s3://archive/in/deep/er/6.hints.json cannot be")
    assert report.count("done") == 11
    files.invalidate_cache()
    results = {
        path.removeprefix("archive/out/"): files.cat(path)
        for path in files.find("archive/out")
    }
    assert results.pop("deep/er/3.png") == b"from elsewhere"
    assert RECORD in results
    colorizer.colorize_folder(source, tmp_path / "out")
    expected = contents(tmp_path / "out")
    expected["deep/er/3 (2).png"] = expected.pop("deep/er/3.png")
    assert {name: results[name] for name in results if name != RECORD} == expected

    files.rm(["archive/in/bad.jpg", "archive/in/deep/er/6.hints.json"])
    files.rm("archive/in/deep/er/6.png")
    again = ct.colorize_archive(colorizer, "s3://archive/in", "s3://archive/out")
    assert again.count("skipped") == len(again) == 11


def test_killed_on_ray_and_gone_on_without(cluster, colorizer, tmp_path):
    source, result = tmp_path / "in", tmp_path / "out"
    for number in range(300):
        save(source / f"{number:03}.png", 250, 250 + number % 40, seed=number)
    colorizer.generator.save(tmp_path / "generator.keras")
    command = [sys.executable, "-m", "colorizer_tf", "colorize", source, result]
    options = ["--weights", tmp_path / "generator.keras", "--working-size", "32"]
    run = subprocess.Popen(
        [*command, *options, "--ray"], stderr=subprocess.PIPE, start_new_session=True
    )
    while len(list(result.glob("*.png"))) < 20 and run.poll() is None:
        time.sleep(0.005)
    run.kill()
    said = run.communicate()[1].decode()
    assert run.returncode == -signal.SIGKILL
    assert "starting Ray" in said
    assert "ray." not in said
    wait_for_quiet(result)
    finished = contents(result)
    assert 20 <= len(list(result.glob("*.png"))) < 300

    report = colorizer.colorize_folder(source, result)

    assert report.count("failed") == 0
    assert report.count("skipped") > 0
    names = sorted(contents(result))
    assert names == sorted(path.name for path in source.iterdir())
    for name, content in finished.items():
        if not name.startswith(PARTS):
            assert (result / name).read_bytes() == content
            assert photo_size(result / name) == photo_size(source / name)


def wait_for_quiet(folder):
    """Waits until the workers of a killed driver have noticed it."""
    before = None
    while before != (before := sorted(contents(folder))):
        time.sleep(2)


def test_chunks_are_bounded():
    def todo(sizes):
        for number, size in enumerate(sizes):
            yield number, Claim(f"{number}.png", f"{number}.png", (size, 0))

    sizes = [1] * 200 + [archive.CHUNK_BYTES // 2] * 4 + [archive.CHUNK_BYTES * 2] * 2
    tables = list(archive._make_chunks(todo(sizes), 10_000))

    numbers = [table["number"].to_pylist() for table in tables]
    assert list(itertools.chain(*numbers)) == list(range(len(sizes)))
    assert len({table["part"][0].as_py() for table in tables}) == len(tables)
    for chunk in numbers:
        assert len(chunk) <= archive.CHUNK_PHOTOS
        total = sum(sizes[number] for number in chunk)
        assert len(chunk) == 1 or total <= archive.CHUNK_BYTES
    few = list(archive._make_chunks(todo([1] * 100), 100))
    assert len(few) > 4


def test_what_a_killed_worker_leaves_is_taken_up(tmp_path):
    place = open_place(tmp_path)
    works = [Work(number, Path(f"{number}.png"), Path()) for number in range(3)]
    entries = {number: (f"{number}.png", ("", (1, 2), "")) for number in range(3)}

    def take_up():
        return Notes(place, f"{PARTS}/0.jsonl", entries)

    assert not take_up().seen
    take_up().save()
    notes = take_up()
    assert notes.seen
    assert notes.begin(works[0])
    notes.finish(works[:1])
    notes.save()
    for _ in range(MAX_TRIES):
        assert take_up().begin(works[1])
        assert not works[1].reason
    notes = take_up()
    assert not notes.begin(works[0])
    assert not works[0].reason
    assert not notes.begin(works[1])
    assert "1.png" in works[1].reason
    assert notes.begin(works[2])
    notes.finish(works[2:])
    notes.save(unfinished=False)
    lines = (tmp_path / PARTS / "0.jsonl").read_text().splitlines()
    assert [json.loads(line)["result"] for line in lines] == ["0.png", "2.png"]


def test_where_there_is_renaming_a_file_gets_its_name_last(tmp_path, monkeypatch):
    bucket = Bucket(f"local://{tmp_path}/out")
    moved = []
    move = type(bucket.files).mv

    def mv(files, path, other, **options):
        moved.append((Path(path).name, Path(other).name, Path(other).exists()))
        move(files, path, other, **options)

    monkeypatch.setattr(type(bucket.files), "mv", mv)
    bucket.write("a/b.jsonl", b"one")
    bucket.put(save(tmp_path / "a.png"), "a/c.png")

    assert [(new, there) for _, new, there in moved] == [
        ("b.jsonl", False), ("c.png", False)
    ]  # fmt: skip
    assert all(old.startswith(".partial.") for old, *_ in moved)
    assert sorted(contents(tmp_path / "out")) == ["a/b.jsonl", "a/c.png"]
    with pytest.raises(FileNotFoundError):
        bucket.put(tmp_path / "no.png", "a/d.png")
    assert sorted(contents(tmp_path / "out")) == ["a/b.jsonl", "a/c.png"]


def test_addresses_that_cannot_be(colorizer, tmp_path):
    save(tmp_path / "in/a.png")
    with pytest.raises(ValueError, match="nosuch"):
        ct.colorize_archive(colorizer, "nosuch://in", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="There is no memory://nothing"):
        ct.colorize_archive(colorizer, "memory://nothing", tmp_path / "out")
    archive.fsspec.filesystem("memory").pipe_file("/letters/a.txt", b"")
    with pytest.raises(FileNotFoundError, match="No photos in memory://letters"):
        ct.colorize_archive(colorizer, "memory://letters", tmp_path / "out")
    with pytest.raises(ValueError, match="contains the source"):
        ct.colorize_archive(colorizer, "memory://a/b", "memory://a")
    with pytest.raises(FileNotFoundError, match="no folder"):
        ct.colorize_archive(colorizer, tmp_path / "no", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        ct.colorize_archive(colorizer, tmp_path / "in", tmp_path / "file")


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*closed.getsockname())
        with pytest.raises(OSError, match=address):
            with archive._ray_session(address):
                pass


def test_when_ray_has_ended_it_is_said(capsys):
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        address = "127.0.0.1:{1}".format(*head.getsockname())
        over = threading.Event()
        watch = threading.Thread(target=archive._watch, args=(address, over, 0.1))
        watch.start()
        watch.join(1)
        assert watch.is_alive()
    watch.join(10)
    assert f"Ray at {address} does not answer any more" in capsys.readouterr().err


def test_without_the_engine_the_command_says_so(tmp_path, capsys, monkeypatch):
    for places in (["s3://a/b", str(tmp_path)], [str(tmp_path), "gs://a/b"]):
        assert main(["colorize", *places]) == 1
        assert "--ray" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "colorizer_tf.archive")
    assert main(["colorize", "s3://a/b", str(tmp_path), "--ray"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: An archive needs ray")
    assert "colorizer_tf[ray]" in error
    assert error.count("\n") == 1


def test_a_photo_alone_needs_no_engine(tmp_path, capsys):
    photo = str(save(tmp_path / "a.png"))
    assert main(["colorize", photo, str(tmp_path / "b.png"), "--ray"]) == 1
    assert "not for a single photo" in capsys.readouterr().err
