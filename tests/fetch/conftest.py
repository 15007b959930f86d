"""Servers, patience that is soon at its end, and an environment without tokens and proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fetch.misbehaving import Server
from fetch.payload import Fetch

from threedgp.fetch.download import fetch
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THREEDGP_CACHE", str(tmp_path / "cache"))
    # Read once, when huggingface_hub is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "home/token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def start_server() -> Iterator[Callable[[], Server]]:
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(start_server: Callable[[], Server]) -> Server:
    return start_server()


@pytest.fixture
def patience() -> Patience:
    return Patience(attempts=4, first_delay=0.001, longest_delay=0.01, connect=5, silence=0.3, seed=0)


@pytest.fixture
def get(tmp_path: Path, patience: Patience) -> Fetch:
    """Fetches one file into the folder `in` and returns what landed."""

    def get(url: str, mirror: str | None = None, **fields: object) -> bytes:
        file = Remote("a.bin", url, **fields)
        [path] = fetch([file], tmp_path / "in", title="download", mirror=mirror, patience=patience)
        assert path == tmp_path / "in/a.bin"
        assert [path.name for path in path.parent.iterdir()] == ["a.bin"], "something was left behind"
        return path.read_bytes()

    return get
