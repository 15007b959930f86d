"""What the stages keep in scratch: unfinished work of the present settings, and of settings that may be abandoned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from threedgp.runtime import atomic

SCRATCH = Path(".scratch")
LOCKS = SCRATCH / "locks"


def scratch_bytes() -> int:
    """Size of all files in scratch."""
    return sum(file.lstat().st_size for file in _files(SCRATCH))


def remove_older(days: float) -> int:
    """Remove the scratch folders in which nothing has changed for `days` days, unless their stage runs. Returns their
    size in bytes."""
    oldest, freed = time.time() - days * 86400, 0
    for folder in sorted(SCRATCH.glob("[!.]*/[!.]*/")):
        if folder.parent == LOCKS:
            continue
        LOCKS.mkdir(exist_ok=True)
        try:
            with filelock.FileLock(LOCKS / f"{folder.parent.name}.lock", timeout=0):
                stats = [place.lstat() for place in (folder, *_files(folder))]
                if max(stat.st_mtime for stat in stats) <= oldest:
                    atomic.remove(folder)
                    freed += sum(stat.st_size for stat in stats[1:])
        except filelock.Timeout:
            continue
    return freed


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())
