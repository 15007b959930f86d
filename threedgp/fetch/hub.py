"""Data sets and models of the Hugging Face hub.

`huggingface_hub` does the work: resuming, tokens, its cache, and other endpoints (HF_ENDPOINT). Added here are the
folder `machine.mirror`, which is looked into first, and a UserError that says what to do.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils import disable_progress_bars

from threedgp.fetch.remote import Remote, mismatch
from threedgp.runtime.addresses import is_web_address, local_path, mirror_problem, shown
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError, explained
from threedgp.runtime.progress import progress

HUB = "https://huggingface.co"
MODEL_FILES = ["*.json", "*.txt", "*.model", "model*.safetensors"]
"""Files that `from_pretrained` reads; no pickles."""
PIPELINE_FILES = [
    f"{part}/{name}"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    for name in ("*.json", "*.txt", "model*.safetensors", "diffusion_pytorch_model*.safetensors")
]
"""The same for a diffusion model, besides its ``model_index.json``."""


def endpoint() -> str:
    """Address of the hub, or of the server that HF_ENDPOINT names instead."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def at_endpoint(url: str) -> str:
    """`url`, at the server that HF_ENDPOINT names if it is an address of the hub."""
    return endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def download_dataset(
    repo: str, folder: Path, choose: Callable[[Sequence[str]], Sequence[str]], *, mirror: str | None = None
) -> list[Remote]:
    """Download files of a dataset repository into `folder`; those that are complete are kept.

    Args:
        choose: selects files among the paths of all files in the repository.
        mirror: a folder that holds `owner/name/` serves instead of the hub; its files are linked, or copied.

    Returns:
        the files, named by their paths in the repository. Small files and those of a mirror have no checksum.
    """
    copy = _mirrored(repo, mirror)
    if copy is not None:
        names = choose(sorted(file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()))
        for name in names:
            _link_or_copy(copy / name, folder / name)
        return [Remote(name, str(copy / name), (copy / name).stat().st_size) for name in names]
    page = f"{HUB}/datasets/{repo}"
    disable_progress_bars()  # one bar for all files is enough
    with _clear_errors(repo, page):
        info = huggingface_hub.HfApi(endpoint=endpoint()).dataset_info(repo, files_metadata=True)
        found = {file.rfilename: file for file in info.siblings}
    files = []
    for name in choose(list(found)):
        lfs = found[name].lfs
        files.append(Remote(name, page, found[name].size, lfs and f"sha256:{lfs.sha256}"))
    require_free(folder, sum(file.size for file in files if not (folder / file.name).is_file()))
    with progress("download", len(files), "files") as bar:
        for file in files:
            path = folder / file.name
            with _clear_errors(repo, page):
                huggingface_hub.hf_hub_download(
                    repo, file.name, repo_type="dataset", revision=info.sha, local_dir=folder, endpoint=endpoint()
                )
            if problem := mismatch(file, path):
                path.unlink()
                raise UserError(f"{repo}: {file.name} {problem} and was removed; run the same command again.")
            bar.advance()
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # records of huggingface_hub
    return files


def dataset_size(repo: str) -> tuple[int, list[str]]:
    """Number of training images and class names of a dataset repository, by its card; no names without classes.

    Raises:
        UserError: the card does not state the number, or cannot be read.
    """
    with _clear_errors(repo, f"{HUB}/datasets/{repo}"):
        info = huggingface_hub.HfApi(endpoint=endpoint()).dataset_info(repo)
    count, names = None, []
    with suppress(LookupError, TypeError, AttributeError, StopIteration):  # authors may write anything into a card
        about = info.card_data.to_dict()["dataset_info"]
        about = about[0] if isinstance(about, list) else about
        splits = {split["name"]: split["num_examples"] for split in about["splits"]}
        count = splits.get("train") or next(iter(splits.values()))
        dtype = next(one["dtype"] for one in about["features"] if one["name"] == "label")
        names = list(dtype["class_label"]["names"].values())
    if not isinstance(count, int):
        raise UserError(f"{repo}: its card does not state how many images it has; download its Parquet files instead.")
    return count, [str(name) for name in names]


def download_file(repo: str, name: str, *, mirror: str | None = None) -> Path:
    """Path of the file `name` of a model repository: in the mirror, or in the cache of `huggingface_hub`.

    A cached file is used without a request to the hub, so that results stay the same.
    """
    copy = _mirrored(repo, mirror)
    if copy is not None and (copy / name).is_file():
        return copy / name
    if cached := cached_file(repo, name):
        return cached
    with _clear_errors(repo, f"{HUB}/{repo}"):
        return Path(huggingface_hub.hf_hub_download(repo, name, endpoint=endpoint()))


def download_model(
    repo: str, *, revision: str | None = None, mirror: str | None = None, pipeline: bool = False
) -> Path:
    """Folder with the files of a model repository that `from_pretrained` reads. `revision` is a branch, tag or commit;
    None = the newest. A `pipeline` is a diffusion model in the folders of `PIPELINE_FILES`."""
    folder = _mirrored(repo, mirror)
    index, weights = ("model_index.json", "*/*.safetensors") if pipeline else ("config.json", "*.safetensors")
    if folder is None:
        options = {"allow_patterns": MODEL_FILES, "ignore_patterns": ["*/*"], "endpoint": endpoint()}
        if pipeline:  # without the copies in other precisions
            options |= {"allow_patterns": [index, *PIPELINE_FILES], "ignore_patterns": ["*fp16*", "*non_ema*"]}
        disable_progress_bars()
        with _clear_errors(repo, f"{HUB}/{repo}"):
            folder = Path(huggingface_hub.snapshot_download(repo, revision=revision, **options))
    if not (folder / index).is_file() or not any(folder.glob(weights)):
        raise UserError(f"{repo} has no {index} with safetensors beside it; name another model.")
    return folder


def require_repository_name(repo: str) -> None:
    """Raise UserError if `repo` is not ``owner/name``."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo, re.ASCII):
        raise UserError(f"{repo}: not the name of a repository of the hub, which is owner/name.")


def upload_model(repo: str, files: Mapping[str, bytes | Path], *, private: bool, message: str) -> str:
    """Address of the model repository `repo` after `files`, by their paths in it, were committed to it. The repository
    is created if it is missing."""
    if huggingface_hub.get_token() is None:
        page = f"{HUB}/settings/tokens"
        raise UserError(
            f"{repo}: an upload needs a token with the right to write; create one at {page}, put it in HF_TOKEN."
        )
    api = huggingface_hub.HfApi(endpoint=endpoint())
    operations = [
        huggingface_hub.CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
        for name, content in files.items()
    ]
    disable_progress_bars()
    with _clear_errors(repo, f"{HUB}/{repo}", "uploaded to"):
        api.create_repo(repo, private=private or None, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message)
    return f"{endpoint()}/{repo}"


def cached_file(repo: str, name: str) -> Path | None:
    """Path of a model's file in the cache of `huggingface_hub`; None if it is not there."""
    found = huggingface_hub.try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def cached_model(repo: str) -> Path | None:
    """Folder of a model in the cache of `huggingface_hub`; None if it is not there."""
    config = cached_file(repo, "config.json")
    return config.parent if config is not None and any(config.parent.glob("*.safetensors")) else None


def _mirrored(repo: str, mirror: str | None) -> Path | None:
    """Folder of a repository in a mirror on this machine; None if there is none."""
    if problem := mirror_problem(mirror):
        raise UserError(f"{problem}.")
    folder = local_path(mirror) if mirror else None
    return folder / repo if folder is not None and (folder / repo).is_dir() else None


def _link_or_copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another file system
            shutil.copyfile(source, temporary)


@contextmanager
def _clear_errors(repo: str, page: str, done: str = "downloaded from") -> Iterator[None]:
    """Turn what `huggingface_hub` raises into a UserError; `page` is the page of the repository, and `done` what cannot
    be done."""
    accept = f"accept the terms at {page}, create a token at {HUB}/settings/tokens and put it in HF_TOKEN"
    # The first entry that fits counts; some exceptions are subclasses of others.
    advice = {
        errors.HFValidationError: "is not the name of a repository of the hub, which is owner/name",
        errors.GatedRepoError: f"its terms were not accepted: {accept}",
        errors.RevisionNotFoundError: "the repository has no such revision; name a branch, a tag or a commit of it",
        errors.RepositoryNotFoundError: f"the hub has no such repository, or it is private: {accept}",
        errors.OfflineModeIsEnabled: "cannot be downloaded while HF_HUB_OFFLINE is set",
        errors.RemoteEntryNotFoundError: f"the repository has no such file; name one of its files, as {repo}:FILE",
    }
    if not is_web_address(endpoint()):
        raise UserError(f"{repo}: HF_ENDPOINT is '{shown(endpoint())}', which is not an address; correct or unset it.")
    try:
        yield
    except (*advice, errors.HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        if known := next((text for kind, text in advice.items() if isinstance(error, kind)), None):
            raise UserError(f"{repo}: {known}.") from None
        if isinstance(error, OSError) and explained(error):  # of this machine: a full disk, a folder without access
            raise
        reason = " ".join(str(error).split())
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        advice = "put a token with the right to do this in HF_TOKEN" if status in (401, 403) else "try again later"
        raise UserError(f"{repo}: cannot be {done} {endpoint()} ({reason}); {advice}.") from None
    except (ValueError, TypeError, KeyError, AttributeError):  # answers that huggingface_hub cannot read
        raise UserError(
            f"{repo}: {shown(endpoint())} does not answer as the hub does; correct HF_ENDPOINT if it is set, "
            "and check whether a proxy answers instead."
        ) from None
