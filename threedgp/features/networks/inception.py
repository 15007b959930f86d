"""Inception-v3 of 2015-12-05, the network of FID, through torch-fidelity."""

from __future__ import annotations

import torch

from threedgp.features.networks._fidelity import FidelityNetwork
from threedgp.fetch.weights import PublishedWeights

WEIGHTS = PublishedWeights(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    license="Apache-2.0",
)


class Inception(FidelityNetwork):
    """Features of 2048 channels, and the 1008 logits without bias of the Inception score."""

    name = "inception"
    feature_dim = 2048
    input_size = 299

    def __init__(self, network: str, *, weights: str | None, device: torch.device, mirror: str | None, **_) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

        outputs, key = ["2048", "logits_unbiased"], "features.weights"
        super().__init__(Network, outputs, WEIGHTS, key=key, weights=weights, device=device, mirror=mirror)


NETWORK = Inception
