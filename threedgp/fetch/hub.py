"""The Hugging Face hub: its address, its token, its repositories.

`huggingface_hub` lists repositories (it knows the paging, the errors and where a login is kept). The files themselves
come through the same downloader as all others, with its mirrors, its parts and its progress.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from threedgp.fetch.remote import Remote, is_web_address, local_path, require_mirror, shown
from threedgp.runtime.errors import UserError

HUB = "https://huggingface.co"
Kind = Literal["dataset", "model"]


def endpoint() -> str:
    """Address of the hub, or of the stand-in that HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def at_endpoint(url: str) -> str:
    """`url`, at the stand-in for the hub if it is an address of the hub."""
    return endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def token_for(url: str) -> str | None:
    """The token of the environment (HF_TOKEN, or `hf auth login`) for addresses of the hub; None for all others."""
    if _origin(url) is None or _origin(url) != _origin(endpoint()):
        return None
    from huggingface_hub import get_token

    return get_token()


def why_denied(url: str, code: int, error: str) -> str | None:
    """What to do when the hub lets nobody at `url`; None for other hosts.

    Args:
        code: of the HTTP answer.
        error: name that the hub gives the error, such as `GatedRepo`.
    """
    found = re.match(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/", urlsplit(at_endpoint(url)).path)
    if _origin(at_endpoint(url)) != _origin(endpoint()) or not found:
        return None
    return _terms(found[1], f"HTTP {code}" + (f" {error}" if error else ""))


def list_repository(repo: str, *, kind: Kind = "dataset", mirror: str | None = None) -> list[Remote]:
    """All files of a repository of the hub, named `owner/repo/path`, with sizes and (large files) checksums.

    Addresses name the commit, so that what is fetched is what was listed.

    Args:
        mirror: a folder that holds `owner/repo/` is listed instead of the hub.

    Raises:
        UserError: there is none, its terms were not accepted, the hub does not answer, or is none.
    """
    require_mirror(mirror)
    copy = _mirrored(repo, mirror)
    if copy is not None:
        # Hidden folders hold the books of git and of the hub's own downloader.
        return [
            Remote(f"{repo}/{path.as_posix()}", str(copy / path), (copy / path).stat().st_size)
            for path in sorted(file.relative_to(copy) for file in copy.rglob("*") if file.is_file())
            if not any(part.startswith(".") for part in path.parts)
        ]
    import httpx2
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.hf_api import RepoFile

    if not is_web_address(endpoint()):
        raise UserError(f"{repo}: HF_ENDPOINT is '{shown(endpoint())}', which is no address; correct or unset it.")
    api, page = hub.HfApi(endpoint=endpoint()), f"{'datasets/' if kind == 'dataset' else ''}{repo}"
    try:
        commit = api.repo_info(repo, repo_type=kind).sha
        tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type=kind)
        found = [entry for entry in tree if isinstance(entry, RepoFile)]
    except errors.HFValidationError:
        raise UserError(f"{repo}: this is no repository of the hub; they are called owner/name.") from None
    except errors.GatedRepoError:
        raise UserError(f"{repo}: {_terms(page, 'its terms were not accepted')}.") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{repo}: {_terms(page, 'the hub knows no such repository, or keeps it from you')}.") from None
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{repo}: the hub cannot be asked while HF_HUB_OFFLINE is set.") from None
    except (errors.HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repo}: {endpoint()} does not list it ({reason}); run the same command again later."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):  # of pages or JSON that huggingface_hub cannot read
        raise UserError(
            f"{repo}: {shown(endpoint())} does not answer as the hub does; correct HF_ENDPOINT if it is set, "
            "and see whether a proxy answers instead."
        ) from None
    return [
        Remote(
            f"{repo}/{entry.path}",
            f"{HUB}/{page}/resolve/{commit}/{quote(entry.path)}",
            entry.size,
            f"sha256:{entry.lfs.sha256}" if entry.lfs else None,
        )
        for entry in found
    ]


def _mirrored(repo: str, mirror: str | None) -> Path | None:
    """The folder of `repo` in a mirror on this machine, if there is one."""
    copy = local_path(mirror) if mirror else None
    return copy / repo if copy is not None and (copy / repo).is_dir() else None


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    """What decides who may see the token; None of what is no address."""
    if not is_web_address(url):
        return None
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _terms(page: str, reason: str) -> str:
    return f"{reason}: accept the terms at {HUB}/{page}, make a token at {HUB}/settings/tokens and put it in HF_TOKEN"
