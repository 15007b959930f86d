"""Several files at once, the disk, the progress."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, Fetch

from threedgp.fetch.download import fetch
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote
from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError


def test_many_files_at_once(server: Server, tmp_path: Path, patience: Patience) -> None:
    meet = threading.Barrier(3)
    files = [Remote(f"part/{i}.bin", server.script(f"/{i}.bin", Answer(DATA[i:]))) for i in range(7)]
    for i in range(3):
        server.script(f"/{i}.bin", Answer(DATA[i:], meet=meet))
    paths = fetch(files, tmp_path, title="download", connections=3, patience=replace(patience, silence=10))
    assert paths == [tmp_path / f"part/{i}.bin" for i in range(7)]
    assert [path.read_bytes() for path in paths] == [DATA[i:] for i in range(7)]
    assert server.most_at_once == 3
    assert len(server.gets()) == 7, "nobody had to try again until enough requests had met"


def test_one_failure_keeps_what_has_landed(server: Server, tmp_path: Path, patience: Patience) -> None:
    files = [Remote("0.bin", server.script("/0.bin", Answer(DATA))), Remote("1.bin", server.url("/1.bin"))]
    with pytest.raises(UserError, match=r"1\.bin cannot be fetched"):
        fetch(files, tmp_path, title="download", connections=1, patience=patience)
    assert (tmp_path / "0.bin").read_bytes() == DATA


def test_nothing_to_fetch(tmp_path: Path) -> None:
    assert fetch([], tmp_path, title="download") == []


def test_same_name_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two files would land under the same name"):
        fetch([Remote("a", "/x/a"), Remote("a", "/y/a")], tmp_path, title="download")


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([Answer(DATA)], 0),  # HEAD tells the size
        ([Answer(DATA), Answer(b"", 405)], 1),  # only the answer tells
        ([Answer(DATA, length=False)], 1),  # nothing tells; the disk is looked at now and then
    ],
)
def test_full_disk(
    server: Server, get: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Answer], asked: int
) -> None:
    usage = type(atomic.shutil.disk_usage("/"))
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 1000, 1000))
    monkeypatch.setattr("threedgp.fetch.transfer.LOOK", 65536)
    url = server.script("/a.bin", *answers)
    with pytest.raises(UserError, match=r"GB are needed and 0\.00 GB are free; free some space"):
        get(url)
    assert len(server.gets()) == asked
    assert not (tmp_path / "in/a.bin").exists()
    part = tmp_path / "in/.a.bin.part"
    assert not part.exists() or part.stat().st_size < len(DATA) / 2


def test_progress_counts_bytes(
    server: Server, tmp_path: Path, patience: Patience, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [Remote(f"{i}.bin", server.script(f"/{i}.bin", Answer(DATA))) for i in range(2)]
    fetch(files, tmp_path, title="download", patience=patience)
    line = capsys.readouterr().out
    assert line.startswith("download: 600/600 kB, ") and line.endswith(", 2 of 2 files\n")


def test_progress_counts_files_where_no_size_is_known(
    server: Server, tmp_path: Path, patience: Patience, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch([Remote("a", server.script("/a", Answer(DATA, length=False)))], tmp_path, title="lsun", patience=patience)
    assert capsys.readouterr().out.startswith("lsun: 1/1 files, ")


def test_progress_goes_on_where_the_last_run_stopped(
    server: Server,
    tmp_path: Path,
    patience: Patience,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("threedgp.runtime.progress.PLAIN_INTERVAL", 0)
    busy, whole = Answer(b"", 503), Answer(DATA, etag='"1"')
    url = server.script(
        "/a", replace(whole, cut=HALF), busy, busy, busy, busy, replace(whole, cut=1000, how="stall"), whole
    )
    with pytest.raises(UserError):
        fetch([Remote("a", url)], tmp_path, title="download", patience=patience)
    capsys.readouterr()
    fetch([Remote("a", url)], tmp_path, title="download", patience=patience)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("download: 151/300 kB, ") and lines[-1].startswith("download: 300/300 kB, ")
