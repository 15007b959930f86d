"""Weights of networks: found on this machine, or fetched once into a cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urldefrag, urlsplit

from threedgp.fetch.cache import cache_folder, cached
from threedgp.fetch.checksums import problem_of
from threedgp.fetch.hub import list_repository
from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote, address_problem, expanded, local_path, scheme
from threedgp.fetch.table import WEIGHTS
from threedgp.runtime.errors import UserError

HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*?)(:(?P<file>[\w./-]+))?", re.ASCII)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz")
HUB_FILE = "model.safetensors"
"""Of a repository, where no other file is named."""
MODEL_FILE = re.compile(r"[^/]+\.(json|txt|model)|model(-\d+-of-\d+)?\.safetensors")
"""What `from_pretrained` reads; no pickles."""


def kind_of(given: str) -> Literal["path", "url", "hub"]:
    """What a setting for weights names. What exists on this machine is a path, whatever it looks like."""
    if scheme(given) not in (None, "file"):
        return "url"
    if scheme(given) == "file" or expanded(given).exists() or not HUB_ID.fullmatch(given):
        return "path"
    return "path" if ":" not in given and given.endswith(SUFFIXES) else "hub"


def find_weights(
    name: str,
    given: str | None = None,
    *,
    key: str | None = None,
    mirror: str | None = None,
    patience: Patience | None = None,
) -> Path:
    """A local file with the weights called `name`, whose checksum is right.

    What is fetched stays in `cache_folder()`; without a stated checksum, the one of the first time is expected from
    then on. A path is used where it is.

    Args:
        name: entry of `table.WEIGHTS`, or any name for what `given` leads to.
        given: path, file:// or https:// address (`...#sha256=...` states the checksum), hub id `owner/repo` (its
            `model.safetensors`) or `owner/repo:file`; None = the entry of the table.
        key: the setting that `given` comes from, such as `depth.weights`; None = the one of the table.
        mirror: as in `fetch`.

    Raises:
        UserError: there are none, they cannot be fetched, or they are others than expected.
    """
    entry = WEIGHTS.get(name)
    key = key or (entry.key if entry else "weights")

    def fetched(list_files: Callable[[], list[Remote]]) -> Path:
        with _naming(key):
            return cached(*cache_place(name, given), list_files, mirror, patience)

    if given is None:
        if entry is None:
            raise UserError(f"{key}: no weights of {name!r} are known; name a path, an address or a hub id.")
        return fetched(lambda: [entry.file])
    checksum = entry.file.checksum if entry and entry.only else None
    kind = kind_of(given)
    if kind == "path":
        return _checked(given, checksum, key)
    if kind == "url":
        file = _remote(given, checksum, key)
        return fetched(lambda: [file])
    repo, file_name = _hub_id(given)
    file_name = file_name or HUB_FILE

    def listed() -> list[Remote]:
        files = list_repository(repo, kind="model", mirror=mirror)
        found = [file for file in files if file.name == f"{repo}/{file_name}"]
        if not found:
            raise UserError(f"{repo} has no {file_name}; name one of its files, as {repo}:FILE.")
        return [replace(file, checksum=checksum or file.checksum) for file in found]

    return fetched(listed)


def cache_place(name: str, given: str | None = None) -> tuple[Path, str]:
    """The folder in which `find_weights` keeps what it fetches for `name` and `given`, and the file's name below it.

    `given` is None for an entry of the table, an address or a hub id.
    """
    if given is None:
        file = WEIGHTS[name].file
        digits = (file.checksum or ":any").partition(":")[2][:8]
        return cache_folder() / f"weights/{name}-{digits}", file.name
    if kind_of(given) == "url":
        digits = hashlib.sha256(given.encode()).hexdigest()[:16]
        return cache_folder() / "url" / digits, _file_name(given)
    repo, file_name = _hub_id(given)
    return cache_folder() / "hub", f"{repo}/{file_name or HUB_FILE}"


def find_model(given: str, *, key: str, mirror: str | None = None, patience: Patience | None = None) -> Path:
    """A local folder with a model as `from_pretrained` wants it: `config.json` and safetensors.

    Args:
        given: a local folder, or a hub id `owner/repo`; asked once, then the copy in the cache serves.
        key: the setting that `given` comes from, such as `depth.weights`.
        mirror: as in `fetch`.

    Raises:
        UserError: there is none, it cannot be fetched, or its weights are pickles.
    """
    if kind_of(given) != "hub":
        folder = local_path(given)
        if folder is None or not (folder / "config.json").is_file():
            raise UserError(
                f"{key}: {given} is no folder with a config.json; name one, or a hub id such as owner/repo."
            )
        return folder
    repo, file_name = _hub_id(given)
    if file_name is not None:
        raise UserError(f"{key}: the whole of {repo} is needed, not only {file_name}; leave out ':{file_name}'.")

    def listed() -> list[Remote]:
        files = list_repository(repo, kind="model", mirror=mirror)
        found = [file for file in files if MODEL_FILE.fullmatch(file.name.removeprefix(f"{repo}/"))]
        names = {file.name.removeprefix(f"{repo}/") for file in found}
        if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
            raise UserError(f"{repo} has no config.json with safetensors beside it; name another model.")
        return found

    with _naming(key):
        return cached(cache_folder() / "hub", f"{repo}/config.json", listed, mirror, patience).parent


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the setting in front of what went wrong."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _hub_id(given: str) -> tuple[str, str | None]:
    found = HUB_ID.fullmatch(given)
    assert found is not None
    return found["repo"], found["file"]


def _checked(given: str, checksum: str | None, key: str) -> Path:
    """The file of this machine that `given` names."""
    path = local_path(given)
    assert path is not None
    if not path.is_file():
        raise UserError(f"{key}: {path} does not exist; correct the path, or name an https:// address or a hub id.")
    problem = problem_of(Remote(path.name, given, checksum=checksum), path)
    if problem:
        raise UserError(f"{key}: {path} {problem}, so it is another or a damaged file; name the right one.")
    return path


def _remote(given: str, checksum: str | None, key: str) -> Remote:
    """The file at an address, whose fragment may state a checksum."""
    problem = address_problem(given)
    if problem:
        raise UserError(f"{key}: {problem}.")
    url, fragment = urldefrag(given)
    stated = fragment.replace("=", ":", 1).lower() or None
    if checksum and stated and stated != checksum:
        raise UserError(f"{key}: {given} states another checksum than {checksum}, which the weights must have.")
    return Remote(_file_name(url), url, checksum=stated or checksum)


def _file_name(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2]) or "weights"
