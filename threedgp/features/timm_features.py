"""Features of any classifier or image tower of timm (CLIP's, for instance)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from threedgp.features.extractor import Features
from threedgp.features.preprocessing import Preprocessing
from threedgp.features.timm_weights import load_network
from threedgp.runtime.errors import UserError


class TimmFeatures:
    """Pooled features just before the classifier, after the network's own preprocessing; no logits.

    Args:
        network: ``architecture`` or ``architecture.tag``, as timm names it.
        weights: local file.
        input_size: side of the pictures that the network sees, in pixels.
        device: where it runs.

    Raises:
        UserError: weights, network and size do not fit each other.
    """

    def __init__(self, network: str, weights: Path, input_size: int, device: torch.device | str = "cpu") -> None:
        self.name, self.input_size, self.device = network, input_size, torch.device(device)
        # The last layout keeps convolutions of a CPU fast.
        self._network = load_network(network, weights, input_size).to(self.device, memory_format=torch.channels_last)
        self._preprocess = Preprocessing.of(self._network, input_size)
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self.identity = f"{network}-{digest[:8]}-{self._preprocess.identity}"
        self.feature_dim = self._try_out()

    def _try_out(self) -> int:
        """D, from a black picture: networks tell it in different ways, and some not the truth."""
        black = torch.zeros(1, 3, self.input_size, self.input_size, dtype=torch.uint8)
        try:
            pooled = self(black).pooled
        except (AssertionError, RuntimeError) as error:
            why = " ".join(str(error).split())[:160]
            raise UserError(
                f"embed.input_size: {self.name} takes no pictures of {self.input_size} pixels a side ({why})."
            ) from None
        if pooled.ndim != 2:
            raise UserError(f"embed.network: {self.name} gives no vector for a picture; choose another one.")
        return pooled.shape[1]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB pictures, uint8 `[B, 3, H, W]`."""
        x = self._preprocess(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        return Features(self._network(x).float().cpu(), torch.empty(len(images), 0))
