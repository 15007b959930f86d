"""Telling whether a file is the right one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Event
from typing import Any

from threedgp.fetch.content import CHUNK
from threedgp.fetch.patience import Stopped
from threedgp.fetch.remote import Remote


def new_hash(checksum: str | None) -> Any:
    """The running hash of the kind that `checksum` names; sha256 where there is none."""
    kind = checksum.partition(":")[0] if checksum else "sha256"
    return hashlib.new(kind, usedforsecurity=False)


def written(running: Any) -> str:
    """The checksum that a running hash has come to, as `sha256:...`."""
    return f"{running.name}:{running.hexdigest()}"


def read_into(running: Any, path: Path, stop: Event | None = None) -> None:
    """Feed a whole file to a running hash.

    Raises:
        Stopped: `stop` was set.
    """
    with path.open("rb") as stream:
        while data := stream.read(CHUNK):
            if stop is not None and stop.is_set():
                raise Stopped
            running.update(data)


def checksum_of(path: Path, like: str | None = None, stop: Event | None = None) -> str:
    """Checksum of a file, of the same kind as `like`; sha256 if None."""
    running = new_hash(like)
    read_into(running, path, stop)
    return written(running)


def problem_of(file: Remote, path: Path, stop: Event | None = None) -> str | None:
    """What tells the file `path` from the one that `file` describes, as a phrase; None if nothing does."""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size} bytes instead of {file.size}"
    if file.checksum is None:
        return None
    found = checksum_of(path, file.checksum, stop)
    return None if found == file.checksum else f"has the checksum {found} instead of {file.checksum}"
