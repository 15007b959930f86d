"""Atomic writing: neither a reader nor a run after a crash ever finds a partial file."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import amount


def _sync(path: Path) -> None:
    """Flush `path`, a file or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sibling(target: Path, mark: str) -> Path:
    # The suffix stays, since many writers choose the format by it. The name is the same in every run, so that the
    # next run overwrites what a killed one left behind.
    return target.with_name(f".{target.stem}.{mark}{target.suffix}")


def _umask() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"^Umask:\s*(\d+)", status, re.MULTILINE)[1], 8)
    except (OSError, TypeError):  # not Linux: setting it is the only way to read it
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def _set_mode(path: Path) -> None:
    """Give a file the permissions that `open` would: safetensors and `tempfile` make files that only their owner reads.
    Hard links keep theirs, which they share with another file."""
    status = path.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        path.chmod(0o666 & ~_umask())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; the file written there becomes `target` on success.

    Creates the parents of `target`. The umask determines the permissions of the file, whatever wrote it. On an error
    the temporary file is removed and `target` stays unchanged.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target, "partial")
    try:
        yield temporary
        _set_mode(temporary)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except BaseException:
        _remove(temporary)
        raise


def remove_partial(folder: Path, names: str) -> None:
    """Remove what killed runs have left of the files `names` in `folder`, a pattern such as ``state-*.pt``: a later run
    may never write a file of the same name."""
    for left in folder.glob(_sibling(Path(names), "partial").name):
        left.unlink()


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    """Write `value` to `target` as indented JSON atomically; NaN and infinity raise ValueError."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(target, text.encode(errors="backslashreplace"))  # JSON's own escape, for file names that are not UTF-8


def remove(place: Path) -> None:
    """Remove a file or folder; a folder is renamed first, so that no part of it is found if this is interrupted."""
    gone = _sibling(place, "removed")
    _remove(gone)
    place.rename(gone)
    _remove(gone)


def _link(source: str | Path, target: str | Path) -> None:
    """Make `target` another name of the file `source`, or a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def publish(built: Path, target: Path, *, link: bool = False) -> None:
    """Move `built`, a folder or file, to `target`, replacing what is there.

    A folder cannot replace another one in a single step, so the old one is renamed first and removed at the end. From
    another file system, `built` is copied beside `target` before anything else.

    Args:
        link: keep `built`, too; both names share the content of the files.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = _sibling(target, "fresh"), _sibling(target, "old")
    _remove(fresh)
    _remove(old)
    if link:
        shutil.copytree(built, fresh, True, copy_function=_link) if built.is_dir() else _link(built, fresh)
        built = fresh
    elif built.stat().st_dev != target.parent.stat().st_dev:
        built = Path(shutil.move(built, fresh))
    if os.path.lexists(target):
        target.rename(old)
    built.rename(target)
    _sync(target.parent)
    _remove(old)


def require_free(folder: Path, size: int) -> None:
    """Check that `size` bytes are free on the disk of `folder`, which need not exist yet. Raises UserError if less is
    free."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise UserError(
            f"{folder}: about {amount(size)} are needed and {amount(free)} are free; "
            "free some space and run the same command again."
        )
