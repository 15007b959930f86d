"""Weights of networks: on this machine, or downloaded once into a cache."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urldefrag, urlsplit

import filelock

from threedgp.fetch import hub
from threedgp.fetch.download import download
from threedgp.fetch.http import RetryPolicy
from threedgp.fetch.remote import Remote, checksum_of, mismatch
from threedgp.runtime import atomic
from threedgp.runtime.addresses import address_problem, expanded, local_path, scheme
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say

HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*?)(:(?P<file>[\w./-]+))?", re.ASCII)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz")
DEFAULT_HUB_FILE = "model.safetensors"


def kind_of(given: str) -> Literal["path", "url", "hub"]:
    """What a setting for weights names. What exists on this machine is a path, whatever it looks like."""
    if scheme(given) not in (None, "file"):
        return "url"
    if scheme(given) == "file" or expanded(given).exists() or not HUB_ID.fullmatch(given):
        return "path"
    return "path" if ":" not in given and given.endswith(SUFFIXES) else "hub"


def find_weights(
    given: str,
    *,
    key: str,
    checksum: str | None = None,
    mirror: str | None = None,
    policy: RetryPolicy | None = None,
) -> Path:
    """A local file with weights.

    Downloads are cached. If no checksum is stated for a URL, that of the first download is required from then on.

    Args:
        given: path, file:// or https:// URL (`...#sha256=...` states the checksum), or hub id `owner/repo:file`, where
            the file is `model.safetensors` by default.
        key: the setting that `given` comes from, such as `depth.weights`.
        checksum: `sha256:...` that the file must have.
        mirror: folder or URL where the file is looked for first.

    Raises:
        UserError: there are no such weights, they cannot be downloaded, or their checksum is wrong.
    """
    with _prefixed(key):
        kind = kind_of(given)
        if kind == "url":
            return _download_once(given, checksum, mirror, policy)
        if kind == "hub":
            repo, file_name = _hub_id(given)
            path = hub.download_file(repo, file_name or DEFAULT_HUB_FILE, mirror=mirror)
        else:
            path = local_path(given)
        if not path.is_file():
            raise UserError(f"{path} does not exist; correct the path, or name an https:// URL or a hub id.")
        if problem := mismatch(Remote(path.name, str(path), checksum=checksum), path):
            raise UserError(f"{path} {problem}, so it is another or a damaged file; name the right one.")
        return path


def cached_weights(given: str) -> Path | None:
    """The file that `find_weights` has downloaded from the URL or hub id `given`; None if it has not."""
    if kind_of(given) == "hub":
        repo, file_name = _hub_id(given)
        return hub.cached_file(repo, file_name or DEFAULT_HUB_FILE)
    path = _cache_place(given)
    return path if path.is_file() else None


def find_model(given: str, *, key: str, mirror: str | None = None, pipeline: bool = False) -> Path:
    """A local folder with a model as `from_pretrained` reads it: `config.json` and safetensors.

    `given` is such a folder, or a hub id `owner/repo`; see `find_weights`. A `pipeline` has `model_index.json`.

    Raises:
        UserError: there is none, it cannot be downloaded, or its weights are pickles.
    """
    with _prefixed(key):
        if kind_of(given) != "hub":
            folder, index = local_path(given), "model_index.json" if pipeline else "config.json"
            if folder is None or not (folder / index).is_file():
                raise UserError(f"{given} is not a folder with a {index}; name one, or a hub id such as owner/repo.")
            return folder
        repo, file_name = _hub_id(given)
        if file_name is not None:
            raise UserError(f"all of {repo} is needed, not only {file_name}; leave out ':{file_name}'.")
        return hub.download_model(repo, mirror=mirror, pipeline=pipeline)


def cache_root() -> Path:
    """Folder of downloaded weights: $THREEDGP_CACHE, or ~/.cache/threedgp."""
    folder = expanded(os.environ.get("THREEDGP_CACHE") or "~/.cache/threedgp")
    if folder.parts[0].startswith("~"):
        raise UserError(f"{folder}: '{folder.parts[0]}' is not a home folder; set THREEDGP_CACHE to another folder.")
    return folder


def _cache_place(url: str) -> Path:
    """Where the cache has the file at `url`."""
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "weights"
    return cache_root() / "url" / hashlib.sha256(url.encode()).hexdigest()[:16] / name


def _download_once(given: str, checksum: str | None, mirror: str | None, policy: RetryPolicy | None) -> Path:
    """Path of the file at the URL `given`, from the mirror or the cache; one process at a time downloads it there."""
    if problem := address_problem(given):
        raise UserError(f"{problem}.")
    url, fragment = urldefrag(given)
    stated = fragment.replace("=", ":", 1).lower() or None
    if checksum and stated and stated != checksum:
        raise UserError(f"{given} states another checksum than {checksum}, which the weights must have.")
    place = _cache_place(given)
    file = Remote(place.name, url, checksum=stated or checksum)
    folder, record = place.parent, place.with_name(f"{place.name}.checksum")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); set THREEDGP_CACHE to another folder"
        raise UserError(f"{folder}: {reason}.") from None
    with filelock.FileLock(folder / f".{file.name}.lock"):
        if file.checksum is None and record.is_file():
            file = Remote(file.name, url, checksum=record.read_text().strip())
        path = download(file, folder, title=f"download {file.name}", mirror=mirror, policy=policy)
        if file.checksum is None and path == place:
            found = checksum_of(path)
            say(f"{path}: no checksum was stated; from now on it must be {found}.")
            atomic.write_bytes(record, f"{found}\n".encode())
    return path


def _hub_id(given: str) -> tuple[str, str | None]:
    found = HUB_ID.fullmatch(given)
    assert found is not None
    return found["repo"], found["file"]


@contextmanager
def _prefixed(key: str) -> Iterator[None]:
    """Put the setting in front of the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
