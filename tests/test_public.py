"""Public logs are read from every form they are published in; anything else is refused."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest

from jaxdecay.data.datasets import DATASETS, fetch
from jaxdecay.data.events import read_events
from jaxdecay.data.public import PublicLog
from jaxdecay.errors import InputError

GENRE_FLAGS = "0|0|0|1|1|1" + "|0" * 13
AMAZON = "user_id,parent_asin,rating,timestamp\nAF1,B00X,5.0,1609459200123\nAF1,B00Y,4.0,1609459201999\n"
CONTENTS: dict[str, dict[str, bytes]] = {
    "ml-100k": {
        "u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        "u.item": f"242|Caf\xe9 (1995)|01-Jan-1995||http://x|{GENRE_FLAGS}\n".encode("latin-1"),
        "u.user": b"196|49|M|writer|55105\n",
    },
    "ml-1m": {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n",
        "movies.dat": "1193::Un \xe9t\xe9: part 2 (1999)::Drama|Comedy\n".encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n",
    },
    "ml-10m": {
        "ratings.dat": b"1::122::4.5::838985046\n",
        "movies.dat": "122::L'\xe9t\xe9::Drama\n".encode(),
    },
    "ml-20m": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n",
        "movies.csv": b'movieId,title,genres\n2,"Jumanji, the film (1995)",Adventure|Children\n',
    },
    "gowalla": {
        "loc-gowalla_totalCheckins.txt": b"0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n"
        b"0\t2010-10-18T22:17:43Z\t30.26\t-97.76\t420315\n"
    },
    "lastfm-1k": {
        "userid-timestamp-artid-artname-traid-traname.tsv": (
            'user_000639\t2009-04-08T01:57:47Z\tMBID\tThe Dogs D\'Amour\tMBID\tFall in "Love" Again?\n'
            "user_000639\t2009-04-08T01:53:56Z\t\tBj\xf6rk\t\tJ\xf3ga\n"
        ).encode(),
        "userid-profile.tsv": b"#id\tgender\tage\tcountry\tregistered\nuser_000639\tm\t\tMexico\tApr 1\n",
    },
    "amazon-video-games": {"Video_Games.csv": AMAZON.encode()},
}
CONTENTS |= {"ml-25m": CONTENTS["ml-20m"], "ml-32m": CONTENTS["ml-20m"]}
CONTENTS |= {
    "amazon-musical-instruments": {"Musical_Instruments.csv": AMAZON.encode()},
    "amazon-industrial-scientific": {"Industrial_and_Scientific.csv": AMAZON.encode()},
}


def zipped(contents: dict[str, bytes], folder: str = "unpacked/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{folder}README.txt", "terms")
        for name, content in contents.items():
            archive.writestr(folder + name, content)
    return buffer.getvalue()


def tarred(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"unpacked/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def published(name: str) -> bytes:
    """A small stand-in for the download, in the form in which the source gives it."""
    address = DATASETS[name].address
    if address.endswith(".zip"):
        return zipped(CONTENTS[name])
    if address.endswith(".tar.gz"):
        return tarred(CONTENTS[name])
    (content,) = CONTENTS[name].values()
    return gzip.compress(content, mtime=0)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", DATASETS)
def test_every_log_is_read_in_the_form_it_is_published_in(name: str, tmp_path: Path) -> None:
    copy = tmp_path / DATASETS[name].address.rsplit("/", 1)[-1]
    copy.write_bytes(published(name))
    events, items, users = fetch(name, source=copy)
    assert events.columns[:3] == ["user_id", "item_id", "timestamp"]
    assert events.schema["timestamp"] == pl.Int64
    assert events.null_count().sum_horizontal().item() == 0
    assert len(read_events(events, unit="s").frame) == len(events)
    if items is not None:
        assert items["item_id"].is_unique().all()
        assert items.schema["item_id"] == events.schema["item_id"]
    if users is not None:
        assert users.schema["user_id"] == events.schema["user_id"]


@pytest.mark.usefixtures("offline")
def test_values_survive(tmp_path: Path) -> None:
    def read(name: str) -> PublicLog:
        copy = tmp_path / DATASETS[name].address.rsplit("/", 1)[-1]
        copy.write_bytes(published(name))
        return fetch(name, source=copy)

    events, items, users = read("ml-100k")
    assert events.rows() == [(196, 242, 881250949, 3.0), (186, 302, 891717742, 3.0)]
    assert items is not None
    assert items.rows() == [(242, "Café (1995)", "01-Jan-1995", "Animation|Children's|Comedy")]
    assert users is not None
    assert users.rows() == [(196, 49, "M", "writer", "55105")]

    events, items, users = read("ml-1m")
    assert events.rows() == [(1, 1193, 978300760, 5.0), (1, 661, 978302109, 3.0)]
    assert items is not None
    assert items.rows() == [(1193, "Un été: part 2 (1999)", "Drama|Comedy")]
    assert users is not None
    assert users.rows() == [(1, "F", "1", "10", "48067")]
    assert read("ml-10m").events["rating"].to_list() == [4.5]

    assert read("ml-32m").items.rows() == [(2, "Jumanji, the film (1995)", "Adventure|Children")]  # type: ignore
    assert read("amazon-video-games").events.rows() == [
        ("AF1", "B00X", 1609459200, 5.0),  # milliseconds end in seconds
        ("AF1", "B00Y", 1609459201, 4.0),
    ]
    events, items, _ = read("gowalla")
    assert events.rows() == [
        (0, 22847, 1287532527),
        (0, 420315, 1287440263),
    ]  # date -u -d 2010-10-19T23:55:27Z +%s
    assert items is not None
    assert items.row(1) == (420315, 30.26, -97.76)

    events, items, users = read("lastfm-1k")
    assert events["item_id"].to_list() == ['The Dogs D\'Amour - Fall in "Love" Again?', "Björk - Jóga"]
    assert events["timestamp"].to_list() == [1239155867, 1239155636]
    assert users is not None
    assert users.rows() == [("user_000639", "m", None, "Mexico", "Apr 1")]


@pytest.mark.usefixtures("offline")
def test_a_local_copy_may_be_an_archive_a_folder_or_the_file(tmp_path: Path) -> None:
    (tmp_path / "renamed.zip").write_bytes(zipped(CONTENTS["ml-100k"], folder=""))
    unpacked = tmp_path / "downloads" / "ml-100k"
    unpacked.mkdir(parents=True)
    for name, content in CONTENTS["ml-100k"].items():
        (unpacked / name).write_bytes(content)
    expected = fetch("ml-100k", source=tmp_path / "renamed.zip")
    for source in (unpacked, tmp_path / "downloads", unpacked / "u.data"):
        log = fetch("ml-100k", source=source)
        assert str(log) == str(expected)
    (unpacked / "u.item").unlink()
    assert fetch("ml-100k", source=str(unpacked)).items is None


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("ml-100k", "cut.zip", zipped(CONTENTS["ml-100k"])[:200], "damaged"),
        ("lastfm-1k", "cut.tar.gz", tarred(CONTENTS["lastfm-1k"])[:150], "damaged"),
        ("gowalla", "cut.txt.gz", gzip.compress(bytes(range(256)) * 99, mtime=0)[:60], "damaged"),
        ("ml-100k", "other.zip", zipped(CONTENTS["ml-1m"]), "no file u.data"),
        ("ml-100k", "u.data", b"1\t2\t3\t881250949\n1\t2\n", "row 2"),
        ("ml-100k", "u.data", b"1\t2\t3\t881250949\n1\tx\t3\t881250949\n", "row 2.*item_id"),
        ("ml-20m", "ratings.csv", b"user,item\n1,2\n", "userId"),
        ("ml-20m", "ratings.csv", b"", "cannot be read"),
        ("gowalla", "a.txt", b"0\tyesterday\t1.0\t1.0\t7\n", "row 1.*time"),
    ],
)
def test_a_local_copy_that_is_not_the_data_set_is_refused(
    name: str, file: str, content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=said) as refusal:
        fetch(name, source=tmp_path / file)
    assert "\n" not in str(refusal.value)
