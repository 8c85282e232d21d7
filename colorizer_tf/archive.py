"""An archive colorized: folders and buckets of any number of photos, on Ray Data."""

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
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from colorizer_tf.account import (
    HINTS,
    PARTS,
    SCRATCH,
    Account,
    Claim,
    Folder,
    choose_hints,
    make_entry,
    make_line,
)
from colorizer_tf.folder import Progress, Work, colorize_works, describe, list_photos
from colorizer_tf.photos import is_photo_name, name_order, no_photos

try:
    import fsspec
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

# A worker has so many processors, or all of the smallest machine.
WORKER_CPUS = 4
# It has so many chunks under way: while one is fetched or put, another is at the
# network. Each goes through `colorize_works` with so many threads.
CHUNKS_AT_WORK = 2
THREADS = 2
# A chunk holds so many photos, and so many bytes, at most.
CHUNK_PHOTOS = 64
CHUNK_BYTES = 2**28
# Photos during which their worker has died are taken up again one by one, each of
# them so often.
TRIES = 2
# So many files at a time are fetched from a bucket, or put into it.
TRANSFERS = 16
# Where a file is there as a whole or not at all. Elsewhere it gets its name last.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}


class Bucket:
    """Photos, or results, at an address that fsspec knows.

    It does what `account.Folder` does.

    Args:
        address: such as "s3://bucket/scans". Credentials are those of the machine.

    Raises:
        ValueError: there is no such kind of address, or its package is missing.
        OSError: nothing answers there.
    """

    def __init__(self, address):
        self._address = address.rstrip("/")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self._address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{address} cannot be opened: {error}") from error
        except Exception as error:  # every kind of address has errors of its own
            raise self._unreachable(error) from error
        self.root = self.root.rstrip("/")
        self._listing = None

    def __str__(self):
        return self._address

    def locate(self, name):
        return f"{self}/{name}"

    address = locate

    def find_inside(self, other):
        if not f"{other}/".startswith(f"{self}/"):
            return None
        return str(other)[len(self._address) + 1 :] or "."

    def find(self):
        names = [name for name in self._list() if is_photo_name(name)]
        if not names:
            if not self._list() and not self.files.exists(self.root):
                raise FileNotFoundError(f"There is no {self}.")
            raise no_photos(self)
        return sorted(names, key=name_order)

    def state(self, name):
        return self._list()[name]

    def find_hints(self, photo):
        return choose_hints(photo, self._list().__contains__, self._list().__contains__)

    def size(self, name):
        size, _ = self._list().get(name, (None, None))
        return size

    def has_address(self, address):
        return address.startswith(f"{self}/") and (
            address.removeprefix(f"{self}/") in self._list()
        )

    def read(self, names):
        paths = [self._path(name) for name in names]
        for start in range(0, len(paths), 256):
            some = self.files.cat(paths[start : start + 256], on_error="return")
            for content in some.values():
                if isinstance(content, bytes):
                    yield content
                elif not isinstance(content, FileNotFoundError):
                    raise self._unreachable(content) from content

    def write(self, name, content):
        self._place(name, lambda path: self.files.pipe_file(path, content))

    def parts(self):
        # A result that is listed now has been noted before.
        self._list()
        self.files.invalidate_cache()
        start = len(self.root) + 1
        with contextlib.suppress(FileNotFoundError):
            paths = self.files.find(self._path(PARTS))
            return sorted(path[start:] for path in paths if path.endswith(".jsonl"))
        return []

    def remove(self, parts):
        with contextlib.suppress(FileNotFoundError):
            self.files.rm([self._path(name) for name in parts])

    def fetch(self, name, path):
        """Brings a file here."""
        self.files.get_file(self._path(name), str(path))

    def put(self, path, name):
        """Brings a file there, as a whole or not at all."""
        self._place(name, lambda there: self.files.put_file(str(path), there))

    def _place(self, name, step):
        path = self._path(name)
        protocols = self.files.protocol
        if OBJECT_STORES.intersection(
            [protocols] if isinstance(protocols, str) else protocols
        ):
            step(path)
            return
        folder, _, last = path.rpartition("/")
        self.files.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.partial.{uuid.uuid4().hex}.{last}"
        try:
            step(temporary)
            self.files.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.files.rm_file(temporary)
            raise

    def _path(self, name):
        return f"{self.root}/{name}"

    def _list(self):
        """All files: name -> (bytes, what tells a file from one that has changed)."""
        if self._listing is None:
            self.files.invalidate_cache()
            try:
                found = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                found = {}
            except Exception as error:
                raise self._unreachable(error) from error
            start = len(self.root) + 1
            self._listing = {
                path[start:]: (facts["size"], _find_stamp(facts))
                for path, facts in found.items()
                if len(path) > start
            }
        return self._listing

    def _unreachable(self, error):
        reason = str(error) or type(error).__name__
        return OSError(f"{self} cannot be reached: {reason}")


def _find_stamp(facts):
    """What a file system says that changes with a file's content."""
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if facts.get(key):
            return str(facts[key])
    return ""


def is_address(place):
    """Whether this is an address such as s3://bucket/scans, and no path."""
    return "://" in str(place)


def _open_place(place):
    """Returns a `Folder` for a path, and a `Bucket` for an address."""
    if is_address(place) and not str(place).startswith("file://"):
        return Bucket(str(place))
    return Folder(str(place).removeprefix("file://"))


def colorize_archive(
    colorizer, source, destination, strength=1.0, extension=None, address=None
):
    """Colorizes all photos below a folder or in a bucket, on many machines.

    The results, their names, the account and the report are those of
    `folder.colorize_folder`; either goes on where the other has stopped. Each
    machine needs this package, and finds source and destination under the same
    names.

    Args:
        colorizer: a `Colorizer`.
        source: a folder, or an address that fsspec knows, such as
            "s3://bucket/scans"; nothing in it is touched.
        destination: likewise, for the results.
        strength: scales the colour; 0 gives gray photos.
        extension: the format of the results, such as ".jpg"; by default each
            has the format of its photo.
        address: of a Ray cluster, as `ray.init` takes it. By default, Ray is
            started on this machine, and ended again; one that the program has
            started is taken as it is.

    Returns:
        A `folder.Report`. What could not be read or written is in it with the
        reason, and so is a photo that has killed its worker again and again.

    Raises:
        FileNotFoundError: there is no such source, or no photo in it.
        OSError: source, destination or cluster cannot be reached, or not by all
            machines.
        ValueError: the destination is the source, or contains it; there is no
            such format, or no such kind of address.
    """
    source, destination = _open_place(source), _open_place(destination)
    names = list_photos(source, destination, strength, extension)
    if isinstance(destination, Folder):
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
                colorizer.frozen,
            )
            if isinstance(destination, Folder):
                (destination.path / SCRATCH).mkdir(parents=True, exist_ok=True)
            progress.announce("starting Ray")
            try:
                with _ray_session(address):
                    for number, reason in _run(job, _save(colorizer), chunks):
                        progress.finish(number, reason)
            finally:
                account.merge()
    return progress.report


@dataclass
class _Job:
    """What a worker has to know; the photos come in chunks."""

    source: str
    destination: str
    settings: str
    strength: float
    working_size: int
    frozen: bool
    cpus: int = 1


def _save(colorizer):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.keras"
        colorizer.generator.save(path)
        return path.read_bytes()


def _make_chunks(todo, count):
    """Cuts the photos to be done into tables, one for each call of a worker."""
    # Of a few photos, every worker gets some.
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
    """Ray, quiet: one that runs already, a cluster's, or this machine's for a while."""
    if ray.is_initialized():
        yield
        return
    # Nothing is told to anybody outside, unless somebody wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What goes wrong comes as an exception as well.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    over = threading.Event()
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_end = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    if address in (None, "local"):
        # Only names go through Ray's own memory.
        options = {"include_dashboard": False, "object_store_memory": 2**28}
        try:
            _start_ray("local", **options)
        except OSError:  # on a busy machine, Ray's patience may be too short once
            _start_ray("local", **options)
    else:
        _knock(address)
        _start_ray(address)
    try:
        gcs = ray.get_runtime_context().gcs_address
        threading.Thread(target=_watch, args=(gcs, over), daemon=True).start()
        if on_end is not None:  # which Ray has taken for itself
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
    except Exception as error:  # Ray has several for a cluster that does not answer
        ray.shutdown()
        where, hint = "on this machine", ""
        if address != "local":
            where, hint = f"at {address}", " (if it wants a token: RAY_AUTH_MODE=token)"
        raise OSError(f"Ray cannot be reached {where}: {error}{hint}") from error


def _knock(address):
    """Looks whether anybody is there: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=30).close()
        except OSError as error:
            raise OSError(f"Ray cannot be reached at {address}: {error}") from error


def _watch(address, over, seconds=5):
    """Says when Ray has ended: it would end this process as well, without a word."""
    while not over.wait(seconds):
        try:
            _knock(address)
        except OSError:
            tqdm.write(
                f"Ray at {address} does not answer any more, and this run ends with "
                "it. The same command goes on from here.",
                file=sys.stderr,
            )
            return


@contextlib.contextmanager
def _mute_stderr():
    """Lets nothing through, not even what is no Python, such as Ray's core."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _run(job, generator, chunks):
    """Yields the number of each photo that is through, and why it failed."""
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
        # The last line is the worker's own, after its traceback.
        reason = str(error).strip().rpartition("\n")[2]
        raise OSError(f"A worker cannot go on: {reason}") from error


class _Worker:
    """Colorizes chunks of photos, in a process that may be killed at any moment.

    Ray starts it again then, and hands it the same chunk. The part of the account
    that belongs to the chunk tells what is done already; the rest is done one by
    one, so that a photo that kills is found out.
    """

    def __init__(self, job, generator):
        # Colorizer starts TensorFlow, whose threads are counted before that.
        import cv2
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(job.cpus)
        tf.config.threading.set_inter_op_parallelism_threads(job.cpus)
        cv2.setNumThreads(job.cpus)
        from colorizer_tf.colorizer import Colorizer

        self.job = job
        self.source = _open_place(job.source)
        self.destination = _open_place(job.destination)
        for place, name in ((self.source, ""), (self.destination, SCRATCH)):
            if isinstance(place, Folder) and not (place.path / name).is_dir():
                raise FileNotFoundError(
                    f"The machine {socket.gethostname()} does not find {place}: "
                    "photos and results must lie where all machines find them, "
                    "under the same name."
                )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "generator.keras"
            path.write_bytes(ray.get(generator))
            self.colorizer = Colorizer.load(path, working_size=job.working_size)
        if job.frozen:
            self.colorizer.freeze()
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
        return _Notes(self.destination, part, entries)

    def _make_work(self, row, folder):
        claim = Claim(
            row["photo"],
            row["result"],
            tuple(json.loads(row["state"])),
            row["hints"] or None,
        )
        photo = folder / f"photo_{row['number']}{Path(claim.photo).suffix}"
        hints = folder / f"photo_{row['number']}{HINTS}"
        if isinstance(self.source, Folder):
            photo = self.source.path / claim.photo
            hints = self.source.path / (claim.hints or "")
        result = folder / f"{row['number']}{Path(claim.result).suffix}"
        return Work(row["number"], photo, result, claim, hints if claim.hints else None)

    def _colorize_one_by_one(self, works, notes):
        for work in works:
            if notes.begin(work):
                self._colorize([work])
                notes.finish([work])

    def _colorize(self, works):
        with ThreadPoolExecutor(TRANSFERS) as pool:
            if isinstance(self.source, Bucket):
                list(pool.map(lambda work: work.attempt(self._fetch, work), works))
            for _ in colorize_works(self.colorizer, works, self.job.strength, THREADS):
                pass
            list(pool.map(lambda work: work.attempt(self._put, work), works))

    def _fetch(self, work):
        self.source.fetch(work.claim.photo, work.photo)
        if work.hints:
            self.source.fetch(work.claim.hints, work.hints)

    def _put(self, work):
        if isinstance(self.destination, Bucket):
            self.destination.put(work.result, work.claim.result)
        else:
            path = self.destination.path / work.claim.result
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(work.result, path)

    def _reason(self, work):
        """Why a photo failed, in the names that people know."""
        photo = self.source.locate(work.claim.photo)
        result = self.destination.locate(work.claim.result)
        reason = work.reason.replace(str(work.photo), str(photo))
        if work.hints:
            hints = self.source.locate(work.claim.hints)
            reason = reason.replace(str(work.hints), str(hints))
        return reason.replace(str(work.result), str(result))

    def _scratch(self):
        """A folder for a while; beside the results, where these can be renamed."""
        if isinstance(self.destination, Folder):
            return tempfile.TemporaryDirectory(dir=self.destination.path / SCRATCH)
        return tempfile.TemporaryDirectory(prefix="colorizer_tf-")

    @contextlib.contextmanager
    def _room(self, places):
        """Waits for one of the places for chunks, or for all of them."""
        with self._door:
            for _ in range(places):
                self._places.acquire()
        try:
            yield
        finally:
            self._places.release(places)


class _Notes:
    """What is known of a chunk's photos, in its own part of the account.

    Attributes:
        seen: whether the chunk was begun before, by a worker that has died.
    """

    def __init__(self, place, part, entries):
        self._place = place
        self._part = part
        self._entries = entries  # of each photo's number
        self._finished = set()
        self._tries = dict.fromkeys(entries, 0)
        self.seen = False
        numbers = {result: number for number, (result, _) in entries.items()}
        for content in place.read([part]):
            self.seen = True
            for note in map(json.loads, content.splitlines()):
                number = numbers[note["result"]]
                self._tries[number] = note["tries"]
                if note["finished"]:
                    self._finished.add(number)

    def begin(self, work):
        """Notes that a photo is taken up alone; returns whether it has to be."""
        if work.number in self._finished:
            return False
        if self._tries[work.number] == TRIES:
            work.reason = (
                f"{work.photo} cannot be colorized: the process that tried was "
                f"killed, {TRIES} times. Is it too large for the memory?"
            )
            return False
        self._tries[work.number] += 1
        self.save()
        return True

    def finish(self, works):
        """Takes in which photos are done."""
        self._finished.update(work.number for work in works if not work.reason)

    def save(self, unfinished=True):
        """Writes the part, with those that are unfinished or without them."""
        lines = [
            make_line(result, (*facts, number in self._finished), self._tries[number])
            for number, (result, facts) in self._entries.items()
            if unfinished or number in self._finished
        ]
        self._place.write(self._part, "".join(lines).encode())
