"""Files that DVC writes in place: a kill at that moment leaves them damaged, and every DVC command then fails."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import filelock
import yaml

from threedgp.commands.scratch import LOCKS
from threedgp.runtime.errors import UserError

LOCK_FILE, READERS = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
BUSY = Path(".dvc/tmp/lock")
"""Locked while DVC runs, except while it waits for a stage, which has a lock in scratch."""

ASIDE = Path(".dvc/tmp/damaged")
"""Folder that damaged files are moved to."""
REPAIR = "DVC was killed while it wrote this file; run `threedgp doctor --repair`, which loses no result"


def damaged_files() -> list[Path]:
    """The files of DVC in the working directory that it refuses to read."""
    return [
        file for file, is_whole in ((LOCK_FILE, _is_lock), (READERS, _is_json)) if file.exists() and not is_whole(file)
    ]


def repair() -> list[Path]:
    """Move damaged files to `ASIDE`, as DVC does without them; returns their names.

    Raises:
        UserError: DVC or a stage is running.
    """
    damaged = damaged_files()
    with ExitStack() as stack:
        for lock in [BUSY, *sorted(LOCKS.glob("*.lock"))] if damaged else []:
            try:
                stack.enter_context(filelock.FileLock(lock, timeout=0))
            except filelock.Timeout:
                raise UserError(f"{lock}: DVC or a stage is running; wait until it ends, or stop it.") from None
        for file in damaged:
            ASIDE.mkdir(parents=True, exist_ok=True)
            file.replace(ASIDE / file.name)
    return damaged


def _is_json(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except ValueError:
        return False


def _is_lock(file: Path) -> bool:
    from dvc.schema import LOCKFILE_SCHEMA
    from voluptuous import Invalid, Schema

    try:
        Schema(LOCKFILE_SCHEMA)(yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, Invalid):
        return False
    return True
