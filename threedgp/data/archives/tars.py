"""Uncompressed tar files, read in place: their members and where these are, without unpacking.

Only headers are read. Nothing is ever written under a member's name.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from threedgp.runtime.errors import UserError

BLOCK = 512
MAX_HEADER = 2**20
"""Bytes; a header that claims more (long names are separate headers) is not read into memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    """Position of its first byte in the outermost file."""
    size: int
    problem: str | None = None
    """Why it must not be read."""


def tar_members(descriptor: int, where: str, start: int = 0, size: int | None = None) -> Iterator[Member]:
    """Yield the files, not the folders, in the tar at bytes `start` to `start + size` of an open file.

    Reads by position, so that several threads may share the descriptor.

    Args:
        where: name of the tar in messages.
        size: None = up to the end of the file.

    Raises:
        UserError: it is not an uncompressed tar, is damaged, or is truncated.
    """
    size = os.fstat(descriptor).st_size - start if size is None else size
    window = _Window(descriptor, start, size)
    try:
        with tarfile.open(fileobj=cast(io.BufferedIOBase, window), mode="r:", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # or the list would grow with every member
                if member.size < 0:  # tarfile would seek back and find this header again
                    raise tarfile.ReadError(f"{member.name!r} claims {member.size} bytes")
                if member.offset_data + member.size > size and member.isreg():
                    raise UserError(
                        f"{where}: truncated: {member.name!r} should end at byte {member.offset_data + member.size} of "
                        f"{size}; download it again."
                    )
                if not member.isdir():
                    yield _described(member, start)
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{where}: is not a plain tar file, or is damaged ({error}); download it again.") from None
    # tarfile takes an invalid header for the end.
    window.seek(end)
    if window.read(BLOCK) != bytes(BLOCK):
        what = "truncated" if end >= size else "damaged"
        raise UserError(f"{where}: {what} at byte {end} of {size}, where a header should be; download it again.")


def _described(member: tarfile.TarInfo, start: int) -> Member:
    name = member.name.encode("utf-8", "backslashreplace").decode()
    problem = None
    if name != member.name:
        problem = "the file name is not UTF-8"
    elif member.name.startswith("/") or ".." in member.name.split("/"):
        problem = "an unsafe name (absolute, or with '..')"
    elif member.issym() or member.islnk():
        problem = "a link is not followed"
    elif member.issparse():
        problem = "a sparse file is not read"
    elif not member.isreg():
        problem = "neither a file nor a folder"
    return Member(name, start + member.offset_data, member.size, problem)


class _Window(io.RawIOBase):
    """A section of a file as a file object."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._place = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MAX_HEADER:  # negative: all that is left
            raise tarfile.ReadError(f"a header of {count} bytes")
        left = max(self._size - self._place, 0)
        data = os.pread(self._descriptor, min(count, left), self._start + self._place)
        self._place += len(data)
        return data
