"""The pictures that the settings name: on this machine, or where they will be fetched from."""

from __future__ import annotations

from pathlib import Path

from threedgp.config import Config
from threedgp.fetch.hub import HUB, endpoint, token_for
from threedgp.fetch.remote import expanded, mirror_problem, shown
from threedgp.fetch.table import IMAGENET_HUB, IMAGENET_TAR, LSUN, SDIP
from threedgp.needs.finding import Finding


def missing_pictures(config: Config) -> str | None:
    """Why `dataset.path` or `machine.mirror` cannot serve, with what to do; None if both can, or are null."""
    return _missing_path(config) or mirror_problem(config.machine.mirror)


def _missing_path(config: Config) -> str | None:
    """Why `dataset.path` cannot serve, with what to fetch and where to put it."""
    data = config.dataset
    if data.path is None:
        return None
    place = expanded(data.path)
    if not place.exists():
        what = "there is no"
    elif place.is_dir() and not any(place.iterdir()):
        what = "there is nothing in the folder"
    else:
        return None
    advice = _what_to_fetch(config) or "put the pictures there or correct it"
    return f"dataset.path: {what} '{data.path}'; {advice}"


def _what_to_fetch(config: Config) -> str | None:
    # They import PyArrow, which `threedgp check` does without as long as all is well.
    from threedgp.data.sources import imagenet, lsun, sdip

    data = config.dataset
    if data.source == "imagenet":
        return imagenet.WHAT_TO_FETCH
    if data.source == "lsun":
        return lsun.what_to_fetch(data.subset)
    return sdip.what_to_fetch(data.subset) if data.source == "sdip" else None


def pictures_finding(config: Config) -> Finding:
    """Where the pictures are, or come from, and whether a token for them is there."""
    data, what = config.dataset, f"Pictures ({config.dataset.source})"
    problem = _missing_path(config)
    if problem:
        return Finding(what, "missing", False, True, problem)
    if data.path is not None:
        tar = data.source == "imagenet" and _holds_tar(expanded(data.path))
        return Finding(what, f"{data.path} ({IMAGENET_TAR.about})" if tar else data.path, True, True)
    if data.source == "procedural":
        return Finding(what, f"{config.download.count} are rendered by stage download", True, True)
    if data.source == "lsun":
        return Finding(what, f"will be fetched from {LSUN[data.subset].url} (about 69 GB)", True, True)
    hub = SDIP[data.subset] if data.source == "sdip" else IMAGENET_HUB
    source = f"will be fetched from {HUB}/datasets/{hub.repo} ({hub.about})"
    if not hub.gated:
        return Finding(what, source, True, True)
    if token_for(endpoint()):
        return Finding(what, f"{source}, with your token", True, True)
    if config.machine.mirror:
        return Finding(
            what, f"looked for in {shown(config.machine.mirror)}, else {source}, for which no token is set", True, True
        )
    return Finding(what, f"{source}, but no token is set", False, True, _token_or_tar())


def _token_or_tar() -> str:
    return (
        f"accept the terms at {HUB}/datasets/{IMAGENET_HUB.repo} and put a token ({HUB}/settings/tokens) in HF_TOKEN, "
        f"or {IMAGENET_TAR.how('a place that dataset.path names')}"
    )


def _holds_tar(place: Path) -> bool:
    return place.name == IMAGENET_TAR.name or (place / IMAGENET_TAR.name).is_file()
