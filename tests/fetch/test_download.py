"""One file from a server that misbehaves: received bytes are kept, and the file that lands is the right one."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, OTHER, Fetch, sha256

from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("checksum", [sha256(DATA), f"md5:{hashlib.md5(DATA).hexdigest()}", None])
def test_whole_file(server: Server, get: Fetch, checksum: str | None) -> None:
    url = server.script("/a.bin", Answer(DATA))
    assert get(url, checksum=checksum) == DATA
    assert len(server.gets()) == 1 and server.gets()[0].range is None
    assert server.gets()[0].headers["accept-encoding"] == "identity"


def test_bytes_land_as_they_come(server: Server, get: Fetch) -> None:
    """Some servers declare a .tar.gz as a compressed .tar; the checksum is that of the .tar.gz."""
    packed = gzip.compress(DATA)
    url = server.script("/a.bin", Answer(packed, headers={"Content-Encoding": "gzip"}))
    assert get(url, checksum=sha256(packed)) == packed


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
@pytest.mark.parametrize("stated", [True, False])
def test_broken_connection_is_continued_where_it_broke(server: Server, get: Fetch, how: str, stated: bool) -> None:
    whole = Answer(DATA, etag='"1"')
    url = server.script("/a.bin", replace(whole, cut=HALF, how=how), replace(whole, cut=10_000, how=how), whole)
    assert get(url, checksum=sha256(DATA) if stated else None) == DATA
    first, second, third = server.gets()
    # After a reset the kernel may drop what was not read yet.
    starts = [int(one.range.removeprefix("bytes=").rstrip("-")) for one in (second, third)]
    assert first.range is None
    assert starts == [HALF, HALF + 10_000] if how != "reset" else 0 < starts[0] <= HALF
    assert second.headers["if-range"] == third.headers["if-range"] == '"1"'


def test_slow_server(server: Server, get: Fetch) -> None:
    """The download takes longer than the read timeout, but no pause between two chunks does."""
    url = server.script("/a.bin", Answer(DATA, slow=0.08))
    assert get(url) == DATA and len(server.gets()) == 1


def test_server_without_ranges_begins_anew(server: Server, get: Fetch) -> None:
    whole = Answer(DATA, etag='"1"', ranges=False)
    url = server.script("/a.bin", replace(whole, cut=HALF), whole)
    assert get(url) == DATA
    assert server.gets()[1].range == f"bytes={HALF}-"


@pytest.mark.parametrize("answer", [Answer(DATA, length=False), Answer(DATA, chunked=True)])
def test_no_content_length(server: Server, get: Fetch, answer: Answer) -> None:
    assert get(server.script("/a.bin", answer)) == DATA


@pytest.mark.parametrize("stated", [{"size": len(DATA)}, {"checksum": sha256(DATA)}])
def test_truncation_without_content_length(server: Server, get: Fetch, stated: dict[str, object]) -> None:
    """Only the stated size or checksum shows that the end of the connection is not the end of the file."""
    whole = Answer(DATA, length=False, etag='"1"')
    url = server.script("/a.bin", replace(whole, cut=HALF), whole)
    assert get(url, **stated) == DATA


def test_truncated_chunks(server: Server, get: Fetch) -> None:
    whole = Answer(DATA, chunked=True, etag='"1"')
    assert get(server.script("/a.bin", replace(whole, cut=HALF), whole)) == DATA
    assert [one.range for one in server.gets()] == [None, f"bytes={HALF}-"]


def test_wrong_checksum_is_tried_once_more(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(OTHER, etag='"1"'), Answer(DATA, etag='"1"'))
    assert get(url, checksum=sha256(DATA)) == DATA
    assert [one.range for one in server.gets()] == [None, None]


def test_wrong_checksum_twice_is_an_error(server: Server, get: Fetch, tmp_path: Path) -> None:
    url = server.script("/a.bin", Answer(OTHER))
    with pytest.raises(UserError) as error:
        get(url, checksum=sha256(DATA))
    for word in ("a.bin", sha256(DATA), sha256(OTHER), f"put it at {tmp_path / 'in/a.bin'}"):
        assert word in str(error.value)
    assert len(server.gets()) == 2
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize("length", [True, False])
def test_wrong_size_is_an_error(server: Server, get: Fetch, length: bool) -> None:
    url = server.script("/a.bin", Answer(DATA, length=length))
    with pytest.raises(UserError, match=r"it has .*bytes"):
        get(url, size=1000)


def test_finished_files_are_kept(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(DATA))
    for _ in range(2):
        assert get(url, checksum=sha256(DATA), size=len(DATA)) == DATA
    assert len(server.gets()) == 1


@pytest.mark.parametrize("there", [DATA[:-1], b"x" + DATA[1:]])
def test_damaged_file_is_replaced(server: Server, get: Fetch, tmp_path: Path, there: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.bin").write_bytes(there)
    url = server.script("/a.bin", Answer(DATA))
    assert get(url, checksum=sha256(DATA), size=len(DATA)) == DATA


def test_file_put_there_by_hand_that_is_wrong_is_named_and_stays(server: Server, get: Fetch, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.bin").write_bytes(b"page")
    with pytest.raises(UserError, match=r"in/a\.bin has the checksum sha256:.* instead of sha256:.*HTTP 404"):
        get(server.url("/a.bin"), checksum=sha256(DATA))
    assert (tmp_path / "in/a.bin").read_bytes() == b"page"


def test_folder_in_the_place_of_a_file(tmp_path: Path, get: Fetch) -> None:
    (tmp_path / "in/a.bin").mkdir(parents=True)
    with pytest.raises(UserError, match=r"in/a\.bin: a folder is in the place of a file"):
        get("http://127.0.0.1/a.bin", size=1)


@pytest.mark.parametrize("stated", [{"size": len(DATA)}, {}])
def test_full_disk(
    server: Server, get: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: dict[str, int]
) -> None:
    usage = type(atomic.shutil.disk_usage("/"))
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(UserError, match=r"kB are needed and 1\.0 kB are free; free some space"):
        get(server.script("/a.bin", Answer(DATA)), **stated)
    assert not (tmp_path / "in/a.bin").exists() and not (tmp_path / "in/.a.bin.part").exists()


def test_progress_continues_where_the_last_run_stopped(
    server: Server, get: Fetch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threedgp.runtime.progress.PLAIN_INTERVAL", 0)
    monkeypatch.setattr("threedgp.fetch.download.MEGABYTE", 1000)
    busy, whole = Answer(b"", 503), Answer(DATA, etag='"1"')
    url = server.script(
        "/a", replace(whole, cut=HALF), busy, busy, busy, busy, replace(whole, cut=1000, how="stall"), whole
    )
    with pytest.raises(UserError):
        get(url)
    capsys.readouterr()
    get(url)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("download: 151/300 MB, ") and lines[-1].startswith("download: 300/300 MB, ")
