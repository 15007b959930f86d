"""Plain tar files, read in place: what is in them and where, without unpacking anything.

Only headers are read; the content of members is passed over. Nothing is ever written under a member's name.
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
LARGEST_HEADER = 2**20
"""Bytes; a header that claims more (long names are headers of their own) is not read into memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    """Of its first byte, from the beginning of the outermost file."""
    size: int
    problem: str | None = None
    """Why it must not be read."""


def tar_members(descriptor: int, where: str, start: int = 0, size: int | None = None) -> Iterator[Member]:
    """The files in the tar that lies at bytes `start` to `start + size` of an open file; folders are passed over.

    Reads by position, so several threads may share the descriptor.

    Args:
        where: what the tar is called in messages.
        size: None = up to the end of the file.

    Raises:
        UserError: it is no plain tar, is damaged, or is cut off.
    """
    size = os.fstat(descriptor).st_size - start if size is None else size
    window = _Window(descriptor, start, size)
    try:
        with tarfile.open(fileobj=cast(io.BufferedIOBase, window), mode="r:", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # the list would grow with every member
                if member.size < 0:  # tarfile would go backwards, and find this header again
                    raise tarfile.ReadError(f"{member.name!r} claims {member.size} bytes")
                if member.offset_data + member.size > size and member.isreg():
                    raise UserError(
                        f"{where}: cut off: {member.name!r} should end at byte {member.offset_data + member.size}, and "
                        f"there are {size}; fetch it again."
                    )
                if not member.isdir():
                    yield _described(member, start)
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{where}: is no plain tar file, or damaged ({error}); fetch it again.") from None
    # Where a header makes no sense tarfile takes it for the end.
    window.seek(end)
    if window.read(BLOCK) != bytes(BLOCK):
        what = "cut off" if end >= size else "damaged"
        raise UserError(f"{where}: {what} at byte {end} of {size}, where a header should be; fetch it again.")


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
    """A part of a file, as a file of its own."""

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
        if not 0 <= count <= LARGEST_HEADER:  # less than 0 would mean all that is left
            raise tarfile.ReadError(f"a header of {count} bytes")
        left = max(self._size - self._place, 0)
        data = os.pread(self._descriptor, min(count, left), self._start + self._place)
        self._place += len(data)
        return data
