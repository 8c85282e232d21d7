import http.server
import io
import itertools
import socket
import threading
import zipfile

import numpy as np
import pytest
import skimage.data

from colorizer_tf import sources
from colorizer_tf.photos import read_photo
from colorizer_tf.sources import (
    download_photos,
    gray_sample,
    load_split,
    photos_digest,
    project_path,
    sample_split,
)

PHOTOS = {"a.jpg": b"the first photo", "b.jpg": b"the second photo"}


def archive(photos=PHOTOS):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as contents:
        contents.writestr("colorizer-main/README.md", "not a photo")
        contents.writestr("colorizer-main/datasets/data/", "")
        contents.writestr("colorizer-main/datasets/data/deeper/c.jpg", "not one")
        for name, content in photos.items():
            contents.writestr(f"colorizer-main/datasets/data/{name}", content)
    return file.getvalue()


@pytest.fixture
def serve():
    """A function that serves bytes on the loopback and returns their address."""
    servers = []

    def serve(body, status=200, length=None, chunked=False):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(status)
                self.send_header("Connection", "close")
                if chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
                else:
                    self.send_header("Content-Length", str(length or len(body)))
                    chunk = body
                self.end_headers()
                self.wfile.write(chunk)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/main.zip"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def digest(tmp_path):
    folder = tmp_path / "as it should be"
    folder.mkdir()
    for name, content in PHOTOS.items():
        (folder / name).write_bytes(content)
    return photos_digest(folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "photos"


def left_in(folder):
    return list(folder.parent.iterdir()) if folder.parent.exists() else []


def test_photos_are_downloaded_and_checked(serve, folder, digest):
    assert download_photos(folder, serve(archive()), 2, digest) == folder

    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == PHOTOS
    assert left_in(folder) == [folder]


def test_photos_that_are_there_are_not_downloaded_again(folder):
    folder.mkdir(parents=True)

    assert download_photos(folder, "http://127.0.0.1:1/main.zip") == folder


@pytest.mark.parametrize(
    "photos",
    [
        {"a.jpg": PHOTOS["a.jpg"]},
        PHOTOS | {"c.jpg": b"one more"},
        PHOTOS | {"b.jpg": b"another photo"},
        {"a.jpg": PHOTOS["a.jpg"], "c.jpg": PHOTOS["b.jpg"]},
        {},
    ],
    ids=["one missing", "one more", "other content", "other name", "none"],
)
def test_nothing_is_kept_of_other_photos(serve, folder, digest, photos):
    with pytest.raises(ValueError, match="sample"):
        download_photos(folder, serve(archive(photos)), 2, digest)

    assert left_in(folder) == []


def test_nothing_is_kept_of_what_is_no_archive(serve, folder, digest):
    with pytest.raises(ValueError, match="no zip archive"):
        download_photos(folder, serve(b"<html>not found</html>"), 2, digest)

    assert left_in(folder) == []


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/main.zip"


FAILURES = {
    "no server": lambda serve: closed_port(),
    "not found": lambda serve: serve(b"", status=404),
    "broken off": lambda serve: serve(archive()[:50], length=5000),
    "broken off in chunks": lambda serve: serve(archive()[:50], chunked=True),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_download_says_what_to_do_instead(serve, folder, digest, failure):
    url = FAILURES[failure](serve)

    with pytest.raises(ConnectionError) as error:
        download_photos(folder, url, 2, digest)

    assert url in str(error.value)
    assert str(folder) in str(error.value)
    assert "sample" in str(error.value)
    assert left_in(folder) == []


def test_the_digest_tells_names_and_contents_apart(tmp_path):
    def digest_of(name, photos):
        (tmp_path / name).mkdir()
        for photo, content in photos.items():
            (tmp_path / name / photo).write_bytes(content)
        return photos_digest(tmp_path / name)

    swapped = {"a.jpg": PHOTOS["b.jpg"], "b.jpg": PHOTOS["a.jpg"]}
    assert digest_of("one", PHOTOS) == digest_of("same", PHOTOS)
    assert digest_of("two", swapped) != digest_of("other", PHOTOS)
    assert digest_of("three", PHOTOS | {"c.jpg": b""}) != digest_of("fourth", PHOTOS)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return sample_split(tmp_path_factory.mktemp("data") / "sample")


def photographs(paths):
    return {path.name.split("_")[0] for path in paths}


def test_the_sample_is_split_by_photograph(sample):
    sides = [photographs(getattr(sample, side)) for side in sources.SAMPLE_SPLIT]

    assert all(sides)
    assert len(set.union(*sides)) == sum(map(len, sides)) == 5


def test_the_sample_is_tiles_of_the_photographs(sample):
    for photo, paths in (
        (skimage.data.astronaut(), sample.train),
        (skimage.data.cat(), sample.test),
    ):
        path = [path for path in paths if path.name[:3] in ("ast", "cat")][3]
        top, left = map(int, path.stem.split("_")[1:])
        expected = photo[top : top + 150, left : left + 150]
        np.testing.assert_array_equal(read_photo(path), expected)


def test_tiles_overlap_and_have_150_pixels(sample):
    cat = sorted(path.stem for path in sample.test)
    height, width = skimage.data.cat().shape[:2]

    assert len(cat) > (height // 150) * (width // 150)
    assert {read_photo(path).shape for path in sample.test} == {(150, 150, 3)}


def test_the_sample_is_taken_as_it_lies(sample):
    folder = sample.test[0].parent.parent
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}

    assert sample_split(folder) == sample
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == written


def test_the_gray_sample_is_the_photographs_whole_and_without_color(tmp_path):
    folder = gray_sample(tmp_path / "gray")

    photos = {path.stem: read_photo(path) for path in folder.iterdir()}
    assert photos.keys() == set(itertools.chain(*sources.SAMPLE_SPLIT.values()))
    assert photos["cat"].shape == skimage.data.cat().shape
    assert all(np.ptp(photo, axis=-1).max() == 0 for photo in photos.values())


def test_a_sample_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "_write_tiles", fail)

    with pytest.raises(KeyboardInterrupt):
        sample_split(tmp_path / "sample")

    assert list(tmp_path.iterdir()) == []


def test_photos_of_a_folder_are_split_by_seed(tmp_path, write_photos, capsys):
    photos = write_photos(tmp_path / "mine", 30)

    split, other = load_split(tmp_path / "mine"), load_split(tmp_path / "mine", seed=1)

    assert sorted(split.train + split.validation + split.test) == photos
    assert split.test != other.test
    assert split.source == str(tmp_path / "mine")
    assert split.source in capsys.readouterr().out


def test_too_few_photos_for_three_sides_are_refused(tmp_path, write_photos):
    write_photos(tmp_path / "few", 2)

    with pytest.raises(ValueError, match="few"):
        load_split(tmp_path / "few")


def test_the_sample_stands_in_for_the_projects_own_photos(
    tmp_path, write_photos, monkeypatch, capsys, sample
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sample").symlink_to(sample.test[0].parent.parent)
    monkeypatch.setattr(sources, "PROJECT", tmp_path)

    assert photographs(load_split().test) == photographs(sample.test)
    assert "sample" in capsys.readouterr().out

    photos = write_photos(tmp_path / "data/photos", 30)
    split = load_split()
    assert sorted(split.train + split.validation + split.test) == photos
    assert photographs(load_split("sample").test) == photographs(sample.test)


def test_a_path_is_taken_from_where_one_is_and_a_default_from_the_project(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    assert project_path("scans", "data/photos") == tmp_path / "scans"
    assert project_path(tmp_path / "scans", "data/photos") == tmp_path / "scans"
    assert project_path("", "data/photos") == sources.PROJECT / "data/photos"
    assert project_path("", "data/photos").is_absolute()
