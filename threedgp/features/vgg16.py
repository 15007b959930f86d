"""VGG16 with torchvision's ImageNet weights, the network of precision and recall, through torch-fidelity."""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.features.extractor import Features
from threedgp.fetch.weights import find_weights

KEY = "evaluate.neighbor_weights"


class Vgg16:
    """The 4096 values after the second fully connected layer and its ReLU; no classes.

    The network resizes pictures to 224x224 itself, the way TensorFlow 1 did.
    """

    name = "vgg16"
    feature_dim = 4096
    input_size = 224
    identity = "vgg16-397923af-fc2_relu"

    def __init__(
        self, weights: str | None = None, device: torch.device | str = "cpu", mirror: str | None = None
    ) -> None:
        """
        Args:
            weights: as in `find_weights`; None = torchvision's, which are fetched. Others are refused.
            device: where the network runs.
            mirror: as in `find_weights`.

        Raises:
            UserError: the weights are missing or others than expected.
        """
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

        # torch-fidelity unpickles the file; its checksum was compared before.
        file = find_weights(self.name, weights, key=KEY, mirror=mirror)
        self.device = torch.device(device)
        self._network = FeatureExtractorVGG16(self.name, ["fc2_relu"], feature_extractor_weights_path=str(file)).to(
            self.device
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB pictures, uint8 `[B, 3, H, W]`."""
        (pooled,) = self._network(images.to(self.device))
        return Features(pooled.cpu(), pooled.new_empty((len(pooled), 0)).cpu())
