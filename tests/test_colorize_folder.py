"""Tests folders of good, bad and odd photos."""

import itertools
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from PIL import Image

from colorizer_tf import folder as folder_module
from colorizer_tf.color import join_luma_chroma
from colorizer_tf.colorizer import Colorizer
from colorizer_tf.photos import read_gray, read_photo
from colorizer_tf.places import PARTS


@pytest.fixture(scope="module")
def colorizer():
    gray = keras.Input((None, None, 1))
    chroma = keras.ops.concatenate([gray - 0.5, 0.5 - gray], axis=-1)
    model = keras.Model(gray, join_luma_chroma(gray, 0.4 * chroma))
    return Colorizer(model, working_size=32)


def save(path, *shape, seed=0, dtype=np.uint8, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    high = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(seed).integers(0, high, shape or (20, 30))
    Image.fromarray(pixels.astype(dtype)).save(path, **options)
    return path


def statuses(report):
    return {outcome.photo.name: outcome.status for outcome in report}


def files(folder):
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if name.name != folder_module.RECORD)


def test_the_same_tree_comes_out_and_originals_stay(colorizer, tmp_path):
    source, result = tmp_path / "in", tmp_path / "out"
    names = ["a.jpg", "b.PNG", "deep/er/с именем и пробелом.tif", "z.webp"]
    for number, name in enumerate(names):
        save(source / name, 40 + 30 * number, 50, seed=number)
    before = {path: path.read_bytes() for path in source.rglob("*.*")}

    report = colorizer.colorize_folder(source, result)

    assert files(result) == sorted(names)
    assert {path: path.read_bytes() for path in source.rglob("*.*")} == before
    assert str(report).startswith("4 photos: 4 done, 0 skipped, 0 failed")
    assert len(report) == len(list(report)) == 4
    for outcome in report:
        with Image.open(outcome.photo) as photo, Image.open(outcome.result) as made:
            assert (photo.size, photo.format) == (made.size, made.format)
            rgb = np.asarray(made.convert("RGB"))
        assert np.ptp(np.int16(rgb), axis=-1).mean() > 2
    alone = colorizer.colorize(read_gray(source / "b.PNG").gray)
    np.testing.assert_array_equal(read_photo(result / "b.PNG"), alone)


def test_what_is_done_is_skipped_and_what_changed_is_not(colorizer, tmp_path):
    source, result = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png"):
        save(source / name)
    colorizer.colorize_folder(source, result)
    save(source / "b.png", seed=1)
    os.utime(source / "b.png", (1e9, 1e9))
    (result / "c.png").unlink()
    save(source / "d.png")

    report = colorizer.colorize_folder(source, result)

    assert statuses(report) == {
        "a.png": "skipped", "b.png": "done", "c.png": "done", "d.png": "done"
    }  # fmt: skip
    assert len(colorizer.colorize_folder(source, result).with_status("skipped")) == 4
    other = colorizer.colorize_folder(source, result, strength=0.5)
    assert len(other.with_status("done")) == 4


def test_results_never_land_on_photos_or_on_one_another(colorizer, tmp_path):
    source, result = tmp_path / "in", tmp_path / "out"
    for seed, name in enumerate(("a.jpg", "a.png", "A.png", "b (2).png", "b.png")):
        save(source / name, seed=seed)
    save(result / "b.tif", seed=9)
    foreign = (result / "b.tif").read_bytes()

    report = colorizer.colorize_folder(source, result, extension=".tif")

    assert len(report.with_status("done")) == 5
    results = [outcome.result for outcome in report]
    assert len({str(path).casefold() for path in results}) == 5
    assert (result / "b.tif").read_bytes() == foreign
    for outcome in report:
        gray = read_gray(outcome.photo).gray
        assert np.abs(np.int16(read_gray(outcome.result).gray) - gray).max() <= 1
    again = colorizer.colorize_folder(source, result, extension=".tif")
    assert [outcome.result for outcome in again] == results
    assert len(again.with_status("skipped")) == 5


def test_two_folders_with_the_same_names_both_survive(colorizer, tmp_path):
    for seed, name in enumerate(("one", "two")):
        save(tmp_path / name / "a.png", seed=seed)
        colorizer.colorize_folder(tmp_path / name, tmp_path / "out")

    assert files(tmp_path / "out") == ["a (2).png", "a.png"]


def test_results_inside_the_source_are_not_colorized_again(colorizer, tmp_path):
    save(tmp_path / "a.png")

    for _ in range(2):
        report = colorizer.colorize_folder(tmp_path, tmp_path / "colorized")

    assert statuses(report) == {"a.png": "skipped"}


@pytest.mark.parametrize("destination", [".", "..", "../in"])
def test_a_destination_around_the_source_is_refused(colorizer, tmp_path, destination):
    save(tmp_path / "in/a.png")

    with pytest.raises(ValueError, match="contains the source"):
        colorizer.colorize_folder(tmp_path / "in", tmp_path / "in" / destination)

    assert files(tmp_path) == ["in/a.png"]


def test_wrong_arguments_are_refused_before_work_begins(colorizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        colorizer.colorize_folder(tmp_path / "nowhere", tmp_path / "out")
    save(tmp_path / "in/a.png")
    with pytest.raises(ValueError, match="extension"):
        colorizer.colorize_folder(tmp_path / "in", tmp_path / "out", extension="gif")
    with pytest.raises(ValueError, match="strength"):
        colorizer.colorize_folder(tmp_path / "in", tmp_path / "out", strength=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        colorizer.colorize_folder(tmp_path / "in", tmp_path / "file" / "out")
    assert files(tmp_path) == ["file", "in/a.png"]


def test_a_read_only_destination_is_named(colorizer, tmp_path):
    save(tmp_path / "in/a.png")
    if os.geteuid():
        destination = tmp_path / "out"
        destination.mkdir(mode=0o555)
    else:  # only there, even root may not write
        destination = Path("/proc/out")
    with pytest.raises(OSError, match="out"):
        colorizer.colorize_folder(tmp_path / "in", destination)


def test_bad_and_odd_files(colorizer, tmp_path):
    source, result = tmp_path / "in", tmp_path / "out"
    good = {
        "one.png": save(source / "one.png", 1, 1),
        "gray16.tif": save(source / "gray16.tif", 30, 40, dtype=np.uint16),
        "rgba.png": save(source / "rgba.png", 30, 40, 4),
        "бабушка и дед.jpg": save(source / "бабушка и дед.jpg", 30, 40),
        "cmyk.jpg": source / "cmyk.jpg",
        "wrongly_named.jpg": source / "wrongly_named.jpg",
    }
    Image.new("CMYK", (40, 30), (10, 60, 90, 20)).save(good["cmyk.jpg"])
    save(source / "wrongly_named.png").rename(good["wrongly_named.jpg"])
    (source / "empty.jpg").touch()
    (source / "text.jpg").write_text("This is no photo.")
    save(source / "truncated.jpg", 200, 300)
    whole = (source / "truncated.jpg").read_bytes()
    (source / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (20_000, 20_000)).save(source / "bomb.png")
    bad = ["empty.jpg", "text.jpg", "truncated.jpg", "bomb.png"]

    report = colorizer.colorize_folder(source, result)

    assert statuses(report) == dict.fromkeys(good, "done") | dict.fromkeys(
        bad, "failed"
    )
    assert files(result) == sorted(good)
    for outcome in report.with_status("failed"):
        assert outcome.photo.name in outcome.reason
        assert outcome.reason in str(report)
    assert read_gray(result / "gray16.tif").gray.dtype == np.uint16
    assert read_gray(result / "rgba.png").alpha is not None


def test_a_full_disk_leaves_nothing_half_written(colorizer, tmp_path, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    source, result = tmp_path / "in", tmp_path / "out"
    result.mkdir()
    for name in ("a.jpg", "b.png", "c.tif", "d.png"):
        save(source / name, dtype=np.uint16 if name in "c.tif" else np.uint8)
        if name != "d.png":
            (result / f".partial.{name}").symlink_to("/dev/full")

    report = colorizer.colorize_folder(source, result)

    assert list(statuses(report).values()) == ["failed"] * 3 + ["done"]
    assert all("cannot be written" in o.reason for o in report.with_status("failed"))
    assert files(result) == ["d.png"]
    assert not colorizer.colorize_folder(source, result).with_status("failed")


def test_a_hundred_megapixels(colorizer, tmp_path):
    large = np.zeros((10_000, 10_000), np.uint8)
    large[::2], large[:, :5000] = 90, 200
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/large.png"), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])

    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert statuses(report) == {"large.png": "done"}
    rgb = cv2.imread(str(tmp_path / "out/large.png"))
    back = cv2.cvtColor(rgb, cv2.COLOR_BGR2GRAY)
    assert cv2.norm(back, large, cv2.NORM_INF) <= 1


def test_batches_are_bounded_and_of_one_shape(colorizer, monkeypatch):
    monkeypatch.setattr(folder_module, "NETWORK_PIXELS", 4 * 32 * 32)
    monkeypatch.setattr(folder_module, "PHOTO_PIXELS", 3000)
    sizes = [(32, 32)] * 3 + [(30, 30), (10, 60), (5000, 5000)] + [(20, 20)] * 6
    works = [folder_module.Work(0, Path(), Path(), size=size) for size in sizes]

    monkeypatch.setattr(folder_module.Work, "measure", lambda work: None)
    batches = list(folder_module._make_batches(colorizer, works))

    assert sorted(work.size for batch in batches for work in batch) == sorted(sizes)
    for batch in batches:
        pixels = [height * width for height, width in (work.size for work in batch)]
        assert len(batch) == 1 or sum(pixels) <= 3000
        assert len(batch) <= 4
        shapes = {colorizer.network_shape(*colorizer.working_shape(*work.size))
                  for work in batch}  # fmt: skip
        assert len(shapes) == 1


def test_no_more_is_looked_at_than_is_needed(colorizer, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "NETWORK_PIXELS", 4 * 32 * 32)
    photo = save(tmp_path / "a.png", 32, 32)
    asked = 0

    def works():
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield folder_module.Work(number, photo, tmp_path / f"{number}.bmp")

    finished = folder_module.colorize_works(colorizer, works(), 1)
    for count in range(1, 101):
        assert not next(finished).reason
        assert asked <= count + 4 * (folder_module.THREADS + 2)
    finished.close()


def test_photos_of_many_shapes_wait_for_their_like(colorizer, monkeypatch):
    monkeypatch.setattr(folder_module.Work, "measure", lambda work: None)
    sizes = [(32, 32 + 8 * (number % 100)) for number in range(10_000)]
    works = (folder_module.Work(0, Path(), Path(), size=size) for size in sizes)

    batches = list(folder_module._make_batches(colorizer, works))

    assert sum(map(len, batches)) == len(sizes)
    assert len(batches) < len(sizes) / 20


def test_a_result_does_not_depend_on_the_photos_beside_it(tmp_path):
    colorizer = Colorizer.pretrained()
    for number in range(7):
        save(tmp_path / f"in/{number}.png", 150, 150, seed=number)
        save(tmp_path / f"{number}/{number}.png", 150, 150, seed=number)
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    for number in range(7):
        colorizer.colorize_folder(tmp_path / f"{number}", tmp_path / "alone")
    for name in files(tmp_path / "out"):
        together = (tmp_path / "out" / name).read_bytes()
        assert together == (tmp_path / "alone" / name).read_bytes()


def test_a_result_that_was_retouched_stays(colorizer, tmp_path):
    save(tmp_path / "in/a.png")
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    save(tmp_path / "out/a.png", 5, 5)

    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert statuses(report) == {"a.png": "skipped"}
    assert read_gray(tmp_path / "out/a.png").gray.shape == (5, 5)


def test_another_photo_of_the_same_size_and_time_is_another_photo(colorizer, tmp_path):
    for number, folder in enumerate(("one", "two")):
        save(tmp_path / folder / "a.bmp", seed=number)
        os.utime(tmp_path / folder / "a.bmp", (1e9, 1e9))
        report = colorizer.colorize_folder(tmp_path / folder, tmp_path / "out")
        assert statuses(report) == {"a.bmp": "done"}
    assert files(tmp_path / "out") == ["a (2).bmp", "a.bmp"]


def test_whatever_a_photo_does_the_others_are_done(colorizer, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name)

    def read(path):
        if path.name == "b.png":
            raise cv2.error("no memory")
        if path.name == "a.png":
            (tmp_path / "in/a.png").unlink()
        return read_gray(path)

    monkeypatch.setattr(folder_module, "read_gray", read)
    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    assert statuses(report) == {"a.png": "failed", "b.png": "failed", "c.png": "done"}
    assert "no memory" in str(report)


def test_a_photo_that_is_done_is_not_kept_in_memory(colorizer, tmp_path, monkeypatch):
    photos, most = [], 0

    def read(path):
        nonlocal most
        photo = read_gray(path)
        photos.append(weakref.ref(photo))
        most = max(most, sum(alive() is not None for alive in photos))
        return photo

    monkeypatch.setattr(folder_module, "read_gray", read)
    monkeypatch.setattr(folder_module, "PHOTO_PIXELS", 1000)
    for number in range(20):
        save(tmp_path / f"in/{number}.png")
    (tmp_path / "in/broken.png").touch()

    assert len(colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")) == 21
    assert len(photos) == 21 - 1
    assert most <= folder_module.THREADS


def test_half_a_line_in_the_record_does_no_harm(colorizer, tmp_path):
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/b.png")
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    record = tmp_path / "out" / folder_module.RECORD
    record.write_text(record.read_text()[:-20])

    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert sorted(statuses(report).values()) == ["done", "skipped"]
    assert files(tmp_path / "out") == ["a.png", "b.png"]


def test_a_result_that_a_power_cut_emptied_is_done_again(colorizer, tmp_path):
    save(tmp_path / "in/a.png")
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out/a.png").write_bytes(b"")

    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert statuses(report) == {"a.png": "done"}
    assert read_gray(tmp_path / "out/a.png").gray.shape == (20, 30)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_run_again(tmp_path, kill):
    source, result = tmp_path / "in", tmp_path / "out"
    command = [sys.executable, "-m", "colorizer_tf", "colorize", source, result]
    for number in range(200):
        save(source / f"{number:03}.png", 250, 251 + number % 40, seed=number)
    run = subprocess.Popen(
        [*command, "--working-size", "32"], stderr=subprocess.DEVNULL
    )
    while len(list(result.glob("[0-9]*.png"))) < 20 and run.poll() is None:
        time.sleep(0.005)
    run.send_signal(kill)
    assert run.wait() != 0
    finished = {path: path.stat().st_mtime_ns for path in result.glob("[0-9]*.png")}
    assert 20 <= len(finished) < 200
    for path in finished:
        assert read_gray(path).gray.shape[0] == 250
    if kill == signal.SIGINT:
        assert len(files(result)) == len(finished)

    Colorizer.pretrained(working_size=32).colorize_folder(source, result)

    assert files(result) == sorted(path.name for path in source.iterdir())
    for path in result.glob("*.png"):
        assert read_gray(path).gray.shape[0] == 250
    redone = [path for path in finished if path.stat().st_mtime_ns != finished[path]]
    assert len(redone) <= folder_module.THREADS  # written, but not yet noted


def test_what_a_run_on_ray_noted_until_just_now_counts(colorizer, tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    record = tmp_path / "out" / folder_module.RECORD
    parts = tmp_path / "out" / PARTS
    parts.mkdir()
    (parts / "0.jsonl").write_text(record.read_text())
    (parts / "scratch").mkdir()
    save(parts / "scratch/1.png")

    record.unlink()
    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert report.count("skipped") == 2
    assert not parts.exists()


def test_a_last_writer_that_notes_after_the_account_was_read(
    colorizer, tmp_path, monkeypatch
):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")
    record = tmp_path / "out" / folder_module.RECORD
    part = tmp_path / "out" / PARTS / "0.jsonl"
    noted = record.read_text()
    record.unlink()
    find = folder_module.Account.claim

    def claim(account, *args):
        part.parent.mkdir(exist_ok=True)
        part.write_text(noted)
        return find(account, *args)

    monkeypatch.setattr(folder_module.Account, "claim", claim)
    report = colorizer.colorize_folder(tmp_path / "in", tmp_path / "out")

    assert report.count("skipped") == 2
