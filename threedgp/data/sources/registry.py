"""The source that the settings name."""

from __future__ import annotations

from pathlib import Path

from threedgp.config import Config, DatasetConfig
from threedgp.data.shards import ShardFolder
from threedgp.data.sources import folder as folder_source
from threedgp.data.sources import procedural, rgbd
from threedgp.data.sources.base import Source
from threedgp.data.sources.folder import FolderSource
from threedgp.data.sources.procedural import ProceduralSource
from threedgp.data.sources.rgbd import RgbdSource
from threedgp.errors import UserError


def download_source(config: Config, folder: Path) -> None:
    """Do what stage `download` does for the source that `config` names: fill `folder` with raw shards.

    Raises:
        UserError: the source cannot be had.
    """
    path = Path(config.dataset.path or "")
    if config.dataset.source == "procedural":
        procedural.download(config.download, folder, config.machine.workers)
    elif config.dataset.source == "folder":
        folder_source.download(path, folder)
    else:
        rgbd.download(path, folder)


def open_source(config: DatasetConfig, raw: Path) -> Source:
    """Open the source that `config` names, from what stage `download` left in the folder `raw`.

    Raises:
        UserError: `raw` is missing, damaged, or the work of another source.
    """
    shards = ShardFolder(raw)
    made_by = shards.meta.get("source")
    if made_by != config.source:
        raise UserError(f"{raw}: comes from source '{made_by}', not '{config.source}'; run `dvc repro download`.")
    if config.source == "procedural":
        return ProceduralSource(shards)
    opened = FolderSource if config.source == "folder" else RgbdSource
    return opened(shards, Path(config.path or ""))
