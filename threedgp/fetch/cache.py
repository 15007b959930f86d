"""What was fetched once and stays on this machine, beside all data sets and results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import filelock

from threedgp.fetch.checksums import checksum_of, problem_of
from threedgp.fetch.download import fetch
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote, expanded
from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say


def cache_folder() -> Path:
    """Where fetched weights stay: $THREEDGP_CACHE, or ~/.cache/threedgp.

    Raises:
        UserError: it lies in the home folder of an unknown user.
    """
    folder = expanded(os.environ.get("THREEDGP_CACHE") or "~/.cache/threedgp")
    if folder.parts[0].startswith("~"):
        raise UserError(f"{folder}: '{folder.parts[0]}' is no home folder; set THREEDGP_CACHE to a folder for weights.")
    return folder


def cached(
    folder: Path,
    name: str,
    list_files: Callable[[], list[Remote]],
    mirror: str | None = None,
    patience: Patience | None = None,
) -> Path:
    """The file `name` below `folder`, with all that belongs to it; fetched unless they are there and whole.

    What came is recorded with its checksums, so that later calls need no network and notice damage. Processes that
    start together wait for the first.

    Args:
        list_files: asked once for what is to be fetched; `name` is among it.

    Raises:
        UserError: it cannot be fetched.
    """
    target = folder / name
    record = target.with_name(f"{target.name}.fetched.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target.parent}: cannot be written ({error.strerror}); set THREEDGP_CACHE to a folder for weights."
        ) from None
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        files = _recorded(record)
        if files and all((folder / file.name).is_file() for file in files):
            if not any(problem_of(file, folder / file.name) for file in files):
                return target
            say(f"{target}: damaged, and fetched again.")
        files = files or list_files()
        paths = fetch(files, folder, title=f"fetch {target.name}", mirror=mirror, patience=patience)
        for file, path in zip(files, paths, strict=True):
            if file.checksum is None and path == target:
                say(f"{path}: nobody stated a checksum; from now on it must be {checksum_of(path)}.")
        atomic.write_json(record, [_row(file, path) for file, path in zip(files, paths, strict=True)])
    return target


def is_cached(folder: Path, name: str) -> bool:
    """Whether `cached` has fetched the file `name` below `folder`; whether it is still whole is not looked at."""
    target = folder / name
    files = _recorded(target.with_name(f"{target.name}.fetched.json"))
    return bool(files) and all((folder / file.name).is_file() for file in files)


def _row(file: Remote, path: Path) -> dict[str, object]:
    return asdict(replace(file, size=path.stat().st_size, checksum=file.checksum or checksum_of(path)))


def _recorded(record: Path) -> list[Remote] | None:
    try:
        return [Remote(**row) for row in json.loads(record.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None
