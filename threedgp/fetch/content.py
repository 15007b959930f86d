"""The bytes of a file somewhere else, from any position on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from threedgp.fetch.patience import Refused, Trouble

CHUNK = 2**20


@dataclass(frozen=True)
class Version:
    """What tells one content of an address from another."""

    total: int | None
    """Bytes of the whole file, if known."""
    etag: str | None = None
    modified: str | None = None

    @property
    def recognisable(self) -> bool:
        """Whether a later change would be noticed."""
        return bool(self.etag or self.modified)

    def continues(self, earlier: Version) -> bool:
        """Whether bytes of this version may follow bytes of `earlier`."""
        for mine, other in ((self.total, earlier.total), (self.etag, earlier.etag), (self.modified, earlier.modified)):
            if None not in (mine, other) and mine != other:
                return False
        return True


class Content(Protocol):
    """An open file."""

    start: int
    """Position of the first byte that comes; 0 although another one was asked for, where it cannot be had."""
    version: Version

    def read(self) -> bytes:
        """Some bytes, at most `CHUNK`; none at the end.

        Raises:
            Trouble: the connection broke.
        """
        ...

    def close(self) -> None: ...


class LocalContent:
    """A file of this machine.

    Raises:
        Refused: it cannot be read.
    """

    def __init__(self, path: Path, start: int) -> None:
        try:
            self._stream = path.open("rb")
        except OSError as error:
            absent = isinstance(error, FileNotFoundError)
            raise Refused(f"{path}: {error.strerror}", absent=absent) from None
        status = os.fstat(self._stream.fileno())
        self.version = Version(status.st_size, modified=str(status.st_mtime_ns))
        self.start = start if start <= status.st_size else 0
        self._stream.seek(self.start)

    def read(self) -> bytes:
        try:
            return self._stream.read(CHUNK)
        except OSError as error:
            raise Trouble(error.strerror or "cannot be read") from None

    def close(self) -> None:
        self._stream.close()
