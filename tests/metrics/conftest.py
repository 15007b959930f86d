"""A small world with known truth, and a generator that is quick to sample."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from threedgp.config import CameraConfig, DatasetConfig, DownloadConfig, GeneratorConfig, ModelConfig, PrepareConfig
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder
from threedgp.data.sources.base import Source
from threedgp.data.sources.procedural import download
from threedgp.data.sources.registry import open_source
from threedgp.models.generator import Generator
from threedgp.models.saving import seeded_generator


class World(NamedTuple):
    """24 procedural pictures of 16x16, in shards of seven."""

    raw: Path
    source: Source
    prepared: ShardFolder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    download(DownloadConfig(count=24, resolution=32), folder / "raw", 1)
    dataset = DatasetConfig(name="world", source="procedural", resolution=16)
    source = open_source(dataset, folder / "raw")
    prepare_set(source, folder / "prepared", PrepareConfig(shard_rows=7), 16, 1)
    return World(folder / "raw", source, ShardFolder(folder / "prepared"))


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """Two classes, random weights."""
    sizes = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_max=8,
        decoder_hidden=8,
        coarse_samples=4,
        fine_samples=4,
    )
    generator = seeded_generator(CameraConfig(hidden=8), ModelConfig(generator=sizes), 2, [0.5, 0.5], seed=0)
    return generator.eval().requires_grad_(False)
