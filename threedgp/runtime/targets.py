"""The file on the command line that long work ends in: found to be writable before the work, not after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threedgp.runtime.errors import UserError


def require_writable(target: Path, option: str) -> None:
    """Make sure, without leaving a trace, that the file `target` of the command line's `option` can be written.

    Raises:
        UserError: it is no file, or its folder takes none.
    """
    with writing(target, option):
        if target.exists() and not target.is_file():
            raise UserError(f"{option}: {target} is not a file; name a file to write.")
        # Missing parents are made when the file is written. A trial knows more than the mode bits: it sees read-only
        # disks and folders such as /proc.
        existing = next(place for place in target.absolute().parents if place.exists())
        tempfile.TemporaryFile(dir=existing).close()


@contextmanager
def writing(target: Path, option: str) -> Iterator[None]:
    """Name `target` and `option` in one sentence where the body cannot write.

    Raises:
        UserError: the body raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{option}: {target} cannot be written ({error.strerror or error}); name a file in another folder."
        ) from None
