"""Addresses of files: http(s):// and file:// URLs, and plain paths."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

SCHEMES = ("http", "https", "file")


def scheme(url: str) -> str | None:
    """`https` for a URL, None for a plain path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found[1].lower() if found else None


def is_web_address(url: str) -> bool:
    """Whether `url` is a well-formed http or https URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, or an incomplete IPv6 address
        return False


def address_problem(url: str) -> str | None:
    """Why `url` is neither a URL nor a path, with what to write instead; None if it is one."""
    kind = scheme(url)
    if kind not in (None, *SCHEMES):
        return (
            f"'{shown(url)}' has an unknown scheme; give an address that begins with https://, http:// or file://, "
            "or a path"
        )
    if not url or (kind in ("http", "https") and not is_web_address(url)):
        return f"'{shown(url)}' is not a valid address; write https://host/path or https://host:8080/path, or a path"
    return None


def mirror_problem(mirror: str | None) -> str | None:
    """Why `machine.mirror` cannot be used, with what to do; None if it can, or if it is null."""
    if mirror is None:
        return None
    problem, folder = address_problem(mirror), local_path(mirror)
    if problem is None and folder is not None and not folder.is_dir():
        problem = f"there is no folder '{mirror}'; correct it, or set it to null to do without a mirror"
    return problem and f"machine.mirror: {problem}"


def copied_project() -> Path | None:
    """The project of which the working directory is a temporary copy, as ``dvc exp run --temp`` makes it; or None."""
    root, is_copy, _ = os.getcwd().partition("/.dvc/tmp/exps/")
    return Path(root or "/") if is_copy else None


def expanded(path: str) -> Path:
    """`path` with `~` expanded; the home folder of an unknown user stays as it is, and does not exist.

    In a temporary copy of a project, which holds only what git and DVC track, a relative path leads to the project.
    """
    place = Path(os.path.expanduser(path))
    root = copied_project()
    return root / place if root and not place.exists() else place


def local_path(url: str) -> Path | None:
    """The path that a plain path or a file:// URL names; None for other URLs."""
    kind = scheme(url)
    if kind is None:
        return expanded(url)
    # urlsplit would refuse an incomplete IPv6 address before the path.
    return Path(unquote(re.sub(r"^[^/]*//[^/?#]*|[?#].*", "", url))) if kind == "file" else None


def shown(url: str) -> str:
    """`url` without what may be secret in it: a password, or a signature in its query."""
    if scheme(url) in (None, "file"):
        return url
    if not is_web_address(url):  # the password may be what makes it invalid
        return re.split(r"[?#]", re.sub(r"(?<=://).*@", "", url))[0]
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
