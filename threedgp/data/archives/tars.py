"""Members of uncompressed tars, found by their headers; nothing is unpacked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from threedgp.runtime.errors import UserError

MAX_HEADER = 2**20
"""Maximum bytes read at once; tarfile reads headers only, of which a hostile one claims any size."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int  # position of its first byte in the outermost file
    size: int
    problem: str | None = None  # why it must not be read


class _Headers(io.FileIO):
    """A file of which tarfile cannot read more than a header."""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def tar_members(path: Path, inner: Member | None = None) -> Iterator[Member]:
    """Yield the files, not the folders, in the tar at `path`, or in its member `inner` that is a tar itself.

    Raises:
        UserError: it is not an uncompressed tar, is damaged, or is truncated.
    """
    where = f"{path} ({inner.name})" if inner else str(path)
    with _Headers(path) as file:
        start = file.seek(inner.offset if inner else 0)
        end = start + inner.size if inner else path.stat().st_size
        try:
            with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # or the list would grow with every member
                    if member.size < 0:  # tarfile before Python 3.11.14 would read this header again and again
                        raise tarfile.ReadError(f"{member.name!r} claims {member.size} bytes")
                    if member.offset_data + member.size > end and member.isreg():
                        raise UserError(f"{where}: truncated within {member.name!r}; download it again.")
                    if not member.isdir():
                        yield _described(member)
                place = archive.offset
        except UserError:
            raise
        except Exception as error:  # tarfile raises many kinds: sizes overflow, chains of long names recurse
            raise UserError(f"{where}: is not a plain tar file, or is damaged ({error}); download it again.") from None
        # tarfile takes an invalid header for the end.
        file.seek(place)
        if place >= end or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            what = "truncated" if place >= end else "damaged"
            raise UserError(f"{where}: {what} at byte {place - start}, where a header should be; download it again.")


def _described(member: tarfile.TarInfo) -> Member:
    name = member.name.encode("utf-8", "backslashreplace").decode()
    problem = None
    if name != member.name:
        problem = "the file name is not UTF-8"
    elif member.name.startswith("/") or ".." in member.name.split("/"):
        problem = "an unsafe name (absolute, or with '..')"
    elif member.issym() or member.islnk():
        problem = "a link is not followed"
    elif member.issparse() or not member.isreg():
        problem = "neither a plain file nor a folder"
    return Member(name, member.offset_data, 0 if problem else member.size, problem)
