"""Measures archives: with and without Ray, a million names, and long folders.

- rate: 2,000 photos of 150x150, colored as a folder and with `--ray` on this machine:
  both rates, and whether the results are equal. The start of Ray is the time of a
  single photo; the rate leaves it out.
- folder: rate, time to the first result, and peak memory, for 1,000, 10,000 and
  100,000 photos of 32x32.
- names: seconds and memory for a million photos that are all done: listing them,
  loading the account, subtracting.

    python benchmarks/archive.py rate folder names
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import colorizer_tf as ct
import numpy as np
from PIL import Image
from colorize import make_small_photos, peak_gigabytes
from colorizer_tf import folder as folder_module
from colorizer_tf.account import RECORD, Account
from colorizer_tf.folder import list_photos
from colorizer_tf.places import Folder
from colorizer_tf.report import Progress

FOLDERS = (1_000, 10_000, 100_000)
IN_A_FOLDER = 1000


def in_a_process(measure, *args):
    """Measures in a new process, because a process does not return all its memory."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measure, *args).result()


def load():
    colorizer = ct.Colorizer.pretrained()
    return colorizer


def seconds(step, *args):
    start = time.perf_counter()
    report = step(*args)
    assert not report.count("failed"), report
    return time.perf_counter() - start


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")
    }


def folder_rate(source, results, repeats):
    colorizer, count = load(), len(ct.find_photos(source))
    colorizer.colorize(np.zeros((150, 150), np.uint8))
    return max(
        count / seconds(colorizer.colorize_folder, source, results / str(number))
        for number in range(repeats)
    )


def measure_rate(folder, count, repeats):
    make_small_photos(ct.sample_split().train, folder / "small", count)
    (folder / "one").mkdir()
    os.link(folder / "small/0000.jpg", folder / "one/0000.jpg")
    alone = in_a_process(folder_rate, folder / "small", folder / "folder", repeats)
    colorizer, starts, rates = load(), [], []
    for number in range(repeats):
        one, all_of_them = folder / f"one_{number}", folder / f"ray_{number}"
        starts.append(seconds(ct.colorize_archive, colorizer, folder / "one", one))
        whole = seconds(ct.colorize_archive, colorizer, folder / "small", all_of_them)
        rates.append((count - 1) / (whole - starts[-1]))
        same = contents(folder / "folder/0") == contents(all_of_them)
        print(f"Ray started and one photo: {starts[-1]:.1f} s; {count} photos: "
              f"{whole:.1f} s, {rates[-1]:.1f} a second without the start; the same "
              f"bytes as the folder: {same}", flush=True)  # fmt: skip
    print(f"{count} photos of 150x150, the best of {repeats}: folder {alone:.1f} a "
          f"second, Ray {max(rates):.1f}, {max(rates) / alone:.0%}; Ray's start "
          f"{min(starts):.1f} s", flush=True)  # fmt: skip


def tiny_folder(source, result):
    colorizer, count = load(), len(ct.find_photos(source))
    colorizer.colorize(np.zeros((32, 32), np.uint8))
    first = []
    write = folder_module.write_photo

    def note(*args):
        write(*args)
        first.append(time.perf_counter()) if not first else None

    folder_module.write_photo = note
    start = time.perf_counter()
    rate = count / seconds(colorizer.colorize_folder, source, result)
    return rate, first[0] - start, peak_gigabytes()


def measure_folder(folder, counts):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    for count in counts:
        source = folder / f"tiny_{count}"
        for number in range(count):
            below = source / f"{number // IN_A_FOLDER:04}"
            if number % IN_A_FOLDER == 0:
                below.mkdir(parents=True)
                photo = below / f"{number:07}.jpg"
                Image.fromarray(pixels).save(photo)
            else:
                os.link(photo, below / f"{number:07}.jpg")
        rate, first, peak = in_a_process(tiny_folder, source, folder / f"out_{count}")
        print(f"{count:7} photos of 32x32: {rate:.0f} a second, the first after "
              f"{first:.2f} s, peak memory {peak:.2f} GB", flush=True)  # fmt: skip


def subtract(source, destination, count):
    source, destination = Folder(source), Folder(destination)
    before, start = peak_gigabytes(), time.perf_counter()
    names = list_photos(source, destination, 1, None)
    listed = time.perf_counter()
    account = Account(source, destination, "settings")
    loaded = time.perf_counter()
    with Progress(source, destination, names) as progress:
        todo = sum(1 for _ in progress.claim_all(account, None))
    subtracted = time.perf_counter()
    assert len(names) == count
    return (
        todo, listed - start, loaded - listed, subtracted - loaded,
        peak_gigabytes() - before,
    )  # fmt: skip


def write_account(source, destination):
    account = Account(source, destination, "settings")
    with open(destination.path / RECORD, "w", encoding="utf-8") as record:
        for name in source.find():
            record.write(account.line(account.claim(name), finished=True))


def measure_names(folder, count):
    for number in range(count):
        for place in ("names", "results"):
            below = folder / place / f"{number // IN_A_FOLDER:04}"
            if number % IN_A_FOLDER == 0:
                below.mkdir(parents=True)
            with open(below / f"scan_{number:07}.jpg", "wb") as file:
                file.write(b"x" if place == "results" else b"")
    source, results = Folder(folder / "names"), Folder(folder / "results")
    nothing = Folder(folder / "nothing")
    nothing.make()
    write_account(source, nothing)
    os.replace(nothing.path / RECORD, results.path / RECORD)
    todo, *times, memory = in_a_process(subtract, source.path, results.path, count)
    print("{} names: listed in {:.1f} s, account loaded in {:.1f} s, subtracted in "
          "{:.1f} s; {:.2f} GB, {} left to do"
          .format(count, *times, memory, todo), flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=("rate", "folder", "names"))
    parser.add_argument("--count", type=int, default=2000, help="of rate's photos")
    parser.add_argument("--repeats", type=int, default=3, help="of rate; best counts")
    parser.add_argument("--folders", type=int, nargs="+", default=FOLDERS)
    parser.add_argument("--names", type=int, default=1_000_000)
    args = parser.parse_args()

    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        if "rate" in args.what:
            measure_rate(Path(folder), args.count, args.repeats)
        if "folder" in args.what:
            measure_folder(Path(folder), args.folders)
        if "names" in args.what:
            measure_names(Path(folder), args.names)


if __name__ == "__main__":
    main()
