"""The source that the settings name."""

from __future__ import annotations

from pathlib import Path

from threedgp.config import Config, DatasetConfig
from threedgp.data.shards import ShardFolder, read_manifest
from threedgp.data.source import Source
from threedgp.data.sources import folder as folder_source
from threedgp.data.sources import imagenet, lsun, procedural, rgbd, sdip
from threedgp.fetch.remote import expanded
from threedgp.runtime.errors import UserError


def download_source(config: Config, folder: Path) -> None:
    """Do what stage `download` does for the source that `config` names: fill `folder` with raw shards.

    Raises:
        UserError: the source cannot be had.
    """
    dataset, machine = config.dataset, config.machine
    path = _path(dataset)
    if dataset.source == "procedural":
        procedural.download(config.download, folder, machine.workers)
    elif dataset.source == "folder":
        folder_source.download(path, folder)
    elif dataset.source == "rgbd":
        rgbd.download(path, folder)
    elif dataset.source == "imagenet":
        imagenet.download(path, folder, machine)
    elif dataset.source == "lsun":
        lsun.download(dataset.subset, path, folder, machine)
    else:
        sdip.download(dataset.subset, path, folder, machine)
    if read_manifest(folder).rows == 0:
        raise UserError(f"dataset.path: {path or dataset.source} holds not a single picture; correct it.")


def open_source(config: DatasetConfig, raw: Path) -> Source:
    """Open the source that `config` names, from what stage `download` left in the folder `raw`.

    Raises:
        UserError: `raw` is missing, damaged, or the work of another source.
    """
    shards = ShardFolder(raw)
    made_by = shards.meta.get("source")
    if made_by != config.source:
        raise UserError(f"{raw}: comes from source '{made_by}', not '{config.source}'; run `dvc repro download`.")
    path = _path(config)
    if config.source == "procedural":
        return procedural.ProceduralSource(shards)
    if config.source == "folder":
        return folder_source.open_folder(shards, path)
    if config.source == "rgbd":
        return rgbd.RgbdSource(shards, path)
    opening = {"imagenet": imagenet.open_imagenet, "lsun": lsun.open_lsun, "sdip": sdip.open_sdip}
    return opening[config.source](shards, path, raw)


def _path(config: DatasetConfig) -> Path | None:
    return None if config.path is None else expanded(config.path)
