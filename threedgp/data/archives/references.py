"""Local files that are used in place: what stage `download` records of them, so that a later change is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError

Reference = dict[str, str | int]
"""`name` relative to a root, `size` in bytes, `stamp`: modification time in nanoseconds. Files beside their listing
have a checksum instead of a stamp, because DVC may restore them with another time."""


def refer(root: Path, names: Iterable[str]) -> list[Reference]:
    """References to the files `names` below `root`, for the manifest of the listing."""
    status = {name: (root / name).stat() for name in names}
    return [{"name": name, "size": file.st_size, "stamp": file.st_mtime_ns} for name, file in status.items()]


def check_unchanged(root: Path, files: Iterable[Reference]) -> None:
    """Make sure that the files below `root` are those of the references.

    Raises:
        UserError: one has changed or vanished.
    """
    for file in files:
        path = root / str(file["name"])
        try:
            status = path.stat()
        except OSError:
            raise changed(path, "vanished") from None
        if status.st_size != file["size"] or file.get("stamp", status.st_mtime_ns) != status.st_mtime_ns:
            raise changed(path, "changed")


def start_over_if_changed(record: Path, about: Any, *made: Path) -> None:
    """Remove the files and folders `made` by an earlier run if it was about something else than `about`.

    The name of a stage's scratch folder depends on its settings, but not on the content of files in other places.
    """
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) == about:
        return
    for path in made:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_json(record, about)


def changed(path: Path | str, what: str) -> UserError:
    """The error for a file that has `changed` or `vanished` since it was listed."""
    return UserError(
        f"{path}: {what} since stage download listed it; "
        "run `dvc repro --force --single-item download`, then `dvc repro`."
    )
