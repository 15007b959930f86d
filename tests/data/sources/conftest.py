"""Downloading and opening a source as the stages do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from threedgp.config import Config, DatasetConfig, MachineConfig
from threedgp.data.source import Source, download_source, open_source

Opened = Callable[..., Source]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Downloads a source into a folder of its own, and opens it."""

    def make(
        source: str,
        path: Path | None,
        *,
        subset: str | None = None,
        raw: Path = tmp_path / "scratch" / "raw",
        machine: dict[str, object] | None = None,
    ) -> Source:
        dataset = DatasetConfig(name="x", source=source, path=path and str(path), subset=subset)
        config = Config.model_construct(dataset=dataset, machine=MachineConfig(**(machine or {})))
        download_source(config, raw)
        return open_source(dataset, raw)

    return make
