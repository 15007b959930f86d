"""The interface of feature extractors."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, device


class Features(NamedTuple):
    """What a network says about B pictures, float32 on the CPU."""

    pooled: Tensor
    """`[B, D]`, after the global average pool."""
    logits: Tensor
    """`[B, K]`, one a class; K = 0 where a network gives none."""


class FeatureExtractor(Protocol):
    """A frozen classifier. A picture's features do not depend on the others of its batch, but for rounding."""

    name: str
    identity: str
    """Changes whenever the numbers may: network, weights and preprocessing."""
    feature_dim: int
    """D."""
    input_size: int
    """Side to which pictures are resized, in pixels."""
    device: device
    """Where it runs. On a CPU several threads may call it at once."""

    def __call__(self, images: Tensor) -> Features:
        """Features of RGB pictures, uint8 `[B, 3, H, W]`."""
        ...
