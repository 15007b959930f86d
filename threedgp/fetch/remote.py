"""What is to be fetched: where it is, under which name it lands, and how to tell that it is the right file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from threedgp.runtime.errors import UserError

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
        problem = address_problem(self.url)
        if problem:
            raise UserError(f"{self.name}: {problem}.")
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


def is_web_address(url: str) -> bool:
    """Whether `url` is an address of http or https, with a host, and with a port that can be if it names one."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a bad port, or of half an IPv6 address
        return False


def address_problem(url: str) -> str | None:
    """Why `url` is nothing that could be fetched, with what to write instead; None if it is an address or a path."""
    kind = scheme(url)
    if kind not in (None, *SCHEMES):
        return (
            f"'{shown(url)}' is of no known kind; give an address that begins with https://, http:// or file://, "
            "or a path"
        )
    if not url or (kind in ("http", "https") and not is_web_address(url)):
        return f"'{shown(url)}' is no address; write it as https://host/path or https://host:8080/path, or give a path"
    return None


def mirror_problem(mirror: str | None) -> str | None:
    """Why `machine.mirror` cannot serve, with what to do; None if it can, whichever files it has, or if it is null."""
    if mirror is None:
        return None
    problem, folder = address_problem(mirror), local_path(mirror)
    if problem is None and folder is not None and not os.path.isdir(folder):
        problem = f"there is no folder '{mirror}'; correct it, or set it to null to do without a mirror"
    return problem and f"machine.mirror: {problem}"


def require_mirror(mirror: str | None) -> None:
    """Refuse a mirror that would never have anything.

    Raises:
        UserError: its folder does not exist, or its address is none.
    """
    problem = mirror_problem(mirror)
    if problem:
        raise UserError(f"{problem}.")


def expanded(path: str) -> Path:
    """`path` with the home folder for its `~`; of an unknown user it stays as it is, and so does not exist."""
    return Path(os.path.expanduser(path))


def local_path(url: str) -> Path | None:
    """The path that a plain path or a file:// address names; None of addresses on other machines."""
    kind = scheme(url)
    if kind is None:
        return expanded(url)
    # Not by urlsplit, which refuses half an IPv6 address in front of the path.
    return Path(unquote(re.sub(r"^[^/]*//[^/?#]*|[?#].*", "", url))) if kind == "file" else None


def shown(url: str) -> str:
    """An address without what may be secret in it: a password, or a signature behind the question mark."""
    if scheme(url) in (None, "file"):
        return url
    if not is_web_address(url):  # the password may be what makes it none
        return re.split(r"[?#]", re.sub(r"(?<=://).*@", "", url))[0]
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
