"""What is to be fetched: where it is, under which name it lands, and how to tell that it is the right file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from threedgp.errors import UserError

DIGITS = {"sha256": 64, "md5": 32}
"""Kinds of checksums, and how many hexadecimal digits they have."""
SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class Remote:
    """A file somewhere else.

    Raises:
        UserError: a name that would leave the folder, an address or a checksum of an unknown kind.
    """

    name: str
    """File name under which it lands, and by which a mirror is searched; folders are separated by `/`."""
    url: str
    """https://, http://, file:// or a plain path."""
    size: int | None = None
    """Bytes."""
    checksum: str | None = None
    """`sha256:...` or `md5:...`, hexadecimal."""

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        hidden = any(part in ("", ".", "..") or set(part) & set("\\\0\r\n") for part in parts)
        if hidden or ":" in parts[0] or parts[0].startswith("~"):
            raise UserError(f"{self.url}: the file name {self.name!r} could leave its folder; it is refused.")
        if scheme(self.url) not in (None, *SCHEMES):
            raise UserError(f"{self.url}: give an address that begins with https://, http:// or file://, or a path.")
        if self.checksum is not None:
            kind, _, digits = self.checksum.partition(":")
            if not re.fullmatch(f"[0-9a-f]{{{DIGITS.get(kind, 0)}}}", digits) or not digits:
                raise UserError(
                    f"{self.name}: the checksum {self.checksum!r} is not sha256:... or md5:... in lower case."
                )


def scheme(url: str) -> str | None:
    """`https` of an address, None of a plain path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found[1].lower() if found else None


def local_path(url: str) -> Path | None:
    """The path that a plain path or a file:// address names; None of addresses on other machines."""
    kind = scheme(url)
    if kind is None:
        return Path(url).expanduser()
    return Path(unquote(urlsplit(url).path)) if kind == "file" else None


def shown(url: str) -> str:
    """An address without what may be secret in it: a password, or a signature behind the question mark."""
    if scheme(url) in (None, "file"):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
