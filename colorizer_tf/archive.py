"""Colorizes an archive: folders or buckets of any number of photos, on Ray Data."""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from colorizer_tf.account import Account, Claim, Notes, make_entry
from colorizer_tf.colorizer import Colorizer
from colorizer_tf.folder import Work, colorize_works, describe, list_photos
from colorizer_tf.places import HINTS, PARTS, SCRATCH, open_place
from colorizer_tf.report import Progress, Report

try:
    import fsspec  # noqa: F401
    import pyarrow
    import ray
    import ray.data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"An archive needs {error.name}, which is not installed: "
        'pip install "colorizer_tf[ray]", or pip install -e ".[ray]" in the '
        "project's folder.",
        name=error.name,
    ) from error

# Processors of a worker; fewer if the smallest machine has fewer.
WORKER_CPUS = 4
# Chunks that a worker handles at the same time: while one is transferred, another uses
# the network. Each passes through `colorize_works` with `THREADS` threads.
CHUNKS_AT_WORK = 2
THREADS = 2
# The most photos and bytes in a chunk.
CHUNK_PHOTOS = 64
CHUNK_BYTES = 2**28
# Files that are fetched from a bucket, or put into it, at the same time.
TRANSFERS = 16


def colorize_archive(
    colorizer: Colorizer,
    source: str | os.PathLike,
    destination: str | os.PathLike,
    strength: float = 1.0,
    extension: str | None = None,
    address: str | None = None,
) -> Report:
    """Colorizes all photos below a folder or in a bucket, on many machines.

    Results, names, account and report are those of `folder.colorize_folder`; each
    function continues an interrupted run of the other. Each machine needs this
    package, and finds source and destination under the same names.

    Args:
        colorizer: a `Colorizer`.
        source: a folder, or an address that fsspec opens, such as
            "s3://bucket/scans"; its photos are not changed.
        destination: a folder or an address for the results.
        strength: factor of the predicted color, not of the hints; 0 or more.
        extension: the format of the results, such as ".jpg"; by default each
            result has the format of its photo.
        address: of a Ray cluster, as `ray.init` takes it. By default, the function
            starts Ray on this machine and stops it at the end. If Ray runs in this
            process already, the function uses it and leaves it running.

    Returns:
        A `Report`. It names each photo that failed, with the reason; a photo whose
        worker was killed repeatedly has failed too.

    Raises:
        FileNotFoundError: the source does not exist, or holds no photo.
        OSError: a machine cannot reach source or destination, or Ray cannot be
            reached.
        ValueError: the destination is or contains the source, or `extension`,
            `strength` or the kind of an address is invalid.

    Example:

    ```python
    report = ct.colorize_archive(colorizer, "s3://bucket/scans", "s3://bucket/colors")
    print(report)
    ```
    """
    source, destination = open_place(source), open_place(destination)
    names = list_photos(source, destination, strength, extension)
    destination.make()
    settings = describe(colorizer, strength)
    account = Account(source, destination, settings)
    with Progress(source, destination, names) as progress:
        todo = progress.claim_all(account, extension)
        chunks = list(_make_chunks(todo, len(names)))
        if chunks:
            job = _Job(
                str(source),
                str(destination),
                settings,
                float(strength),
                colorizer.working_size,
            )
            destination.make_scratch()
            progress.announce("starting Ray")
            try:
                with _ray_session(address):
                    for number, reason in _run(job, colorizer.network.dump(), chunks):
                        progress.finish(number, reason)
            finally:
                account.merge()
    return progress.report


@dataclass
class _Job:
    """The settings of a worker."""

    source: str
    destination: str
    settings: str
    strength: float
    working_size: int
    cpus: int = 1


def _make_chunks(todo, count):
    """Cuts the photos into tables, one for each call of a worker."""
    # Smaller chunks give each worker some of a few photos.
    most = min(CHUNK_PHOTOS, max(8, count // 16))
    run, made, rows, size = f"{time.time_ns():020}", 0, [], 0

    def make():
        columns = zip(*rows, strict=True)
        names = ("number", "photo", "result", "state", "hints")
        table = dict(zip(names, map(list, columns), strict=True))
        return pyarrow.table(table | {"part": [f"{run}-{made:07}"] * len(rows)})

    for number, claim in todo:
        photo_bytes = claim.state[0]
        if rows and (len(rows) == most or size + photo_bytes > CHUNK_BYTES):
            yield make()
            made, rows, size = made + 1, [], 0
        rows.append(
            (
                number,
                claim.photo,
                claim.result,
                json.dumps(claim.state),
                claim.hints or "",
            )
        )
        size += photo_bytes
    if rows:
        yield make()


@contextlib.contextmanager
def _ray_session(address):
    """Connects to a cluster, or starts Ray here; uses a running Ray as it is."""
    if ray.is_initialized():
        yield
        return
    # Ray sends usage statistics to its makers by default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Errors also arrive as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    over = threading.Event()
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_end = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    if address in (None, "local"):
        # Only names pass through Ray's object store.
        options = {"include_dashboard": False, "object_store_memory": 2**28}
        try:
            _start_ray("local", **options)
        except OSError:  # on a busy machine, the first start may time out
            _start_ray("local", **options)
    else:
        _knock(address)
        _start_ray(address)
    try:
        gcs = ray.get_runtime_context().gcs_address
        threading.Thread(target=_watch, args=(gcs, over), daemon=True).start()
        if on_end is not None:  # Ray has replaced the handler
            signal.signal(signal.SIGTERM, on_end)
        yield
    finally:
        over.set()
        ray.shutdown()


def _start_ray(address, **options):
    try:
        with _mute_stderr():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
    except Exception as error:  # Ray raises several for a cluster that does not answer
        ray.shutdown()
        where, hint = "on this machine", ""
        if address != "local":
            where, hint = f"at {address}", " (if it wants a token: RAY_AUTH_MODE=token)"
        raise OSError(f"Ray cannot be reached {where}: {error}{hint}") from error


def _knock(address):
    """Raises `OSError` if nothing answers at an address; Ray would wait for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=30).close()
        except OSError as error:
            raise OSError(f"Ray cannot be reached at {address}: {error}") from error


def _watch(address, over, seconds=5):
    """Prints a message when Ray has ended; its client kills this process silently."""
    while not over.wait(seconds):
        try:
            _knock(address)
        except OSError:
            tqdm.write(
                f"Ray at {address} does not answer any more, and this run ends with "
                "it. The same command continues from here.",
                file=sys.stderr,
            )
            return


@contextlib.contextmanager
def _mute_stderr():
    """Mutes the standard error, also for native code such as Ray's core."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _run(job, generator, chunks):
    """Yields the number of each finished photo, and the reason if it failed."""
    cpus = [
        int(node["Resources"]["CPU"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    ]
    job.cpus = min([WORKER_CPUS, *cpus])
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    photos = ray.data.from_arrow(chunks)
    photos.context.enable_progress_bars = False
    photos.context.print_on_execution_start = False
    results = photos.map_batches(
        _Worker,
        fn_constructor_args=(job, ray.put(generator)),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=job.cpus,
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=max(1, sum(count // job.cpus for count in cpus)),
            max_concurrent_calls_per_actor=CHUNKS_AT_WORK,
            enable_true_multi_threading=True,
        ),
    )
    try:
        for table in results.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from zip(
                table["number"].to_pylist(), table["reason"].to_pylist(), strict=True
            )
    except ray.exceptions.RayError as error:
        # The last line is the worker's own message, after its traceback.
        reason = str(error).strip().rpartition("\n")[2]
        raise OSError(f"A worker cannot go on: {reason}") from error


class _Worker:
    """Colorizes chunks of photos, in a process that may be killed at any moment.

    Ray then starts a new worker and hands it the same chunk. The chunk's part of the
    account says which photos are done. The worker colorizes the others one by one, to
    find the photo that kills it.
    """

    def __init__(self, job, generator):
        cv2.setNumThreads(job.cpus)
        self.job = job
        self.source = open_place(job.source)
        self.destination = open_place(job.destination)
        self.source.require()
        self.destination.require(SCRATCH)
        self._files = tempfile.TemporaryDirectory(prefix="colorizer_tf-")
        files = ray.get(generator)
        for name, content in files.items():
            (Path(self._files.name) / name).write_bytes(content)
        self.colorizer = Colorizer.load(
            Path(self._files.name) / max(files),  # .xml rather than .bin
            working_size=job.working_size,
            threads=job.cpus,
        )
        self._door = threading.Lock()
        self._places = threading.Semaphore(CHUNKS_AT_WORK)

    def __call__(self, table):
        with self._scratch() as folder:
            works = [self._make_work(row, Path(folder)) for row in table.to_pylist()]
            notes = self._open_notes(works, f"{PARTS}/{table['part'][0]}.jsonl")
            with self._room(CHUNKS_AT_WORK if notes.seen else 1):
                if notes.seen:
                    self._colorize_one_by_one(works, notes)
                else:
                    notes.save()
                    self._colorize(works)
                    notes.finish(works)
                notes.save(unfinished=False)
            return pyarrow.table(
                {
                    "number": [work.number for work in works],
                    "reason": [self._reason(work) for work in works],
                }
            )

    def _open_notes(self, works, part):
        entries = {}
        for work in works:
            result, facts = make_entry(
                self.source, work.claim, self.job.settings, finished=False
            )
            entries[work.number] = result, facts[:-1]
        return Notes(self.destination, part, entries)

    def _make_work(self, row, folder):
        claim = Claim(
            row["photo"],
            row["result"],
            tuple(json.loads(row["state"])),
            row["hints"] or None,
        )
        photo = folder / f"photo_{row['number']}{Path(claim.photo).suffix}"
        hints = folder / f"photo_{row['number']}{HINTS}"
        photo = self.source.local_path(claim.photo) or photo
        hints = self.source.local_path(claim.hints or "") or hints
        result = folder / f"{row['number']}{Path(claim.result).suffix}"
        return Work(row["number"], photo, result, claim, hints if claim.hints else None)

    def _colorize_one_by_one(self, works, notes):
        for work in works:
            if notes.begin(work):
                self._colorize([work])
                notes.finish([work])

    def _colorize(self, works):
        with ThreadPoolExecutor(TRANSFERS) as pool:
            if self.source.local_path("") is None:
                list(pool.map(lambda work: work.attempt(self._fetch, work), works))
            for _ in colorize_works(self.colorizer, works, self.job.strength, THREADS):
                pass
            list(pool.map(lambda work: work.attempt(self._put, work), works))

    def _fetch(self, work):
        self.source.fetch(work.claim.photo, work.photo)
        if work.hints:
            self.source.fetch(work.claim.hints, work.hints)

    def _put(self, work):
        self.destination.put(work.result, work.claim.result)

    def _reason(self, work):
        """Returns why a photo failed, with its own names instead of temporary ones."""
        photo = self.source.locate(work.claim.photo)
        result = self.destination.locate(work.claim.result)
        reason = work.reason.replace(str(work.photo), str(photo))
        if work.hints:
            hints = self.source.locate(work.claim.hints)
            reason = reason.replace(str(work.hints), str(hints))
        return reason.replace(str(work.result), str(result))

    def _scratch(self):
        """A temporary folder, from which `put` can rename results."""
        return tempfile.TemporaryDirectory(
            prefix="colorizer_tf-", dir=self.destination.scratch
        )

    @contextlib.contextmanager
    def _room(self, places):
        """Waits for a number of free places for chunks, and holds them."""
        with self._door:
            for _ in range(places):
                self._places.acquire()
        try:
            yield
        finally:
            self._places.release(places)
