"""Extraction of a single file from a zip, under a name that the caller chooses."""

from __future__ import annotations

import errno
import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

BLOCK = 16 * 2**20
ENCRYPTED = 1
"""Bit in the flags of a member."""
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


def extract_member(archive: Path, name: str, target: Path) -> int:
    """Write the only member of `archive` whose file name is `name` to `target`; its folder is ignored.

    Returns:
        its CRC-32, which has been verified.

    Raises:
        UserError: the archive is damaged, has no such member or several, or there is too little disk space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            member = _only_member(opened, archive, name)
            require_free(target.parent, member.file_size)
            blocks = -(-member.file_size // BLOCK)
            with (
                atomic_path(target) as temporary,
                opened.open(member) as source,
                temporary.open("wb") as sink,
                progress(f"download: unpacking {name}", blocks * BLOCK >> 20, "MiB") as bar,
            ):
                while block := source.read(BLOCK):  # zipfile checks the size and the CRC
                    sink.write(block)
                    bar.advance(BLOCK >> 20)
            return member.CRC
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a position before the file
            raise
        raise UserError(f"{archive}: is not a zip file, or is damaged ({error}); download it again.") from None


def _only_member(opened: zipfile.ZipFile, archive: Path, name: str) -> zipfile.ZipInfo:
    found = [member for member in opened.infolist() if PurePosixPath(member.filename).name == name]
    if len(found) != 1:
        raise UserError(f"{archive}: holds {len(found)} files called {name}, not one; download it again.")
    if stat.S_ISLNK(found[0].external_attr >> 16) or found[0].flag_bits & ENCRYPTED:
        raise UserError(f"{archive}: {found[0].filename} is a link or is encrypted; download it again.")
    return found[0]
