"""Inception-v3 of 2015-12-05, the network of FID, through torch-fidelity."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from threedgp.errors import UserError
from threedgp.features.extractor import Features

WEIGHTS_NAME = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_NAME}"


def checked_weights(weights: str | None) -> Path:
    """The weights file, after its checksum was verified: torch-fidelity unpickles it.

    Raises:
        UserError: no file is set, or it is missing, or it is another one.
    """
    how = (
        f"download {WEIGHTS_NAME} (sha256 {WEIGHTS_SHA256}) from {WEIGHTS_URL} and set features.weights to its path, "
        "or set features.network to efficientnet_lite0."
    )
    if weights is None:
        raise UserError(f"features.weights: the Inception network has no weights; {how}")
    file = Path(weights)
    if not file.is_file():
        raise UserError(f"features.weights: {file} does not exist; {how}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise UserError(f"features.weights: {file} is another file (its sha256 is {found}); {how}")
    return file


class Inception:
    """Features of 2048 channels and 1008 logits without bias, as the Inception score takes them.

    The network resizes pictures to 299x299 itself, the way TensorFlow 1 did.
    """

    name = "inception"
    feature_dim = 2048
    input_size = 299
    identity = f"inception-{WEIGHTS_SHA256[:8]}"

    def __init__(self, weights: str | None, device: torch.device | str = "cpu") -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self._device = torch.device(device)
        self._network = FeatureExtractorInceptionV3(
            self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(checked_weights(weights))
        ).to(self._device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB pictures, uint8 `[B, 3, H, W]`."""
        pooled, logits = self._network(images.to(self._device))
        return Features(pooled.cpu(), logits.cpu())
