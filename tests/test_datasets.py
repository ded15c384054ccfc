"""Public logs are downloaded only as agreed, verified, kept, and never wrong in silence."""

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jaxdecay.data import datasets
from jaxdecay.data.datasets import DATASETS, fetch
from jaxdecay.errors import InputError


def published(name: str) -> bytes:
    """A small stand-in for the download of a set with a published checksum, and of one without."""
    if name == "gowalla":
        return gzip.compress(b"0\t2010-10-19T23:55:27Z\t30.2\t-97.8\t22847\n")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-100k/u.data", "196\t242\t3\t881250949\n")
    return buffer.getvalue()


class Server:
    """Loopback stand-in for a data set's home: serves ``body`` and counts its ``requests``."""

    def __init__(self) -> None:
        self.body, self.missing_bytes, self.requests = b"", 0, 0
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                home.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(home.body) + home.missing_bytes))
                self.end_headers()
                self.wfile.write(home.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.http.shutdown()
    thread.join()
    served.http.server_close()


def serve(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Point a data set at the server, with a checksum if its source publishes one."""
    server.body = published(name)
    file = DATASETS[name].address.rsplit("/", 1)[-1]
    md5 = hashlib.md5(server.body).hexdigest() if DATASETS[name].md5 else None
    served = replace(DATASETS[name], address=f"{server.address}/{file}", md5=md5)
    monkeypatch.setitem(datasets.DATASETS, name, served)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["ml-100k", "gowalla"])
def test_a_download_is_accepted_verified_and_kept(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    serve(server, monkeypatch, name)
    with pytest.raises(InputError, match="terms") as refusal:
        fetch(name, cache=tmp_path)
    assert DATASETS[name].terms_page in str(refusal.value)
    assert DATASETS[name].terms in capsys.readouterr().err
    assert server.requests == 0

    first = fetch(name, accept_terms=True, cache=tmp_path)
    assert DATASETS[name].terms in capsys.readouterr().err
    again = fetch(name, cache=tmp_path)
    assert again.events.equals(first.events)
    assert server.requests == 1
    assert capsys.readouterr().err == ""
    assert not [file for file in files_in(tmp_path) if file.endswith(".part")]


@pytest.mark.parametrize("name", ["ml-100k", "gowalla"])
def test_a_cached_file_that_changed_is_refused(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, name)
    fetch(name, accept_terms=True, cache=tmp_path)
    cached = tmp_path / name / DATASETS[name].address.rsplit("/", 1)[-1]
    cached.write_bytes(cached.read_bytes() + b"x")
    with pytest.raises(InputError, match="checksum") as refusal:
        fetch(name, cache=tmp_path)
    assert str(cached) in str(refusal.value)


def test_a_download_with_another_checksum_is_refused_and_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, "ml-100k")
    server.body += b"x"
    with pytest.raises(InputError, match="checksum"):
        fetch("ml-100k", accept_terms=True, cache=tmp_path)
    assert files_in(tmp_path) == []


def test_without_a_published_checksum_the_first_download_is_trusted(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, "gowalla")
    fetch("gowalla", accept_terms=True, cache=tmp_path)
    archive, record = files_in(tmp_path)
    assert record == archive + ".sha256"
    (tmp_path / "gowalla" / archive).unlink()
    server.body = gzip.compress(b"0\t2010-10-19T23:55:27Z\t0.0\t0.0\t1\n")
    with pytest.raises(InputError, match="checksum"):
        fetch("gowalla", accept_terms=True, cache=tmp_path)
    assert files_in(tmp_path) == [record]


def test_a_download_that_stops_early_is_refused_and_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, "gowalla")
    server.missing_bytes = 10
    with pytest.raises(InputError, match="bytes"):
        fetch("gowalla", accept_terms=True, cache=tmp_path)
    assert files_in(tmp_path) == []


def test_without_a_network_there_is_one_line_that_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, "ml-100k")
    gone = replace(DATASETS["ml-100k"], address="http://127.0.0.1:9/ml-100k.zip")
    monkeypatch.setitem(datasets.DATASETS, "ml-100k", gone)
    with pytest.raises(InputError, match="cannot be downloaded") as refusal:
        fetch("ml-100k", accept_terms=True, cache=tmp_path)
    assert "source" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert files_in(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, "ml-100k")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        fetch("ml-100k", accept_terms=True, cache=tmp_path / "file")


def test_unknown_names_and_missing_copies_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ml-3m.*ml-100k"):
        fetch("ml-3m")
    with pytest.raises(InputError, match="nowhere"):
        fetch("ml-100k", source=tmp_path / "nowhere.zip")


def test_the_cache_is_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / "jaxdecay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache" / "jaxdecay"


@pytest.mark.parametrize("name", DATASETS)
def test_every_log_has_terms_and_an_address(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.address.startswith("https://")
    assert dataset.terms_page.startswith("http")
    assert dataset.terms.endswith(".")
    assert dataset.md5 is None or len(bytes.fromhex(dataset.md5)) == 16
