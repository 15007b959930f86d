"""The interface of all data sources, and the registry that finds them by name.

Each module `threedgp.data.sources.NAME` declares one object `SOURCE`, a `SourceKind`; its name is a value of
`dataset.source`. Only the module that is asked for is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.config import Config, DatasetConfig
from threedgp.data.shards import ShardFolder, read_manifest
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError


@dataclass(frozen=True)
class RawPicture:
    """An image as its source has it, or the reason why it cannot be used."""

    id: str
    label: int
    rgb: NDArray[np.uint8] | None = None  # [H, W, 3]
    depth: NDArray[np.float32] | None = None  # [H, W], larger = farther; scene units if the source knows them
    cameras: NDArray[np.float32] | None = None  # [8], fields as in `camera.geometry.CAMERA_FIELDS`; only where known
    normals: NDArray[np.float32] | None = None  # [H, W, 3], in camera space as in `camera.normals`; only where known
    mask: NDArray[np.bool_] | None = None  # [H, W], where the object is; only where known
    error: str | None = None


class Source(Protocol):
    """Lists images and reads them, in any order and from several threads."""

    name: str
    class_names: list[str]

    def entries(self) -> pa.Table:
        """All images, sorted by id: columns `id`, `label`, and what the source needs to find them."""
        ...

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        """The images of some rows of `entries()`, in their order. An image that cannot be used carries an error.

        Raises:
            UserError: a file has changed since stage `download` listed it.
        """
        ...


@dataclass(frozen=True)
class Published:
    """The published form of a data set, which stage `download` fetches where `dataset.path` is null."""

    url: str  # the file, or the page of the repository on the Hugging Face hub
    num_images: int
    num_classes: int = 1
    num_bytes: int | None = None  # None where the publisher does not state the size
    gated: bool = False  # whether the hub asks for a token of someone who has accepted its terms


@dataclass(frozen=True)
class Contents:
    """What lies at `dataset.path`."""

    num_bytes: int
    num_images: int | None = None  # None where counting would take long


@dataclass(frozen=True)
class SourceKind:
    """Everything that the pipeline knows about a source.

    The functions raise a UserError if images are missing, cannot be fetched, are damaged, or have changed since stage
    `download` listed them.
    """

    download: Callable[[Config, Path | None, Path], None]
    """Fills a folder with raw shards, given the settings, `dataset.path` and the folder: the images themselves, or a
    listing of images that stay where they are."""
    open: Callable[[ShardFolder, Path | None, Path], Source]
    """Opens those shards, given `dataset.path` and their folder."""
    published: Mapping[str | None, Published] = field(default_factory=dict)
    """Published data sets by `dataset.subset`; the key is None where the source has no subsets."""
    needs_path: bool = False
    """Whether `dataset.path` must be set."""
    is_address: Callable[[str], bool] = lambda path: False
    """Whether a value of `dataset.path` names a data set that is downloaded."""
    depth: Literal["none", "sidecar", "true"] = "none"
    """Depth maps that come with the images: none, maps of another estimator, or true depth."""
    instructions: Callable[[str | None], str] | None = None
    """Tells how to get the images of a subset by hand, and what to set `dataset.path` to."""
    contents: Callable[[Path, str | None], Contents | None] = lambda path, subset: None
    """What lies at an existing `dataset.path`, found within seconds; None if it cannot be told so quickly."""
    download_bytes: Callable[[Config], tuple[int, int] | None] = lambda config: (0, 0)
    """Bytes that the output of stage `download` takes, and additional bytes while it runs; None if unknown."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """Values of `dataset.subset`; empty where the source has no subsets."""
        return tuple(name for name in self.published if name is not None)


def get_source(name: str) -> SourceKind:
    """The source that is registered as `name`."""
    return importlib.import_module(f"threedgp.data.sources.{name}").SOURCE


def dataset_problem(dataset: DatasetConfig) -> str | None:
    """Why section `dataset` does not fit its source, with the key in front; None if it does."""
    kind = get_source(dataset.source)
    if kind.needs_path and not dataset.path:
        return f"dataset.path: source '{dataset.source}' needs the folder or archive that holds the images"
    if dataset.path is not None and not (kind.needs_path or kind.published):
        return f"dataset.path: source '{dataset.source}' uses no files; set it to null, or name another dataset.source"
    outputs = Path("data", dataset.name)
    is_place = dataset.path is not None and not kind.is_address(dataset.path)
    if is_place and expanded(dataset.path).resolve().is_relative_to(outputs.resolve()):
        return (
            f"dataset.path: '{dataset.path}' is in {outputs}, where stages and DVC remove what is there before they "
            "write their outputs; move the images to another folder"
        )
    if kind.subsets and dataset.subset not in kind.subsets:
        return f"dataset.subset: source '{dataset.source}' has {' and '.join(kind.subsets)}; name one"
    if not kind.subsets and dataset.subset is not None:
        return f"dataset.subset: source '{dataset.source}' has no subsets; set it to null"
    return None


def download_source(config: Config, folder: Path) -> None:
    """Fill `folder` with the raw shards of the source that `config` names, as stage `download` does.

    Raises:
        UserError: the images are not there and cannot be fetched.
    """
    dataset = config.dataset
    if problem := dataset_problem(dataset):
        raise UserError(f"{problem}.")
    get_source(dataset.source).download(config, _path(dataset), folder)
    if read_manifest(folder).rows == 0:
        raise UserError(f"dataset.path: {dataset.path or dataset.source} holds no images; correct it.")


def open_source(dataset: DatasetConfig, raw: Path) -> Source:
    """The source that `dataset` names, from what stage `download` left in the folder `raw`.

    Raises:
        UserError: `raw` is missing or damaged, or was made by another source.
    """
    shards = ShardFolder(raw)
    made_by = shards.meta.get("source")
    if made_by != dataset.source:
        raise UserError(f"{raw}: comes from source '{made_by}', not '{dataset.source}'; run `dvc repro download`.")
    return get_source(dataset.source).open(shards, _path(dataset), raw)


def _path(dataset: DatasetConfig) -> Path | None:
    return None if dataset.path is None else expanded(dataset.path)
