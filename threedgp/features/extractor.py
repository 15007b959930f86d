"""The interface of feature extractors, and the choice among them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, device

from threedgp.errors import UserError


class Features(NamedTuple):
    """What a network says about B pictures, float32 on the CPU."""

    pooled: Tensor
    """`[B, D]`, after the global average pool."""
    logits: Tensor
    """`[B, K]`, one a class."""


class FeatureExtractor(Protocol):
    """A frozen classifier. A picture's features do not depend on the others of its batch, but for rounding."""

    name: str
    identity: str
    """Changes whenever the numbers may: network, weights and preprocessing."""
    feature_dim: int
    """D."""
    input_size: int
    """Side to which pictures are resized, in pixels."""

    def __call__(self, images: Tensor) -> Features:
        """Features of RGB pictures, uint8 `[B, 3, H, W]`."""
        ...


def build_extractor(
    network: str, *, input_size: int, weights: str | None = None, device: device | str = "cpu"
) -> FeatureExtractor:
    """The extractor called `network` in ``params.yaml``.

    Args:
        network: `efficientnet_lite0` or `inception`.
        input_size: side to which pictures are resized; Inception always takes 299.
        weights: local file with the weights of Inception.
        device: where the network runs.

    Raises:
        UserError: the weights are missing or not the published ones, or there is no such network.
    """
    if network == "efficientnet_lite0":
        from threedgp.features.efficientnet_lite0 import EfficientNetLite0

        return EfficientNetLite0(input_size, device)
    if network == "inception":
        from threedgp.features.inception import Inception

        return Inception(weights, device)
    raise UserError(f"feature network '{network}' is not known; choose efficientnet_lite0 or inception.")
