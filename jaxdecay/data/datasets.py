"""Public logs by name: where they are, under what terms, how to read them; downloaded once, or a local copy.

Nothing is downloaded before its terms have been shown and accepted. A download is checked against the
checksum that its source publishes; where the source publishes none, the first download is trusted, its
SHA-256 is kept beside it, and anything else is refused from then on.
"""

import hashlib
import http.client
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxdecay.data import public
from jaxdecay.data.archives import find_files
from jaxdecay.data.public import Files, PublicLog
from jaxdecay.errors import InputError

TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20


@dataclass(frozen=True)
class Dataset:
    """One public log."""

    name: str
    title: str
    """What it is, in a line."""
    address: str
    """Of the download."""
    md5: str | None
    """Of the download, as its source publishes it; None: the source publishes none."""
    megabytes: float | None
    """Size of the download, where known."""
    terms: str
    """The terms of use in short."""
    terms_page: str
    """Where the terms are in full."""
    files: tuple[str, ...]
    """Names of the files that are read, the events first."""
    read: Callable[[Files], PublicLog]


MOVIELENS_TERMS = (
    "Free for research; no commercial use without permission; passing it on is restricted; acknowledge it in "
    "publications (Harper and Konstan 2015, https://doi.org/10.1145/2827872)."
)
CITED_TERMS = "No licence is known to us; to be cited: {}. Whether your use is allowed is yours to judge."


def _movielens(size: str, md5: str, megabytes: float, title: str) -> Dataset:
    home = "https://files.grouplens.org/datasets/movielens/ml-"
    if size == "100k":
        files, read = ("u.data", "u.item", "u.user"), public.movielens_100k
    elif size in ("1m", "10m"):
        files, read = ("ratings.dat", "movies.dat", "users.dat"), public.movielens_dat
    else:
        files, read = ("ratings.csv", "movies.csv"), public.movielens_csv
    page = f"{home}{size}-README.{'html' if size in ('10m', '20m', '25m', '32m') else 'txt'}"
    return Dataset(
        f"ml-{size}", title, f"{home}{size}.zip", md5, megabytes, MOVIELENS_TERMS, page, files, read
    )


def _amazon(category: str, title: str) -> Dataset:
    home = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only/"
    return Dataset(
        name="amazon-" + category.lower().replace("_and_", "-").replace("_", "-"),
        title=f"{title}, from Amazon Reviews 2023, users and items with five or more",
        address=f"{home}{category}.csv.gz",
        md5=None,
        megabytes=None,
        terms=CITED_TERMS.format("Hou et al. 2024, https://arxiv.org/abs/2403.03952"),
        terms_page="https://amazon-reviews-2023.github.io/",
        files=(f"{category}.csv",),
        read=public.amazon_2023,
    )


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        _movielens(
            "100k", "0e33842e24a9c977be4e0107933c0723", 4.9, "100,000 ratings of films, 1997 and 1998"
        ),
        _movielens("1m", "c4d9eecfca2ab87c1945afe126590906", 5.9, "1 million ratings of films, 2000 to 2003"),
        _movielens(
            "10m", "ce571fd55effeba0271552578f2648bd", 65.6, "10 million ratings of films, 1995 to 2009"
        ),
        _movielens(
            "20m", "cd245b17a1ae2cc31bb14903e1204af3", 198.7, "20 million ratings of films, 1995 to 2015"
        ),
        _movielens(
            "25m", "6b51fb2759a8657d3bfcbfc42b592ada", 262.0, "25 million ratings of films, 1995 to 2019"
        ),
        _movielens(
            "32m", "d472be332d4daa821edc399621853b57", 239.0, "32 million ratings of films, 1995 to 2023"
        ),
        Dataset(
            name="gowalla",
            title="6.4 million check-ins at places, 2009 and 2010",
            address="https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz",
            md5=None,
            megabytes=105,
            terms=CITED_TERMS.format("Cho, Myers and Leskovec 2011, https://doi.org/10.1145/2020408.2020579"),
            terms_page="https://snap.stanford.edu/data/loc-gowalla.html",
            files=("loc-gowalla_totalCheckins.txt",),
            read=public.gowalla,
        ),
        Dataset(
            name="lastfm-1k",
            title="19 million plays by 992 listeners, 2005 to 2009",
            address="https://zenodo.org/records/6090214/files/lastfm-dataset-1K.tar.gz",
            md5="a79a6808f54f73354789a9fb02cb1e41",
            megabytes=672,
            terms="For non-commercial use, with permission of Last.fm; cite Celma 2010 and Last.fm.",
            terms_page="http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html",
            files=("userid-timestamp-artid-artname-traid-traname.tsv", "userid-profile.tsv"),
            read=public.lastfm_1k,
        ),
        _amazon("Video_Games", "0.8 million ratings of video games"),
        _amazon("Musical_Instruments", "0.5 million ratings of musical instruments"),
        _amazon("Industrial_and_Scientific", "0.4 million ratings of scientific supplies"),
    )
}


def fetch(
    name: str,
    *,
    accept_terms: bool = False,
    cache: str | Path | None = None,
    source: str | Path | None = None,
) -> PublicLog:
    """Read a public log, downloading it into the cache if it is not there yet.

    ``source``: a copy of your own (the archive, its unpacked folder, or the file of events), read instead
    without a network. ``cache``: a folder instead of `cache_folder()`. The terms are shown on stderr before a
    download, and nothing is downloaded unless ``accept_terms``. Raises InputError when the name is unknown,
    the terms are not accepted, there is no network, or the checksum differs.
    """
    if name not in DATASETS:
        raise InputError(f"{name!r}: no public log of that name; known are {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    path = (
        Path(source) if source is not None else download(dataset, Path(cache or cache_folder()), accept_terms)
    )
    with tempfile.TemporaryDirectory(prefix="jaxdecay-") as scratch:
        return dataset.read(find_files(path, dataset.files, Path(scratch)))


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/jaxdecay``, or ``~/.cache/jaxdecay``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdecay"


def terms(dataset: Dataset) -> str:
    """The terms of a data set in one line."""
    size = f"{dataset.megabytes:g} MB" if dataset.megabytes else "size unknown"
    return f"{dataset.name} ({dataset.title}; {size}): {dataset.terms} Terms: {dataset.terms_page}"


def download(dataset: Dataset, cache: Path, accept_terms: bool) -> Path:
    """Path of the archive in the cache, downloaded and verified; a cached one needs no acceptance."""
    path = cache / dataset.name / dataset.address.rsplit("/", 1)[-1]
    if path.exists():
        _verify(dataset, path, _digest(path, dataset), "delete it and fetch it again")
        return path
    print(terms(dataset), file=sys.stderr)
    if not accept_terms:
        raise InputError(
            f"{dataset.name}: not downloaded, as its terms have not been accepted ({dataset.terms_page}); "
            "read them and accept them (accept_terms=True), or give your own copy as source"
        )
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        _receive(dataset, part)
        digest = _digest(part, dataset)
        _verify(dataset, path, digest, "try again, or look whether the source has changed")
        _trust(dataset, path, digest)
        part.replace(path)
    finally:
        if part.exists():
            part.unlink()
    return path


def _receive(dataset: Dataset, part: Path) -> None:
    advice = f"download {dataset.address} elsewhere and give its path as source"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(dataset.address, timeout=TIMEOUT) as answer, part.open("wb") as file:
            expected = answer.headers.get("Content-Length")
            shutil.copyfileobj(answer, file, BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{dataset.name}: cannot be downloaded into {part.parent} ({error}); {advice}"
        ) from error
    if expected is not None and part.stat().st_size != int(expected):
        arrived = f"only {part.stat().st_size} of {expected} bytes arrived"
        raise InputError(f"{dataset.name}: {arrived}; try again, or {advice}")


def _digest(path: Path, dataset: Dataset) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5" if dataset.md5 else "sha256").hexdigest()


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _trust(dataset: Dataset, path: Path, digest: str) -> None:
    if dataset.md5 is None:
        _record(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _verify(dataset: Dataset, path: Path, digest: str, advice: str) -> None:
    expected = dataset.md5
    if expected is None and _record(path).exists():
        expected = _record(path).read_text(encoding="utf-8").split()[0]
    if expected is not None and digest != expected:
        raise InputError(f"{path}: its checksum is {digest}, expected {expected}; {advice}")
