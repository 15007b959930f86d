"""Files of this machine, and mirrors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, OTHER, Fetch, sha256

from threedgp.fetch.download import fetch
from threedgp.fetch.hub import list_repository
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_file_of_this_machine_is_linked(get: Fetch, tmp_path: Path, form: str) -> None:
    place = tmp_path / "b c.bin"
    place.write_bytes(DATA)
    assert get(form.format(str(place).replace(" ", "%20") if form != "{}" else place), checksum=sha256(DATA)) == DATA
    assert (tmp_path / "in/a.bin").stat().st_ino == place.stat().st_ino


def test_file_of_another_file_system_is_copied(get: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    place = tmp_path / "b.bin"
    place.write_bytes(DATA)
    assert get(str(place), checksum=sha256(DATA)) == DATA
    assert (tmp_path / "in/a.bin").stat().st_ino != place.stat().st_ino


def test_copy_is_continued(get: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by its result: the part on disk, damaged here, is not copied again."""

    def refuse(*names: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    place = tmp_path / "b.bin"
    place.write_bytes(DATA)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/.a.bin.part").write_bytes(bytes(HALF))
    state = {"url": str(place), "total": len(DATA), "etag": None, "modified": str(place.stat().st_mtime_ns)}
    (tmp_path / "in/.a.bin.part.json").write_text(json.dumps(state))
    assert get(str(place)) == bytes(HALF) + DATA[HALF:]


@pytest.mark.parametrize("linked", [True, False])
def test_wrong_file_of_this_machine(get: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    if not linked:
        monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError(18, "cross-device")))
    place = tmp_path / "b.bin"
    place.write_bytes(OTHER)
    with pytest.raises(UserError, match=f"checksum .*{sha256(OTHER)} instead of {sha256(DATA)}"):
        get(str(place), checksum=sha256(DATA))
    assert place.read_bytes() == OTHER and list((tmp_path / "in").iterdir()) == []


def test_absent_file_of_this_machine(get: Fetch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such file"):
        get(str(tmp_path / "nowhere"))


def test_mirror_folder_comes_first(server: Server, get: Fetch, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(DATA)
    assert get(server.url("/a.bin"), str(tmp_path / "mirror"), checksum=sha256(DATA)) == DATA
    assert server.seen == []


def test_mirror_address_comes_first(start_server: Callable[[], Server], tmp_path: Path, patience: Patience) -> None:
    mirror, server = start_server(), start_server()
    mirror.script("/all/set%201/a.bin", Answer(DATA))
    file = Remote("set 1/a.bin", server.url("/x/y"), checksum=sha256(DATA))
    [path] = fetch([file], tmp_path, title="download", mirror=mirror.url("/all/"), patience=patience)
    assert path.read_bytes() == DATA and server.seen == []


@pytest.mark.parametrize("answer", [Answer(b"", 404), Answer(b"", 403), Answer(b"", 503), Answer(OTHER)])
def test_useless_mirror(start_server: Callable[[], Server], get: Fetch, answer: Answer) -> None:
    mirror, server = start_server(), start_server()
    mirror.script("/a.bin", answer)
    assert get(server.script("/a.bin", Answer(DATA)), mirror.url(""), checksum=sha256(DATA)) == DATA


@pytest.mark.parametrize("ask", ["fetch", "list"])
@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("/no/where", "there is no folder '/no/where'; correct it"),
        ("file:///no/where", "there is no folder"),
        ("~nouser", "there is no folder '~nouser'"),
        ("s3://me:secret@bucket", "'s3://bucket' is of no known kind"),
        ("http://host:port/", "'http://host:port/' is no address"),
    ],
)
def test_mirror_that_can_have_nothing(server: Server, get: Fetch, ask: str, mirror: str, words: str) -> None:
    url = server.script("/a.bin", Answer(DATA))
    with pytest.raises(UserError, match=f"^machine.mirror: {words}"):
        get(url, mirror) if ask == "fetch" else list_repository("owner/set", mirror=mirror)
    assert server.seen == []


def test_mirror_folder_may_lack_a_file(server: Server, get: Fetch, tmp_path: Path) -> None:
    assert get(server.script("/a.bin", Answer(DATA)), str(tmp_path)) == DATA


def test_mirror_without_the_file_does_not_lose_the_part(
    start_server: Callable[[], Server], get: Fetch, tmp_path: Path
) -> None:
    mirror, server = start_server(), start_server()
    busy = Answer(b"", 503)
    url = server.script("/a.bin", Answer(DATA, etag='"1"', cut=HALF), busy, busy, busy, busy, Answer(DATA, etag='"1"'))
    with pytest.raises(UserError, match="HTTP 503"):
        get(url, mirror.url(""))
    assert get(url, mirror.url("")) == DATA
    assert {one.range for one in server.gets()} == {None, f"bytes={HALF}-"}
