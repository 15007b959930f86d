"""Inception-v3 of 2015-12-05, the network of FID, through torch-fidelity."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from threedgp.features.network import Features
from threedgp.features.networks._fidelity import FidelityNetwork

SPATIAL_CHANNELS = 7
"""Channels of `mixed_6/conv` (17x17) that sFID uses (Nash et al. 2021): 2,023 numbers, about as many as FID."""


class Inception(FidelityNetwork):
    """Features of 2048 channels, the 1008 logits without bias of the Inception score, and spatial features.

    The spatial features are in the order of TensorFlow, positions before channels, as in the statistics of ADM.
    """

    name, feature_dim, input_size = "inception", 2048, 299
    build = "feature_extractor_inceptionv3.FeatureExtractorInceptionV3"
    outputs = ("2048", "logits_unbiased")
    key = "features.weights"
    url = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
    checksum = "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    license = "Apache-2.0"

    def __init__(self, network: str, **options: Any) -> None:
        super().__init__(network, **options)
        self._seen = threading.local()  # several threads may call the network at once
        self._network.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen.spatial = output[:, :SPATIAL_CHANNELS]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        features = super().__call__(images)
        return features._replace(spatial=self._seen.spatial.permute(0, 2, 3, 1).flatten(1).cpu())


NETWORK = Inception
