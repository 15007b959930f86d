"""Files below a folder or inside a zip, read where they lie; nothing is ever extracted."""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa

from threedgp.data.archives.pictures import LARGEST_FILE, BadPicture
from threedgp.data.archives.references import changed
from threedgp.data.archives.zip_members import DAMAGE
from threedgp.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Listed:
    """A file, by its path relative to the root with forward slashes."""

    path: str
    size: int = 0
    stamp: int = 0
    """Changes when the content does: time of the last change in nanoseconds, or the checksum in a zip."""
    problem: str | None = None
    """Why it must not be read."""


class Tree(Protocol):
    """A set of files."""

    def files(self) -> Iterator[Listed]:
        """All files, in any order. Hidden ones are left out."""
        ...

    def look(self, path: str) -> Listed | None:
        """What is known of one file, without reading it; None if there is none."""
        ...

    def load(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            BadPicture: it cannot be read.
        """
        ...


def open_tree(path: Path) -> Tree:
    """Open a folder or a zip file.

    Raises:
        UserError: there is none at `path`.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(f"dataset.path: {path} does not exist; name the folder or zip file that holds the pictures.")
    return Zip(path)


def read_listed(tree: Tree, path: str, size: int, stamp: int) -> bytes:
    """Content of a file that stage `download` listed with this size and stamp.

    Raises:
        UserError: it has changed or vanished since then.
        BadPicture: it cannot be read.
    """
    now = tree.look(path)
    if now is None or (now.size, now.stamp) != (size, stamp):
        raise changed(path, "vanished" if now is None else "changed")
    if size > LARGEST_FILE:
        raise BadPicture(f"the file has {size} bytes, more than the limit of {LARGEST_FILE}")
    return tree.load(path)


class TreeStore:
    """Images below a folder or inside a zip, listed with the schema `listing.LISTING`."""

    def __init__(self, path: Path) -> None:
        self._tree = open_tree(path)

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        for row in entries.select(["path", "size", "stamp"]).to_pylist():
            try:
                yield read_listed(self._tree, **row)
            except BadPicture as reason:
                yield reason


class Folder:
    """A folder on disk. Symbolic links that lead out of it, and linked folders, are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = root.resolve()

    def files(self) -> Iterator[Listed]:
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                found = list(os.scandir(self.root / below))
            except OSError as error:
                yield Listed(below or ".", problem=f"the folder cannot be read: {error.strerror}")
                continue
            for entry in found:
                path = f"{below}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_symlink() and entry.is_dir():
                    yield Listed(path, problem="a symbolic link to a folder is not followed")
                elif entry.is_symlink():
                    yield self.look(path) or Listed(path, problem="a symbolic link that leads nowhere")
                else:
                    yield _described(path, entry.stat(follow_symlinks=False))

    def look(self, path: str) -> Listed | None:
        place = self.root / path
        try:
            if place.is_symlink() and not place.resolve().is_relative_to(self._real_root):
                return Listed(path, problem="a symbolic link out of the folder is not followed")
            status = place.stat()
        except OSError:
            return None
        return _described(path, status)

    def load(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise BadPicture(f"cannot be read: {error.strerror}") from None


class Zip:
    """A zip file. Names that would leave a folder if extracted are refused.

    Raises:
        UserError: the file is no zip, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise UserError(
                f"dataset.path: {path} is neither a folder nor a zip file, or is damaged ({error}); fetch or pack it "
                "again."
            ) from None
        self._lock = threading.Lock()

    def files(self) -> Iterator[Listed]:
        for member in {member.filename: member for member in self._archive.infolist()}.values():
            hidden = PurePosixPath(member.filename).name.startswith(".") or member.filename.startswith("__MACOSX/")
            if not (member.filename.endswith("/") or hidden):  # is_dir() fails on an empty name
                yield self._listed(member)

    def look(self, path: str) -> Listed | None:
        try:
            return self._listed(self._archive.getinfo(path))
        except KeyError:
            return None

    def load(self, path: str) -> bytes:
        try:
            with self._lock:
                return self._archive.read(path)
        except Exception as error:  # zipfile raises nearly everything on damaged members
            raise BadPicture(f"cannot be read from the zip: {error}") from None

    @staticmethod
    def _listed(member: zipfile.ZipInfo) -> Listed:
        parts = member.filename.replace("\\", "/").split("/")
        unsafe = parts[0] == "" or ":" in parts[0] or ".." in parts
        problem = "an unsafe name (absolute, or with '..')" if unsafe else None
        return Listed(member.filename, member.file_size, member.CRC, problem)


def _described(path: str, status: os.stat_result) -> Listed:
    problem = None if stat.S_ISREG(status.st_mode) else "neither a file nor a folder"
    return Listed(path, status.st_size, status.st_mtime_ns, problem)
