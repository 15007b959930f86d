"""VGG16 with torchvision's ImageNet weights, the network of precision and recall, through torch-fidelity."""

from __future__ import annotations

import torch

from threedgp.features.networks._fidelity import FidelityNetwork
from threedgp.fetch.weights import PublishedWeights

WEIGHTS = PublishedWeights(
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    license="BSD-3-Clause",
)


class Vgg16(FidelityNetwork):
    """Features of 4096 channels, after the second fully connected layer and its ReLU; no logits."""

    name = "vgg16"
    feature_dim = 4096
    input_size = 224

    def __init__(self, network: str, *, weights: str | None, device: torch.device, mirror: str | None, **_) -> None:
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16 as Network

        key = "evaluate.neighbor_weights"
        super().__init__(Network, ["fc2_relu"], WEIGHTS, key=key, weights=weights, device=device, mirror=mirror)


NETWORK = Vgg16
