"""A small world with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from threedgp.config import DatasetConfig, DownloadConfig, PrepareConfig
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder
from threedgp.data.sources.base import Source
from threedgp.data.sources.procedural import download
from threedgp.data.sources.registry import open_source


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
