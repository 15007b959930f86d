"""Repositories of the hub: listed through its own client, fetched through our downloader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fetch.hub_server import COMMIT, publish
from fetch.misbehaving import Answer, Server

from threedgp.fetch.download import fetch
from threedgp.fetch.hub import endpoint, list_repository
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote
from threedgp.runtime.errors import UserError

FILES = {
    "README.md": b"short",
    "data/train-00000.parquet": bytes(range(256)) * 4,
    "data/train-00001.parquet": bytes(range(255)) * 4,
    "x y.json": b"{}",
}


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    return server


def test_listing_and_fetching(hub: Server, tmp_path: Path, patience: Patience) -> None:
    publish(hub, "owner/set", FILES, kind="dataset")
    files = list_repository("owner/set")
    assert [file.name for file in files] == [f"owner/set/{path}" for path in FILES]
    assert [file.size for file in files] == [len(data) for data in FILES.values()]
    sums = [f"sha256:{hashlib.sha256(data).hexdigest()}" if len(data) > 100 else None for data in FILES.values()]
    assert [file.checksum for file in files] == sums
    assert files[1].url == f"https://huggingface.co/datasets/owner/set/resolve/{COMMIT}/data/train-00000.parquet"
    hub.scripts[f"/datasets/owner/set/resolve/{COMMIT}/x%20y.json"] = [Answer(b"{}")]
    paths = fetch(files, tmp_path, title="download", patience=patience)
    assert [path.read_bytes() for path in paths] == list(FILES.values())


def test_models_live_elsewhere(hub: Server) -> None:
    publish(hub, "owner/net", FILES)
    assert list_repository("owner/net", kind="model")[0].url == (
        f"https://huggingface.co/owner/net/resolve/{COMMIT}/README.md"
    )


def test_token_is_sent(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publish(hub, "owner/set", FILES, kind="dataset")
    list_repository("owner/set")
    assert {one.headers.get("authorization") for one in hub.seen} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(403, "GatedRepo", "its terms were not accepted"), (404, "RepoNotFound", "knows no such repository")],
)
def test_closed_repository(hub: Server, status: int, error: str, words: str) -> None:
    hub.script("/api/datasets/owner/set", Answer(b"{}", status, {"X-Error-Code": error}))
    with pytest.raises(UserError) as raised:
        list_repository("owner/set")
    for part in (words, "accept the terms at https://huggingface.co/datasets/owner/set", "put it in HF_TOKEN"):
        assert part in str(raised.value)


def test_failing_hub(hub: Server) -> None:
    hub.script("/api/datasets/owner/set", Answer(b"{}", 418))
    with pytest.raises(UserError, match=r"owner/set: http://127.* does not list it \(.*418"):
        list_repository("owner/set")


def test_hub_that_cannot_be_reached(start_server: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    gone = start_server()
    gone.close()
    monkeypatch.setenv("HF_ENDPOINT", gone.url(""))
    with pytest.raises(UserError, match=r"owner/set: http://127.* does not list it \(.*refused"):
        list_repository("owner/set")


@pytest.mark.parametrize("page", [b"<html>Welcome</html>", b"[]", b"{}", b'"x"', b'{"id": "owner/set"}'])
def test_endpoint_that_is_no_hub(hub: Server, page: bytes) -> None:
    hub.script("/api/datasets/owner/set", Answer(page))
    hub.script("/api/datasets/owner/set/tree/main", Answer(page))
    with pytest.raises(UserError, match=r"^owner/set: http://127\S* does not answer as the hub does; .*HF_ENDPOINT"):
        list_repository("owner/set")


def test_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[bad")
    with pytest.raises(UserError, match=r"HF_ENDPOINT is 'http://\[bad', which is no address"):
        list_repository("owner/set")
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert endpoint() == "https://huggingface.co"


def test_no_repository() -> None:
    with pytest.raises(UserError, match="they are called owner/name"):
        list_repository("a/b/c")


def test_folder_as_mirror(tmp_path: Path, patience: Patience) -> None:
    """As `hf download --local-dir` leaves it, with its hidden books."""
    for path, data in {**FILES, ".cache/huggingface/x.metadata": b"x"}.items():
        place = tmp_path / "mirror/owner/set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    for mirror in (str(tmp_path / "mirror"), f"file://{tmp_path}/mirror"):
        files = list_repository("owner/set", mirror=mirror)
        assert {file.name for file in files} == {f"owner/set/{path}" for path in FILES}
    paths = fetch(files, tmp_path / "in", title="download", mirror=mirror, patience=patience)
    assert {path.relative_to(tmp_path / "in/owner/set").as_posix() for path in paths} == set(FILES)
    assert isinstance(files[0], Remote)
