"""Files to download: where they are, under which name they land, and how to verify them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from threedgp.runtime.addresses import address_problem
from threedgp.runtime.errors import UserError

CHECKSUM = re.compile("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Raises:
        UserError: the name could escape its folder, or the address or the checksum is malformed.
    """

    name: str  # relative path under which it lands, and under which a mirror has it
    url: str  # https://, http://, file:// or a plain path
    size: int | None = None  # bytes
    checksum: str | None = None  # `sha256:...` or `md5:...`, hexadecimal

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        unsafe = any(part in ("", ".", "..") or set(part) & set("\\\0\r\n") for part in parts)
        if unsafe or ":" in parts[0] or parts[0].startswith("~"):
            raise UserError(f"{self.url}: the file name {self.name!r} could escape its folder.")
        if problem := address_problem(self.url):
            raise UserError(f"{self.name}: {problem}.")
        if self.checksum is not None and not CHECKSUM.fullmatch(self.checksum):
            raise UserError(f"{self.name}: the checksum {self.checksum!r} is not sha256:... or md5:... in lowercase.")


def checksum_of(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, as `kind:hexadecimal`."""
    with path.open("rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, kind).hexdigest()}"


def mismatch(file: Remote, path: Path) -> str | None:
    """How the file at `path` differs from the size and checksum of `file`, as a phrase; None if it does not."""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size} bytes instead of {file.size}"
    if file.checksum is None:
        return None
    found = checksum_of(path, file.checksum.partition(":")[0])
    return None if found == file.checksum else f"has the checksum {found} instead of {file.checksum}"
