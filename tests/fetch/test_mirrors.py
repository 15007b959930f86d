"""Files of this machine, and mirrors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, OTHER, Fetch, sha256

from threedgp.fetch.download import download
from threedgp.fetch.http import RetryPolicy
from threedgp.fetch.remote import Remote
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_local_file_is_used_where_it_is(tmp_path: Path, form: str) -> None:
    place = tmp_path / "b c.bin"
    place.write_bytes(DATA)
    url = form.format(str(place).replace(" ", "%20") if form != "{}" else place)
    file = Remote("a.bin", url, checksum=sha256(DATA))
    assert download(file, tmp_path / "in", title="download") == place
    assert not (tmp_path / "in").exists()


def test_wrong_local_file(get: Fetch, tmp_path: Path) -> None:
    place = tmp_path / "b.bin"
    place.write_bytes(OTHER)
    with pytest.raises(UserError, match=f"checksum {sha256(OTHER)} instead of {sha256(DATA)}"):
        get(str(place), checksum=sha256(DATA))
    assert place.read_bytes() == OTHER


def test_missing_local_file(get: Fetch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is missing"):
        get(str(tmp_path / "nowhere"))


def test_mirror_folder_comes_first(server: Server, get: Fetch, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(DATA)
    assert get(server.url("/a.bin"), str(tmp_path / "mirror"), checksum=sha256(DATA)) == DATA
    assert server.seen == []


def test_mirror_folder_may_lack_a_file(server: Server, get: Fetch, tmp_path: Path) -> None:
    assert get(server.script("/a.bin", Answer(DATA)), str(tmp_path)) == DATA


def test_mirror_address_comes_first(start_server: Callable[[], Server], tmp_path: Path, policy: RetryPolicy) -> None:
    mirror, server = start_server(), start_server()
    mirror.script("/all/set%201.bin", Answer(DATA))
    file = Remote("set 1.bin", server.url("/x/y"), checksum=sha256(DATA))
    path = download(file, tmp_path, title="download", mirror=mirror.url("/all/"), policy=policy)
    assert path.read_bytes() == DATA and server.seen == []


@pytest.mark.parametrize("answer", [Answer(b"", 404), Answer(b"", 403), Answer(b"", 503), Answer(OTHER)])
def test_useless_mirror(start_server: Callable[[], Server], get: Fetch, answer: Answer) -> None:
    mirror, server = start_server(), start_server()
    mirror.script("/a.bin", answer)
    assert get(server.script("/a.bin", Answer(DATA)), mirror.url(""), checksum=sha256(DATA)) == DATA


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("/no/where", "there is no folder '/no/where'; correct it"),
        ("file:///no/where", "there is no folder"),
        ("~nouser", "there is no folder '~nouser'"),
        ("s3://me:secret@bucket", "'s3://bucket' has an unknown scheme"),
        ("http://host:port/", "'http://host:port/' is not a valid address"),
    ],
)
def test_mirror_that_does_not_exist(server: Server, get: Fetch, mirror: str, words: str) -> None:
    url = server.script("/a.bin", Answer(DATA))
    with pytest.raises(UserError, match=f"^machine.mirror: {words}"):
        get(url, mirror)
    assert server.seen == []


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
