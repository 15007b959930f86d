"""Room on the disk that a data set takes, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from threedgp.config import Config
from threedgp.data.shards import MANIFEST, read_manifest
from threedgp.data.source import get_source
from threedgp.fetch.hub import HUB

FIGURES_SIDE = 256
PICTURE_BYTES = {"webp": 67_200, "png": 91_900, "jpeg": 26_300}
DEPTH_BYTES = 60_400
"""Bytes a photograph and its depth take at 256 px (docs/data_formats.md); other sizes in proportion to the pixels."""
WIDTHS = {"none": 0, "efficientnet_lite0": 1280}
USUAL_WIDTH = 2048
"""Features of Inception, of ResNet-50, and of what is not in `WIDTHS`."""
RESULTS_BYTES = 2**30
"""Model, states of the training, pictures."""


@dataclass(frozen=True)
class StageRoom:
    """What a stage takes."""

    stage: str
    folder: str
    """Below data/<name>."""
    stays: float
    """Bytes of its output."""
    passes: float = 0.0
    """Bytes that it needs on top while it runs."""


@dataclass(frozen=True)
class Room:
    """What the stages take that have not run yet."""

    stages: list[StageRoom]
    unstated: str | None = None
    """What comes on top, and nobody states its size."""

    @property
    def peak(self) -> float:
        """Bytes that are in use at the same time, at most, by what is still to be made and by the results."""
        before, most = float(RESULTS_BYTES), float(RESULTS_BYTES)
        for stage in self.stages:
            before += stage.stays
            most = max(most, before + stage.passes)
        return most


def room_needed(config: Config, data: Path = Path("data")) -> Room | None:
    """Room for the outputs that are not there yet, as DVC keeps them where it can link; None if nobody knows.

    Args:
        data: folder of the outputs. The pictures of a local folder are counted once stage download has listed them.
    """
    place = data / config.dataset.name
    found = _count(config, place)
    if found is None:
        return None
    download = _download(config)
    unstated = None
    if download is None:
        unstated = f"the files of {HUB}" if config.dataset.path is None else "the photographs of the list"
        download = StageRoom("download", "raw", 0)
    stages = [one for one in (download, *_later(config, *found)) if not (place / one.folder).exists()]
    return Room(stages, unstated if download in stages else None)


def _count(config: Config, place: Path) -> tuple[int, int] | None:
    """Pictures and classes."""
    if (place / "raw" / MANIFEST).is_file():
        manifest = read_manifest(place / "raw")
        return manifest.rows, len(manifest.meta["class_names"])
    if config.dataset.source == "procedural":
        return config.download.count, 1
    published = get_source(config.dataset.source).published.get(config.dataset.subset)
    return published and (published.num_images, published.num_classes)


def _download(config: Config) -> StageRoom | None:
    """None where files are fetched whose size is not known."""
    room = get_source(config.dataset.source).download_bytes(config)
    return room and StageRoom("download", "raw", *room)


def _later(config: Config, count: int, classes: int) -> Iterator[StageRoom]:
    select = config.select
    most = classes * select.keep_count if select.keep_count else math.ceil(count * select.keep_fraction)
    kept = min(count, most)
    share = config.dataset.resolution**2 / FIGURES_SIDE**2
    picture, depth = PICTURE_BYTES[config.prepare.encoding] * share, DEPTH_BYTES * share
    depth = 0.0 if config.depth.estimator == "none" else depth
    features = 4 * WIDTHS.get(config.features.network, USUAL_WIDTH)
    embedding = 2 * WIDTHS.get(config.embed.network, USUAL_WIDTH)
    yield StageRoom("prepare", "prepared", count * picture)
    yield StageRoom("features", "features", count * features)
    yield StageRoom("select", "selected", 0, count * features if kept < count else 0)
    yield StageRoom("depth", "depth", kept * depth)
    yield StageRoom("embed", "embed", kept * embedding)
    shards = kept * (picture + depth + embedding)
    yield StageRoom("shards", "shards", shards, shards)
