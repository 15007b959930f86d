"""VGG16 with torchvision's ImageNet weights, the network of precision and recall, through torch-fidelity."""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.features.network import Features, Settings
from threedgp.fetch.weights import PublishedWeights, find_weights

KEY = "evaluate.neighbor_weights"
WEIGHTS = PublishedWeights(
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    license="BSD-3-Clause",
)


class Vgg16:
    """Features of 4096 channels, after the second fully connected layer and its ReLU; no logits.

    The network resizes images to 224x224 itself, as TensorFlow 1 did.

    Args:
        weights: path or URL of torchvision's weights; None = they are downloaded. Others are refused.
        device: where the network runs.
        mirror: folder or URL where the weights are looked for first.

    Raises:
        UserError: the weights are missing, or they are others.
    """

    name = "vgg16"
    feature_dim = 4096
    input_size = 224
    identity = "vgg16-397923af-fc2_relu"

    def __init__(
        self, weights: str | None = None, device: torch.device | str = "cpu", mirror: str | None = None
    ) -> None:
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

        # torch-fidelity unpickles the file, which is safe since its checksum is known.
        file = find_weights(weights or WEIGHTS.url, key=KEY, checksum=WEIGHTS.checksum, mirror=mirror)
        self.device = torch.device(device)
        network = FeatureExtractorVGG16(self.name, ["fc2_relu"], feature_extractor_weights_path=str(file))
        self._network = network.to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        (pooled,) = self._network(images.to(self.device))
        return Features(pooled.cpu(), torch.empty(len(images), 0))


def build(settings: Settings) -> Vgg16:
    """Build the network."""
    return Vgg16(settings.weights, settings.device, settings.mirror)


NETWORK = build
