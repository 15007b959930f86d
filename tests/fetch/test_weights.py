"""Weights by path, address and hub id; the cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fetch.hub_server import publish
from fetch.misbehaving import Answer, Server

from threedgp.fetch.http import RetryPolicy
from threedgp.fetch.weights import find_model, find_weights, kind_of
from threedgp.runtime.errors import UserError

DATA = bytes(range(256)) * 20
DIGITS = hashlib.sha256(DATA).hexdigest()

Find = Callable[..., Path]


CHECKSUM = f"sha256:{DIGITS}"


@pytest.fixture
def find(policy: RetryPolicy) -> Find:
    def find(given: str, **options: object) -> Path:
        return find_weights(given, key="depth.weights", policy=policy, **options)

    return find


@pytest.fixture
def url(server: Server) -> str:
    return server.script("/weights.pth", Answer(DATA))


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    return server


def test_url_is_downloaded_once(server: Server, find: Find, url: str, tmp_path: Path) -> None:
    first = find(url, checksum=CHECKSUM)
    assert first.read_bytes() == DATA and first.is_relative_to(tmp_path / "cache") and first.name == "weights.pth"
    count = len(server.seen)
    assert find(url, checksum=CHECKSUM) == first and len(server.seen) == count


def test_damaged_cache_is_noticed(server: Server, find: Find, url: str) -> None:
    path = find(url, checksum=CHECKSUM)
    path.write_bytes(DATA[:-1] + b"?")
    assert find(url, checksum=CHECKSUM).read_bytes() == DATA
    assert len(server.gets()) == 2


def test_missing_file_on_the_server(find: Find, url: str, server: Server) -> None:
    server.scripts.clear()
    with pytest.raises(UserError, match=r"^depth\.weights: weights\.pth cannot be downloaded .*HTTP 404"):
        find(url)


def test_mirror(server: Server, find: Find, url: str, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/weights.pth").write_bytes(DATA)
    assert find(url, checksum=CHECKSUM, mirror=str(tmp_path / "mirror")).read_bytes() == DATA
    assert server.seen == []


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_path_is_used_in_place(find: Find, tmp_path: Path, form: str) -> None:
    (tmp_path / "w.pth").write_bytes(DATA)
    assert find(form.format(tmp_path / "w.pth"), checksum=CHECKSUM) == tmp_path / "w.pth"
    assert not (tmp_path / "cache").exists()


def test_path_to_another_file(find: Find, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"other")
    with pytest.raises(UserError, match=rf"^depth\.weights: .*/w\.pth has the checksum .* instead of {CHECKSUM}"):
        find(str(tmp_path / "w.pth"), checksum=CHECKSUM)
    assert find(str(tmp_path / "w.pth")) == tmp_path / "w.pth"


@pytest.mark.parametrize("given", ["weights/res101.pth", "/nowhere/x", "./a/b", "file:///nowhere", "~nouser/x"])
def test_absent_path(find: Find, given: str) -> None:
    with pytest.raises(UserError, match=r"^depth\.weights: .* does not exist"):
        find(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://host:abc/x.pth", "is not a valid address"),
        ("https://[x/x.pth", "is not a valid address"),
        ("ftp://host/x.pth", "has an unknown scheme"),
    ],
)
def test_malformed_address(find: Find, given: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"^depth\.weights: '{re.escape(given)}' {words}"):
        find(given)


def test_address_with_checksum(server: Server, find: Find) -> None:
    url = server.script("/a/w%201.pth", Answer(DATA))
    path = find(f"{url}#sha256={DIGITS}")
    assert path.name == "w 1.pth" and path.read_bytes() == DATA
    server.scripts.clear()
    assert find(f"{url}#sha256={DIGITS}") == path


def test_address_with_wrong_checksum(server: Server, find: Find) -> None:
    url = server.script("/w.pth", Answer(DATA))
    with pytest.raises(UserError, match=rf"^depth\.weights: w\.pth .* sha256:{DIGITS} instead of sha256:0000"):
        find(f"{url}#sha256={'0' * 64}")


def test_address_without_checksum_is_pinned(server: Server, find: Find, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.script("/w.pth", Answer(DATA))
    path = find(url)
    assert f"from now on it must be sha256:{DIGITS}" in capsys.readouterr().out
    path.write_bytes(DATA[:-1] + b"?")
    server.script("/w.pth", Answer(DATA[:-1] + b"!"))
    with pytest.raises(UserError, match="instead of"):
        find(url)


def test_address_that_states_another_checksum(server: Server, find: Find) -> None:
    with pytest.raises(UserError, match="states another checksum"):
        find(f"{server.url('/w.pth')}#sha256={'0' * 64}", checksum=CHECKSUM)


def test_odd_fragment(server: Server, find: Find) -> None:
    with pytest.raises(UserError, match="is not sha256:"):
        find(server.url("/w.pth#part2"))


def test_hub_id(hub: Server, find: Find) -> None:
    publish(hub, "timm/net.x", {"config.json": b"{}", "model.safetensors": DATA, "pytorch_model.bin": b"pickle"})
    path = find("timm/net.x")
    assert path.name == "model.safetensors" and path.read_bytes() == DATA
    assert find("timm/net.x:pytorch_model.bin").read_bytes() == b"pickle"
    hub.scripts.clear()
    assert find("timm/net.x") == path, "no network"


def test_model_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth\.weights: .* is not a folder with a config\.json"):
        find_model(str(tmp_path), key="depth.weights")
    (tmp_path / "config.json").write_text("{}")
    assert find_model(str(tmp_path), key="depth.weights") == tmp_path


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {
        "w.pth": "path", "a/w.pth": "path", "/a/b": "path", "./a/b": "path", "../b": "path", "a/b/c": "path",
        "file:///a/b": "path",
        "https://h/a": "url", "http://h/a#md5=0": "url",
        "o/r": "hub", "timm/resnet50.ram_in1k": "hub", "o/r:w.pth": "hub", "o/r:sub/w.pth": "hub",
    }  # fmt: skip
    assert {given: kind_of(given) for given in kinds} == kinds
    (tmp_path / "o/r").mkdir(parents=True)
    assert kind_of("o/r") == "path", "what exists is a path"
