"""The interface of all feature networks, and the registry that finds them by name.

Each module `threedgp.features.networks.NAME` declares `NETWORK`, which takes the arguments of `build_extractor` and
returns a `FeatureExtractor`. Names without a module are models of timm (`_timm`). Only the module that is asked for is
imported.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from threedgp.config import EmbedConfig, FeaturesConfig
from threedgp.config.choices import names

SAME_NETWORK = {"tf_efficientnet_lite0": "efficientnet_lite0", "tf_efficientnet_lite0.in1k": "efficientnet_lite0"}


class Features(NamedTuple):
    """Output of a network for B images, float32 on the CPU."""

    pooled: Tensor  # [B, D], after the global average pooling
    logits: Tensor  # [B, K], one per class; K = 0 if the network has no classifier
    spatial: Tensor | None = None  # [B, S], of some channels at each position; only of Inception, for sFID


class FeatureExtractor(Protocol):
    """A frozen network. Apart from rounding, an image's features do not depend on the other images of its batch."""

    name: str
    identity: str  # differs whenever the features may differ: network, weights and preprocessing
    feature_dim: int  # D
    input_size: int  # side to which images are resized, in pixels
    device: torch.device  # where it runs; on a CPU several threads may call it at once

    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        ...


def build_extractor(
    network: str,
    *,
    input_size: int,
    weights: str | None = None,
    device: torch.device | str = "cpu",
    mirror: str | None = None,
) -> FeatureExtractor:
    """Build the network that ``params.yaml`` calls `network`.

    Args:
        network: a module of `threedgp.features.networks` or a model of timm.
        input_size: side of the images that it sees, in pixels, if it takes several sizes.
        weights: path, URL or hub id; None = the default weights.
        device: where it runs.
        mirror: folder or URL where weights are looked for first.

    Raises:
        UserError: the weights are missing or do not fit, or there is no such network.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # features are stored and compared in full precision
    if network in names("threedgp.features.networks"):
        build = importlib.import_module(f"threedgp.features.networks.{network}").NETWORK
    else:
        from threedgp.features.networks._timm import NETWORK as build
    return build(network, input_size=input_size, weights=weights, device=device, mirror=mirror)


def configured_extractor(
    settings: FeaturesConfig | EmbedConfig, device: torch.device, mirror: str | None
) -> FeatureExtractor:
    """Build the network of section `features` or `embed`, see `build_extractor`."""
    size, weights = settings.input_size, settings.weights
    return build_extractor(settings.network, input_size=size, weights=weights, device=device, mirror=mirror)


def same_network(first: str, second: str) -> bool:
    """Whether two names mean the same network: a metric on it favors a model that was distilled from it.

    Custom weights are not compared.
    """
    return SAME_NETWORK.get(first, first) == SAME_NETWORK.get(second, second)
