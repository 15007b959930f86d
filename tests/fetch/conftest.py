"""Servers, retries without long pauses, and an environment without tokens and proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fetch.misbehaving import Server
from fetch.payload import Fetch

from threedgp.fetch.download import download
from threedgp.fetch.http import RetryPolicy
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
    # huggingface_hub reads the environment once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "home/token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


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
def policy() -> RetryPolicy:
    return RetryPolicy(max_attempts=4, first_delay=0.001, max_delay=0.01, connect_timeout=5, read_timeout=0.3)


@pytest.fixture
def get(tmp_path: Path, policy: RetryPolicy) -> Fetch:
    """Downloads one file into the folder `in` and returns its content."""

    def get(url: str, mirror: str | None = None, **fields: object) -> bytes:
        file = Remote("a.bin", url, **fields)
        path = download(file, tmp_path / "in", title="download", mirror=mirror, policy=policy)
        if path.parent == tmp_path / "in":
            assert [path.name for path in path.parent.iterdir()] == ["a.bin"], "something was left behind"
        return path.read_bytes()

    return get
