"""Networks of torch-fidelity, which resize images themselves, as TensorFlow 1 did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from threedgp.features.network import Features
from threedgp.fetch.weights import PublishedWeights, find_weights


class FidelityNetwork:
    """A network of torch-fidelity with published weights.

    Args:
        build: class of the network in torch-fidelity.
        outputs: names of its outputs: the features, and the logits if there are any.
        published: the weights; others are refused.
        key: the setting that may name a copy of them.
        weights: path or URL of a copy; None = they are downloaded.
        device: where the network runs.
        mirror: folder or URL where the weights are looked for first.

    Raises:
        UserError: the weights are missing, or they are others.
    """

    name: str
    feature_dim: int
    input_size: int

    def __init__(
        self,
        build: Callable[..., nn.Module],
        outputs: list[str],
        published: PublishedWeights,
        *,
        key: str,
        weights: str | None,
        device: torch.device,
        mirror: str | None,
    ) -> None:
        self.device = device
        self.identity = f"{self.name}-{published.checksum.partition(':')[2][:8]}"
        file = find_weights(weights or published.url, key=key, checksum=published.checksum, mirror=mirror)
        # torch-fidelity unpickles the file, which is safe since its checksum is known.
        network: Any = build(self.name, outputs, feature_extractor_weights_path=str(file))
        self._network = network.to(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        pooled, *logits = self._network(images.to(self.device))
        return Features(pooled.cpu(), logits[0].cpu() if logits else torch.empty(len(images), 0))
