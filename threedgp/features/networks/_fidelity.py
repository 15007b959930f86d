"""Networks of torch-fidelity, which resize images themselves, as TensorFlow 1 did."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from threedgp.features.network import Features
from threedgp.fetch.weights import find_weights


class FidelityNetwork:
    """A network of torch-fidelity with published weights. The arguments are those of `build_extractor`."""

    name: str
    feature_dim: int
    input_size: int
    build: str  # module of torch-fidelity and class of the network in it
    outputs: tuple[str, ...]  # names of its outputs: the features, and the logits if there are any
    key: str  # the setting that may name a copy of the weights
    url: str
    checksum: str  # `sha256:...` of the weights; results depend on them, so no other file is accepted
    license: str

    def __init__(self, network: str, *, weights: str | None, device: torch.device, mirror: str | None, **_) -> None:
        self.device = device
        self.identity = f"{self.name}-{self.checksum.partition(':')[2][:8]}"
        file = find_weights(weights or self.url, key=self.key, checksum=self.checksum, mirror=mirror)
        module, _, kind = self.build.partition(".")
        build: Any = getattr(importlib.import_module(f"torch_fidelity.{module}"), kind)
        # torch-fidelity unpickles the file, which is safe since its checksum is known.
        self._network = build(self.name, list(self.outputs), feature_extractor_weights_path=str(file)).to(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        pooled, *logits = self._network(images.to(self.device))
        return Features(pooled.cpu(), logits[0].cpu() if logits else torch.empty(len(images), 0))
