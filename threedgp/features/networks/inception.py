"""Inception-v3 of 2015-12-05, the network of FID, through torch-fidelity."""

from __future__ import annotations

import torch
from torch import Tensor

from threedgp.features.network import Features, Settings
from threedgp.fetch.weights import PublishedWeights, find_weights

WEIGHTS = PublishedWeights(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    license="Apache-2.0",
)


class Inception:
    """Features of 2048 channels, and the 1008 logits without bias of the Inception score.

    The network resizes images to 299x299 itself, as TensorFlow 1 did.

    Args:
        weights: path or URL of the published weights; None = they are downloaded. Others are refused.
        device: where the network runs.
        mirror: folder or URL where the weights are looked for first.

    Raises:
        UserError: the weights are missing, or they are others.
    """

    name = "inception"
    feature_dim = 2048
    input_size = 299

    def __init__(self, weights: str | None, device: torch.device | str = "cpu", mirror: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.device = torch.device(device)
        self.identity = f"inception-{WEIGHTS.checksum.partition(':')[2][:8]}"
        file = find_weights(weights or WEIGHTS.url, key="features.weights", checksum=WEIGHTS.checksum, mirror=mirror)
        # torch-fidelity unpickles the file, which is safe since its checksum is known.
        self._network = FeatureExtractorInceptionV3(
            self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file)
        ).to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        pooled, logits = self._network(images.to(self.device))
        return Features(pooled.cpu(), logits.cpu())


def build(settings: Settings) -> Inception:
    """Build the network."""
    return Inception(settings.weights, settings.device, settings.mirror)


NETWORK = build
