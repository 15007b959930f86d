"""The cache of weights, and processes that use it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server

from threedgp.fetch.weights import cache_root, find_weights
from threedgp.runtime.errors import UserError

SCRIPT = """
import sys
from threedgp.fetch.weights import find_weights
print(find_weights(sys.argv[1], key="depth.weights"))
"""


def test_processes_that_start_together_fetch_once(server: Server, tmp_path: Path, root: Path) -> None:
    url = server.script("/w.pth", Answer(bytes(1000)))
    command = [sys.executable, "-c", SCRIPT, url]
    processes = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate(timeout=300)[0].splitlines()[-1] for process in processes}
    assert len(server.gets()) == 1
    [path] = map(Path, found)
    assert path.is_relative_to(tmp_path / "cache") and path.read_bytes() == bytes(1000)


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("THREEDGP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); set THREEDGP_CACHE"):
        find_weights("https://example.org/w.pth", key="depth.weights")


def test_cache_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREEDGP_CACHE", "~nouser/there")
    with pytest.raises(UserError, match="'~nouser' is not a home folder; set THREEDGP_CACHE"):
        cache_root()


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREEDGP_CACHE", "~/there")
    assert cache_root() == Path.home() / "there"
    monkeypatch.delenv("THREEDGP_CACHE")
    assert cache_root() == Path.home() / ".cache/threedgp"
