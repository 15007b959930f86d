"""The interface of all depth estimators, and the registry that finds them by name.

Each module `threedgp.depth.estimators.NAME` declares one object `ESTIMATOR`; its name is a value of `depth.estimator`.
Only the module that is asked for is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture, get_source
from threedgp.fetch.weights import find_model, find_weights, kind_of
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from threedgp.depth.estimators._network import DepthNetwork

KEY = "depth.weights"


@dataclass(frozen=True)
class Rejected:
    """Why an image has no usable depth."""

    reason: str


class Estimate(NamedTuple):
    """Depth and field of view of an image, as estimated."""

    depth: NDArray[np.float32]
    """`[H, W]`: any unit, larger = farther; `[0, 0]` = no depth is used."""
    fov: float | None = None
    """Field of view in degrees (full angle); None = not estimated."""


class DepthEstimator(Protocol):
    """Estimates depth maps of images. Several threads may call it."""

    name: str
    looks_at_pixels: bool
    """Whether depth is estimated from the pixels, so that the estimator also works on generated images."""
    metric: bool
    """Whether depth is in meters, or in the units of a simulated scene, up to an error of scale."""

    def estimate(self, pictures: Sequence[RawPicture]) -> list[Estimate | Rejected]:
        """Estimates for square images `[H, W, 3]`. Each depends only on the image and its id."""
        ...


@dataclass(frozen=True)
class EstimatorKind:
    """An estimator that needs no network, and does not look at pixels: it would give generated images the same maps."""

    depth_of: Callable[[RawPicture, DepthConfig], NDArray[np.float32] | None]
    """Depth of an image, as in `Estimate`, by the settings of section `depth`; None = it has none."""
    output: str
    """Content of its maps, as in docs/depth.md."""
    source_depth: tuple[str, ...] = ("none", "sidecar", "true")
    """Depth maps of a source (`SourceKind.depth`) that it can work with."""
    fov_of: Callable[[RawPicture, DepthConfig], float | None] | None = None
    """Field of view of an image, as in `Estimate`; None = it gives none."""
    metric: bool = False
    """As in `DepthEstimator`."""

    @property
    def fov(self) -> bool:
        """Whether it gives fields of view."""
        return self.fov_of is not None


class PicturewiseDepth:
    """An estimator that needs no network."""

    looks_at_pixels = False

    def __init__(self, config: DepthConfig, kind: EstimatorKind) -> None:
        self.name, self.metric = config.estimator, kind.metric
        self._config, self._kind = config, kind

    def estimate(self, pictures: Sequence[RawPicture]) -> list[Estimate | Rejected]:
        return [self._estimate(picture) for picture in pictures]

    def _estimate(self, picture: RawPicture) -> Estimate | Rejected:
        depth = self._kind.depth_of(picture, self._config)
        if depth is None:
            return Rejected("the source has no depth for this image")
        return Estimate(depth, self._kind.fov_of(picture, self._config) if self._kind.fov_of else None)


@dataclass(frozen=True)
class NetworkKind:
    """An estimator that is a neural network."""

    load: Callable[[Path, torch.device], DepthNetwork]
    """Loads the weights, a file or a folder, to a device.

    Raises:
        UserError: they cannot be loaded.
    """
    output: str
    """Content of its maps, as in docs/depth.md."""
    weights: str
    """Default of `depth.weights`: a repository of the Hugging Face hub, or a URL."""
    license: str
    """License of these weights."""
    file: str | None = None
    """The file with the weights in a repository of the hub; None = the whole repository, for `from_pretrained`."""
    package: str | None = None
    """A module that must be installed in addition."""
    install: str | None = None
    """The command that installs it."""
    fov: bool = False
    """Whether it gives fields of view."""

    def weights_or_default(self, weights: str | None) -> str:
        """The setting `depth.weights`, completed."""
        weights = weights or self.weights
        needs_file = self.file is not None and kind_of(weights) == "hub" and ":" not in weights
        return f"{weights}:{self.file}" if needs_file else weights

    def find(self, weights: str | None, mirror: str | None = None) -> Path:
        """A local copy of the weights that the setting `depth.weights` names; downloaded if there is none."""
        weights = self.weights_or_default(weights)
        if self.file is None:
            return find_model(weights, key=KEY, mirror=mirror)
        return find_weights(weights, key=KEY, mirror=mirror)


def get_estimator(name: str) -> EstimatorKind | NetworkKind:
    """The estimator that is registered as `name`."""
    return importlib.import_module(f"threedgp.depth.estimators.{name}").ESTIMATOR


def estimator_problem(estimator: str, source: str, prior: str = "uniform") -> str | None:
    """Why `estimator` cannot work with the images of `source`, or for the prior of cameras `prior`, with the key in
    front; None if it can."""
    kind = get_estimator(estimator)
    if prior == "estimated" and not kind.fov:
        return (
            f"camera.prior: 'estimated' needs fields of view, which depth.estimator '{estimator}' does not give; "
            "choose another prior, or simulated, moge or depth_pro"
        )
    if isinstance(kind, NetworkKind) or get_source(source).depth in kind.source_depth:
        return None
    return f"depth.estimator: '{estimator}' needs depth maps that source '{source}' does not have; choose another one"


def build_estimator(
    config: DepthConfig, device: Literal["auto", "cpu", "cuda"] = "auto", mirror: str | None = None
) -> DepthEstimator:
    """Build the estimator that section `depth` names; missing weights are downloaded, or taken from the mirror.

    Raises:
        UserError: a package or the weights are missing, or the weights belong to another network.
    """
    name = config.estimator
    kind = get_estimator(name)
    if isinstance(kind, EstimatorKind):
        return PicturewiseDepth(config, kind)
    if kind.package:  # checked before gigabytes are downloaded
        try:
            importlib.import_module(kind.package)
        except ImportError as error:
            raise UserError(f"depth.estimator: '{name}' needs its package ({error}); run `{kind.install}`.") from None
    weights = kind.find(config.weights, mirror)
    from threedgp.depth.estimators._network import NetworkDepth  # PyTorch, which other estimators do not need
    from threedgp.runtime.device import choose_device

    return NetworkDepth(name, kind.load(weights, choose_device(device)), config.batch_size)
