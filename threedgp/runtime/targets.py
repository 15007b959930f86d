"""Output files named on the command line, checked before long work and not after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threedgp.runtime.errors import UserError


def require_writable(target: Path, option: str) -> None:
    """Check that the file `target`, given as `option`, can be written, without creating it. Raises UserError if it is
    no file, or its folder takes none."""
    with writing(target, option):
        if target.exists() and not target.is_file():
            raise UserError(f"{option}: {target} is not a file; choose another path.")
        try_writing(target.parent)


def try_writing(folder: Path) -> None:
    """Write into `folder`, or where it is missing into what will hold it; leaves nothing behind.

    Raises:
        OSError: this is not possible. A trial finds more than permission bits do: read-only disks, /proc.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    tempfile.TemporaryFile(dir=existing).close()


@contextmanager
def writing(target: Path, option: str) -> Iterator[None]:
    """Turn an OSError of the body into a UserError that names `target` and `option`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{option}: {target} cannot be written ({error.strerror or error}); "
            "solve this and run the same command again, or choose another folder."
        ) from None
