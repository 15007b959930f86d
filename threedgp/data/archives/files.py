"""Files below a folder or inside a zip or tar, read in place; nothing is ever extracted."""

from __future__ import annotations

import lzma
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa

from threedgp.data.archives.pictures import BadPicture, check_size
from threedgp.data.archives.references import changed
from threedgp.data.archives.tars import Member, tar_members
from threedgp.runtime.errors import UserError

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # an unknown version or compression
    ValueError,  # a name that is not valid UTF-8
    EOFError,
    OSError,
)
"""Exceptions of the standard library for damaged zips."""
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file, by its path relative to the root with forward slashes."""

    path: str
    size: int = 0
    stamp: int = 0
    """Changes when the content does: modification time in nanoseconds (of a tar, the tar's), or a zip's CRC."""
    problem: str | None = None
    """Why it must not be read."""


class Tree(Protocol):
    """A set of files."""

    def files(self) -> Iterator[FileEntry]:
        """All files, in any order. Hidden ones are left out."""
        ...

    def stat(self, path: str) -> FileEntry | None:
        """The entry of one file, without reading it; None if there is none."""
        ...

    def load(self, path: str) -> bytes | BadPicture:
        """Content of a file, or why it cannot be read."""
        ...


def open_tree(path: Path) -> Tree:
    """Open the folder, zip or uncompressed tar at `path`.

    Raises:
        UserError: it does not exist, or is neither of them.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(f"dataset.path: {path} does not exist; name the folder, zip or tar that holds the images.")
    if path.name.lower().endswith(COMPRESSED_TARS):
        raise UserError(f"dataset.path: {path} is compressed, so that nothing in it can be found; unpack it.")
    return Tar(path) if path.suffix.lower() == ".tar" else Zip(path)


class TreeStore:
    """Files below a folder or in an archive, found by the columns `path`, `size` and `stamp`, with a prefix."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._tree, self._columns = open_tree(path), [f"{prefix}{name}" for name in ("path", "size", "stamp")]

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        for path, size, stamp in zip(*(entries[name].to_pylist() for name in self._columns), strict=True):
            now = self._tree.stat(path)
            if now is None or (now.size, now.stamp) != (size, stamp):
                raise changed(path, "vanished" if now is None else "changed")
            yield check_size(size) or self._tree.load(path)


class Folder:
    """A folder. Symbolic links out of it and links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = root.resolve()

    def files(self) -> Iterator[FileEntry]:
        failed: list[OSError] = []
        for folder, subfolders, names in os.walk(self.root, onerror=failed.append):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            links = [name for name in subfolders if os.path.islink(f"{folder}/{name}")]
            for name in names + links:
                if not name.startswith("."):
                    path = os.path.relpath(f"{folder}/{name}", self.root)
                    yield self.stat(path) or FileEntry(path, problem="a broken symbolic link")
        for error in failed:
            path = os.path.relpath(error.filename, self.root)
            yield FileEntry(path, problem=f"the folder cannot be read: {error.strerror}")

    def stat(self, path: str) -> FileEntry | None:
        place = f"{self.root}/{path}"
        try:
            status = os.stat(place)
        except OSError:
            return None
        problem = None
        if stat.S_ISDIR(status.st_mode):
            problem = "a symbolic link to a folder is not followed"
        elif not stat.S_ISREG(status.st_mode):
            problem = "neither a file nor a folder"
        elif os.path.islink(place) and not Path(place).resolve().is_relative_to(self._real_root):
            return FileEntry(path, problem="a symbolic link out of the folder is not followed")
        return FileEntry(path, status.st_size, status.st_mtime_ns, problem)

    def load(self, path: str) -> bytes | BadPicture:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            return BadPicture(f"cannot be read: {error.strerror}")


def _is_hidden(path: str) -> bool:
    """Whether a member of an archive, or a folder of it, is hidden."""
    return any(part.startswith(".") for part in PurePosixPath(path).parts if part != "..")


class Zip:
    """A zip file. Members whose names would escape a folder are refused."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise UserError(
                f"dataset.path: {path} is neither a folder nor a zip file, or is damaged ({error}); download or "
                "pack it again."
            ) from None
        # Some Windows programs write backslashes.
        self._members = {member.filename.replace("\\", "/"): member for member in self._archive.infolist()}
        self._lock = threading.Lock()

    def files(self) -> Iterator[FileEntry]:
        for path, member in self._members.items():
            hidden = _is_hidden(path) or path.startswith("__MACOSX/")
            if not (path.endswith("/") or hidden):
                yield self._entry(path, member)

    def stat(self, path: str) -> FileEntry | None:
        member = self._members.get(path)
        return member and self._entry(path, member)

    def load(self, path: str) -> bytes | BadPicture:
        try:
            with self._lock:
                return self._archive.read(self._members[path])
        except Exception as error:  # damaged members raise many kinds of exceptions
            return BadPicture(f"cannot be read from the zip: {error}")

    @staticmethod
    def _entry(path: str, member: zipfile.ZipInfo) -> FileEntry:
        parts = path.split("/")
        unsafe = parts[0] == "" or ":" in parts[0] or ".." in parts
        problem = "an unsafe name (absolute, or with '..')" if unsafe else None
        return FileEntry(path, member.file_size, member.CRC, problem)


class Tar:
    """An uncompressed tar. Links in it are not followed. Of members with the same name the last counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._stamp = path.stat().st_mtime_ns
        self._members = {member.name.removeprefix("./"): member for member in tar_members(path)}

    def files(self) -> Iterator[FileEntry]:
        for path, member in self._members.items():
            if not _is_hidden(path):
                yield self._entry(path, member)

    def stat(self, path: str) -> FileEntry | None:
        member = self._members.get(path)
        return member and self._entry(path, member)

    def load(self, path: str) -> bytes | BadPicture:
        member = self._members[path]
        try:  # by position, because threads share the descriptor
            return os.pread(self._file.fileno(), member.size, member.offset)
        except OSError as error:
            return BadPicture(f"cannot be read from the tar: {error.strerror}")

    def _entry(self, path: str, member: Member) -> FileEntry:
        return FileEntry(path, member.size, self._stamp, member.problem)
