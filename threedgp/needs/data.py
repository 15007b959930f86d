"""The pictures that the settings name: on this machine, or where they will be fetched from."""

from __future__ import annotations

from huggingface_hub import get_token

from threedgp.config import Config
from threedgp.data.source import dataset_problem, get_source
from threedgp.depth.estimator import estimator_problem
from threedgp.fetch.hub import HUB
from threedgp.needs.finding import Finding
from threedgp.runtime.addresses import expanded, mirror_problem, shown
from threedgp.runtime.errors import UserError


def missing_pictures(config: Config) -> str | None:
    """Why section `dataset` or `machine.mirror` cannot be used, and what to do; None if both can."""
    return _dataset_problem(config) or mirror_problem(config.machine.mirror)


def _dataset_problem(config: Config) -> str | None:
    return (
        dataset_problem(config.dataset)
        or estimator_problem(config.depth.estimator, config.dataset.source)
        or _missing_path(config)
    )


def _missing_path(config: Config) -> str | None:
    """What is wrong with `dataset.path`, what to fetch and where to put it."""
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
    instructions = get_source(data.source).instructions
    advice = instructions(data.subset) if instructions else "put the pictures there or correct it"
    return f"dataset.path: {what} '{data.path}'; {advice}"


def pictures_finding(config: Config) -> Finding:
    """Where the pictures are, or come from, and whether a token for them is there."""
    data, what = config.dataset, f"Pictures ({config.dataset.source})"
    problem = _dataset_problem(config)
    if problem:
        return Finding(what, "missing", False, True, problem)
    kind = get_source(data.source)
    if data.path is not None:
        try:
            found = kind.contents(expanded(data.path), data.subset)
        except UserError as error:
            return Finding(what, "damaged", False, True, str(error))
        details = f" ({_size(found.num_images, found.num_bytes)})" if found else ""
        return Finding(what, data.path + details, True, True)
    published = kind.published.get(data.subset)
    if published is None:
        return Finding(what, f"{config.download.count} are rendered by stage download", True, True)
    source = f"will be downloaded from {published.url} ({_size(published.num_images, published.num_bytes)})"
    if not published.gated:
        return Finding(what, source, True, True)
    if get_token():
        return Finding(what, f"{source}, with your token", True, True)
    if config.machine.mirror:
        return Finding(
            what, f"looked for in {shown(config.machine.mirror)}, else {source}, for which no token is set", True, True
        )
    advice = f"accept the terms at {published.url} and put a token ({HUB}/settings/tokens) in HF_TOKEN"
    advice += f", or {kind.instructions(data.subset)}" if kind.instructions else ""
    return Finding(what, f"{source}, but no token is set", False, True, advice)


def _size(num_images: int | None, num_bytes: int | None) -> str:
    parts = [f"{num_images:,} images" if num_images is not None else ""]
    parts += [f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"] if num_bytes else []
    return ", ".join(part for part in parts if part)
