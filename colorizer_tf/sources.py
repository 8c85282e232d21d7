"""Where photos come from: a folder, the project's own set, an embedded sample."""

import hashlib
import http.client
import itertools
import shutil
import tempfile
import unicodedata
import urllib.error
import urllib.request
import warnings
import zipfile
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


def project_path(path, default):
    """Returns `path` as an absolute path, or `default` where `path` is empty.

    A path that is given is taken from the current folder, a default from the
    folder of the project, so that a notebook finds its files from anywhere. An
    address such as s3://bucket/scans is returned as it is.
    """
    if "://" in str(path):
        return path
    return Path(path).expanduser().absolute() if path else PROJECT / default


@dataclass
class Split:
    """Photos by side, and those that were left out and why; lists of paths.

    `source` says where `load_split` took them from: a folder, or "sample".
    """

    train: list[Path] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    test: list[Path] = field(default_factory=list)
    near_gray: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    source: str = ""

    @property
    def photos(self):
        """All of them, those that were left out too, sorted."""
        kept = self.train + self.validation + self.test
        return sorted(kept + self.near_gray + self.unreadable)

    def __str__(self):
        return (
            f"{len(self.photos)} photos: {len(self.train)} for training, "
            f"{len(self.validation)} for validation, {len(self.test)} for the test; "
            f"left out: {len(self.near_gray)} near-gray, "
            f"{len(self.unreadable)} unreadable"
        )


def split_photos(
    photos, test_fraction=0.1, validation_fraction=0.05, seed=0, keep_near_gray=False
):
    """Divides photos into a training, a validation and a test side.

    A hash of `seed` and the photo's file name decides, so a photo keeps its
    side whatever the order of the folder, and when others are added. Photos
    that cannot be read, and near-gray ones (mean CIE chroma below 4: there is
    no color in them to learn or to compare with), are left out; what was left
    out is printed.

    Args:
        photos: paths, as from `find_photos`.
        test_fraction, validation_fraction: the expected shares of these sides.
        seed: another seed gives another division.
        keep_near_gray: True keeps the near-gray ones.

    Returns:
        A `Split`.
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


def hash_position(path, seed=0):
    """Returns where `split_photos` puts a photo, by its name alone: in [0, 1)."""
    # macOS hands out decomposed names; the same photo must hash alike elsewhere.
    name = unicodedata.normalize("NFC", Path(path).name)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def load_split(photos="", seed=0):
    """Finds photos and divides them; prints which they are and how many.

    Args:
        photos: a folder of photos, or "sample" for the embedded sample. Empty
            means the project's own set in data/photos where it was downloaded
            (see `download_photos`), else the sample.
        seed: the seed of `split_photos`; the sample has fixed sides.

    Returns:
        A `Split`.

    Raises:
        FileNotFoundError: the folder is not there, or has no photos.
        ValueError: it has too few photos to divide.
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
            f"{folder} has too few photos for three sides: {split}. Add photos, or "
            "try another seed."
        )
    return split


def sample_split(folder=None):
    """Writes the embedded sample to a folder and returns it as a `Split`.

    The photographs that scikit-image carries inside its package, cut into
    overlapping tiles of 150x150. Each photograph lies on one side as a whole.

    Args:
        folder: where the tiles go; data/sample of the project by default.
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


def gray_sample(folder=None):
    """Writes the sample's photographs, whole and turned gray, to a folder.

    Args:
        folder: data/sample_gray of the project by default.

    Returns:
        The folder.
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
    folder=None, url=ARCHIVE_URL, count=PHOTO_COUNT, digest=PHOTO_DIGEST
):
    """Downloads the project's own photos, checks them, and returns their folder.

    They come from the repository of the student project that this one grew out
    of. Either all of them end up in the folder or none. Where the folder is
    there already, nothing is downloaded.

    Args:
        folder: where they go; data/photos of the project by default.
        url: a zip archive of that repository.
        count: how many photos it must hold.
        digest: what `photos_digest` must say of them.

    Raises:
        ConnectionError: the archive cannot be fetched; the message says what to
            do instead.
        ValueError: the archive holds other photos than it should.
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
                error.close()  # it is the server's answer
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


def photos_digest(folder):
    """Returns a SHA-256 over the names and contents of the files in a folder."""
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
                # The archive's own top folder comes before ARCHIVE_FOLDER.
                in_folder = str(PurePosixPath(*path.parts[1:-1])) == ARCHIVE_FOLDER
                if in_folder and not member.is_dir():
                    (folder / path.name).write_bytes(contents.read(member))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{url} is no zip archive: {error}.") from error


class _whole_folder:
    """A new folder that takes its name only when all in it went well."""

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
            self.unfinished.chmod(0o755)  # mkdtemp's is for its owner alone
            try:
                self.unfinished.rename(self.folder)
            except OSError:
                # Another worker may have been faster: it has written the same.
                shutil.rmtree(self.unfinished)
                if not self.folder.is_dir():
                    raise
        else:
            shutil.rmtree(self.unfinished)
