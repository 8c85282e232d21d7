"""Gets photos from a folder, the project's own set or an embedded sample."""

import hashlib
import http.client
import itertools
import os
import shutil
import tempfile
import unicodedata
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import skimage.data
from PIL import Image
from tqdm import tqdm

from colorizer_tf.files import find_photos
from colorizer_tf.photos import to_gray
from colorizer_tf.survey import survey_photos

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
PROJECT = _PACKAGE_PARENT if (_PACKAGE_PARENT / "notebooks").is_dir() else Path.cwd()

ARCHIVE_URL = "https://github.com/asskicker54/colorizer/archive/refs/heads/main.zip"
ARCHIVE_FOLDER = "datasets/data"
PHOTO_COUNT = 2791
PHOTO_DIGEST = "dcda9826f429460050ff668dd6f2b8c0e9751394c3714abae2001f73a8fa8e40"

SAMPLE_TILE = 150
SAMPLE_SPLIT = {
    "train": ("astronaut", "coffee", "rocket"),
    "validation": ("motorcycle",),
    "test": ("cat",),
}


def project_path(path: str | os.PathLike, default: str | os.PathLike) -> Path | str:
    """Returns an absolute path, so that a notebook finds its files from any folder.

    Args:
        path: a path relative to the current folder, an address such as
            "s3://bucket/scans", or "".
        default: the path for "", relative to the project's folder.

    Returns:
        The absolute path; an address is returned unchanged.

    Example:

    ```python
    ct.project_path("", "data/photos")  # the project's data/photos
    ct.project_path("~/scans", "data/photos")  # /home/me/scans
    ```
    """
    if "://" in str(path):
        return str(path)
    return Path(path).expanduser().absolute() if path else PROJECT / default


@dataclass
class Split:
    """Photos divided into sides, as lists of paths.

    Attributes:
        train, validation, test: the sides.
        near_gray: photos left out because they have almost no color.
        unreadable: photos left out because they cannot be read.
        source: the folder of the photos, or "sample"; `load_split` sets it.

    Example:

    ```python
    split = ct.load_split("sample")
    print(len(split.train), len(split.test))
    ```
    """

    train: list[Path] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    test: list[Path] = field(default_factory=list)
    near_gray: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    source: str = ""

    @property
    def photos(self) -> list[Path]:
        """All photos, including those left out, sorted."""
        kept = self.train + self.validation + self.test
        return sorted(kept + self.near_gray + self.unreadable)

    def __str__(self) -> str:
        return (
            f"{len(self.photos)} photos: {len(self.train)} for training, "
            f"{len(self.validation)} for validation, {len(self.test)} for the test; "
            f"left out: {len(self.near_gray)} near-gray, "
            f"{len(self.unreadable)} unreadable"
        )


def split_photos(
    photos: Iterable[str | os.PathLike],
    test_fraction: float = 0.1,
    validation_fraction: float = 0.05,
    seed: int = 0,
    keep_near_gray: bool = False,
) -> Split:
    """Divides photos into a training, a validation and a test side.

    A hash of the seed and the file name decides. So a photo keeps its side in any
    order, and when other photos are added. The function leaves out unreadable photos,
    with a warning, and near-gray photos, whose mean CIE chroma is below 4. It prints
    the number of photos of each kind.

    Args:
        photos: paths of photos.
        test_fraction, validation_fraction: the expected shares of these sides.
        seed: another seed gives another division.
        keep_near_gray: whether near-gray photos take part.

    Example:

    ```python
    split = ct.split_photos(ct.find_photos("photos"), test_fraction=0.2)
    ```
    """
    split = Split()
    for facts in survey_photos(photos):
        if facts.error:
            warnings.warn(f"left out: {facts.error}", stacklevel=2)
            split.unreadable.append(facts.path)
        elif facts.near_gray and not keep_near_gray:
            split.near_gray.append(facts.path)
        else:
            position = hash_position(facts.path, seed)
            if position < test_fraction:
                split.test.append(facts.path)
            elif position < test_fraction + validation_fraction:
                split.validation.append(facts.path)
            else:
                split.train.append(facts.path)
    print(split)
    return split


def hash_position(path: str | os.PathLike, seed: int = 0) -> float:
    """Returns a hash of a photo's name in [0, 1), which decides about its side."""
    # macOS returns decomposed names; a photo must have the same hash elsewhere.
    name = unicodedata.normalize("NFC", Path(path).name)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def load_split(photos: str | os.PathLike = "", seed: int = 0) -> Split:
    """Finds photos, divides them, and prints their folder and number.

    Args:
        photos: a folder, or "sample" for the embedded sample. "" takes data/photos of
            the project if `download_photos` has made it, else the sample.
        seed: the seed of `split_photos`. The sample has fixed sides.

    Raises:
        FileNotFoundError: the folder does not exist, or has no photos.
        ValueError: the folder has too few photos for three sides.

    Example:

    ```python
    split = ct.load_split("photos")
    dataset = ct.make_dataset(split.train, training=True)
    ```
    """
    own_set = PROJECT / "data/photos"
    if not photos and not own_set.is_dir():
        print(f"The project's photos are not in {own_set}: taking the sample.")
        photos = "sample"
    if photos == "sample":
        return sample_split()
    folder = project_path(photos, own_set)
    print(f"Photos: {folder}")
    split = split_photos(find_photos(folder), seed=seed)
    split.source = str(folder)
    if not (split.train and split.validation and split.test):
        raise ValueError(
            f"{folder} has too few photos for three sides: {split}. Add color "
            "photos, or try another seed."
        )
    return split


def sample_split(folder: str | os.PathLike | None = None) -> Split:
    """Writes the embedded sample to a folder and divides it.

    The sample is five photographs from the package scikit-image, cut into overlapping
    tiles of 150x150 pixels. All tiles of a photograph are on one side. An existing
    folder is not written again.

    Args:
        folder: the folder of the tiles; data/sample of the project by default.

    Example:

    ```python
    split = ct.sample_split()
    ```
    """
    folder = Path(folder or PROJECT / "data/sample")
    if not folder.is_dir():
        with _whole_folder(folder) as unfinished:
            for side, names in SAMPLE_SPLIT.items():
                (unfinished / side).mkdir()
                for name in names:
                    _write_tiles(_sample_photo(name), unfinished / side / name)
    print(f"The sample of five photographs, cut into tiles: {folder}")
    sides = {side: find_photos(folder / side) for side in SAMPLE_SPLIT}
    split = Split(**sides, source="sample")
    print(split)
    return split


def gray_sample(folder: str | os.PathLike | None = None) -> Path:
    """Writes the photographs of the sample to a folder, gray and not cut.

    An existing folder is not written again.

    Args:
        folder: the folder; data/sample_gray of the project by default.

    Returns:
        The folder.

    Example:

    ```python
    ct.Colorizer.pretrained().colorize_folder(ct.gray_sample(), "colorized")
    ```
    """
    folder = Path(folder or PROJECT / "data/sample_gray")
    if not folder.is_dir():
        with _whole_folder(folder) as unfinished:
            for name in itertools.chain(*SAMPLE_SPLIT.values()):
                gray = Image.fromarray(to_gray(_sample_photo(name)))
                gray.save(unfinished / f"{name}.jpg", quality=95)
    return folder


def _sample_photo(name):
    if name == "motorcycle":
        return skimage.data.stereo_motorcycle()[0]
    return getattr(skimage.data, name)()


def _write_tiles(photo, path):
    height, width = photo.shape[:2]
    for top in range(0, height - SAMPLE_TILE + 1, SAMPLE_TILE // 2):
        for left in range(0, width - SAMPLE_TILE + 1, SAMPLE_TILE // 2):
            tile = photo[top : top + SAMPLE_TILE, left : left + SAMPLE_TILE]
            Image.fromarray(tile).save(f"{path}_{top:03}_{left:03}.png")


def download_photos(
    folder: str | os.PathLike | None = None,
    url: str = ARCHIVE_URL,
    count: int = PHOTO_COUNT,
    digest: str = PHOTO_DIGEST,
) -> Path:
    """Downloads the project's own photos, checks them, and returns their folder.

    They come from the original project, asskicker54/colorizer. The folder gets all
    of them or none. If it exists, nothing is downloaded.

    Args:
        folder: the folder of the photos; data/photos of the project by default.
        url: a zip archive of the original project.
        count: the expected number of photos.
        digest: the expected result of `photos_digest`.

    Raises:
        ConnectionError: the archive cannot be downloaded. The message says what to do
            instead.
        ValueError: the archive is broken, or holds other photos than expected.

    Example:

    ```python
    photos = ct.find_photos(ct.download_photos())
    ```
    """
    folder = Path(folder or PROJECT / "data/photos")
    if folder.is_dir():
        print(f"The photos are there already: {folder}")
        return folder
    with tempfile.TemporaryFile() as archive:
        try:
            _fetch(url, archive)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # an HTTPError is an open response
            raise ConnectionError(
                f"The photos cannot be downloaded from {url}: {error}.\n"
                f"Put photos into {folder} by hand ({ARCHIVE_FOLDER} of that "
                'archive, or photos of your own), or go on with photos="sample".'
            ) from error
        with _whole_folder(folder) as unfinished:
            _extract(archive, unfinished, url)
            found = len(list(unfinished.iterdir()))
            if found != count or photos_digest(unfinished) != digest:
                raise ValueError(
                    f"{url} does not hold the expected photos: it has {found} of "
                    f"{count}, or their names or contents have changed. Nothing "
                    'was kept. Go on with photos="sample", or with a folder of '
                    "your own."
                )
    print(f"{count} photos: {folder}")
    return folder


def photos_digest(folder: str | os.PathLike) -> str:
    """Returns the SHA-256 of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def _fetch(url, file):
    with urllib.request.urlopen(url, timeout=60) as response:
        length = int(response.headers.get("Content-Length") or 0)
        with tqdm(
            desc="downloading photos", total=length or None, unit="B", unit_scale=True
        ) as bar:
            while chunk := response.read(2**16):
                file.write(chunk)
                bar.update(len(chunk))
    if bar.n < length:
        raise OSError(f"the connection broke off after {bar.n} of {length} bytes")


def _extract(archive, folder, url):
    try:
        with zipfile.ZipFile(archive) as contents:
            for member in contents.infolist():
                path = PurePosixPath(member.filename)
                # In the archive, a top folder contains ARCHIVE_FOLDER.
                in_folder = str(PurePosixPath(*path.parts[1:-1])) == ARCHIVE_FOLDER
                if in_folder and not member.is_dir():
                    (folder / path.name).write_bytes(contents.read(member))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{url} is no zip archive: {error}.") from error


class _whole_folder:
    """Makes a new folder, which gets its name if no error occurs."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.unfinished = Path(
            tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent)
        )
        return self.unfinished

    def __exit__(self, error, *_):
        if error is None:
            self.unfinished.chmod(0o755)  # mkdtemp lets only the owner in
            try:
                self.unfinished.rename(self.folder)
            except OSError:
                # A faster worker may have written the same.
                shutil.rmtree(self.unfinished)
                if not self.folder.is_dir():
                    raise
        else:
            shutil.rmtree(self.unfinished)
