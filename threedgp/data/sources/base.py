"""The interface of all sources, and how to open the one that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.config import Config, DatasetConfig
from threedgp.data.shards import ShardFolder
from threedgp.errors import UserError


@dataclass(frozen=True)
class RawPicture:
    """A picture as its source has it, or the reason why there is none."""

    id: str
    label: int
    rgb: NDArray[np.uint8] | None = None
    """`[H, W, 3]`"""
    depth: NDArray[np.float32] | None = None
    """`[H, W]`, larger = farther; scene units if the source knows them."""
    cameras: NDArray[np.float32] | None = None
    """`[8]`, fields as in `threedgp.camera.geometry.CAMERA_FIELDS`; only where the true camera is known."""
    error: str | None = None


class Source(Protocol):
    """Lists pictures and reads them, in any order and from several threads."""

    name: str
    class_names: list[str]

    def entries(self) -> pa.Table:
        """All pictures, sorted by id: columns `id`, `label`, and what the source needs to find them."""
        ...

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        """The pictures of some rows of `entries()`, in their order. One that cannot be used carries an error.

        Raises:
            UserError: a file is not the one that stage `download` listed.
        """
        ...


def download_source(config: Config, folder: Path) -> None:
    """Do what stage `download` does for the source that `config` names: fill `folder` with raw shards.

    Raises:
        UserError: the source cannot be had.
    """
    from threedgp.data.sources import folder as folder_source
    from threedgp.data.sources import procedural, rgbd

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
    from threedgp.data.sources.folder import FolderSource
    from threedgp.data.sources.procedural import ProceduralSource
    from threedgp.data.sources.rgbd import RgbdSource

    shards = ShardFolder(raw)
    made_by = shards.meta.get("source")
    if made_by != config.source:
        raise UserError(f"{raw}: comes from source '{made_by}', not '{config.source}'; run `dvc repro download`.")
    if config.source == "procedural":
        return ProceduralSource(shards)
    opened = FolderSource if config.source == "folder" else RgbdSource
    return opened(shards, Path(config.path or ""))
