"""LeReS (Yin et al., "Learning to Recover 3D Scene Shape from a Single Image", CVPR 2021), the estimator of 3DGP.

A residual encoder, and a decoder that fuses its four levels from coarse to fine. The modules have the names of the
published checkpoints, `res101.pth` and `res50.pth`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from threedgp.depth.estimator import NetworkKind
from threedgp.depth.estimators._network import DepthMap
from threedgp.runtime.errors import UserError

Encoder = Literal["resnet50", "resnext101_32x8d"]
"""Names of the encoders in timm."""

INPUT_SIZE = 448
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, for RGB in [0, 1]."""
WIDTH = 256
"""Channels of the decoder."""
PREFIXES = r"^((module|depth_model)\.)+"
"""Prefixes of parameter names, from data-parallel training and from the model around the network."""


def _conv(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, padding=1)


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class FeatureTransfer(nn.Module):
    """``y = relu(conv1(x)); relu(y + branch(y))``: the residual is added to the rectified value."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels)
        # The checkpoint counts a ReLU in the first position; its input is already rectified.
        self.conv_branch = nn.Sequential(
            nn.Identity(), _conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(), _conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x))
        return F.relu(y + self.conv_branch(y))


class FeatureFusion(nn.Module):
    """Adds a level of the encoder to the coarser features and upsamples the sum."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.ftb1, self.ftb2 = FeatureTransfer(in_channels, WIDTH), FeatureTransfer(WIDTH, WIDTH)

    def forward(self, level: Tensor, coarser: Tensor) -> Tensor:
        return _upsample(self.ftb2(self.ftb1(level) + coarser))


class Output(nn.Module):
    """From features at half the resolution to depth, without a final activation."""

    def __init__(self) -> None:
        super().__init__()
        half = WIDTH // 2
        self.adapt_conv = nn.Sequential(_conv(WIDTH, half), nn.BatchNorm2d(half), nn.ReLU(), _conv(half, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _upsample(self.adapt_conv(x))


class Decoder(nn.Module):
    """From features of 256, 512, 1024 and 2048 channels at 1/4 to 1/32 of the resolution to depth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv1 = FeatureTransfer(2048, 512), _conv(512, WIDTH)
        self.ffm2, self.ffm1, self.ffm0 = FeatureFusion(1024), FeatureFusion(512), FeatureFusion(256)
        self.outconv = Output()

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        x = _upsample(self.conv1(self.conv(levels[3])))
        for fusion, level in ((self.ffm2, levels[2]), (self.ffm1, levels[1]), (self.ffm0, levels[0])):
            x = fusion(level, x)
        return self.outconv(x)


class Leres(nn.Module):
    """Depth up to scale and shift, larger = farther."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        levels = timm.create_model(encoder, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
        self.encoder_modules = nn.ModuleDict({"encoder": levels})
        self.decoder_modules = Decoder()

    def forward(self, images: Tensor) -> Tensor:
        """Depth `[B, 1, H, W]` of normalized RGB `[B, 3, H, W]`, H and W multiples of 32."""
        return self.decoder_modules(self.encoder_modules["encoder"](images))


class LeresDepth:
    """Runs LeReS in float32.

    Images are resized to 448x448 by bilinear interpolation without antialiasing, as in the published inference code.
    """

    batches, metric = True, False

    def __init__(self, network: Leres, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self._device = device
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        size = (INPUT_SIZE, INPUT_SIZE)
        resized = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images])
        batch = torch.from_numpy(resized).to(self._device).permute(0, 3, 1, 2).float() / 255
        depth = self._network((batch - self._mean) / self._std)
        return [DepthMap(one) for one in depth[:, 0].cpu().numpy()]


def load_leres(file: Path) -> Leres:
    """The network with the weights of the checkpoint `file`, on the CPU in float32. Runs no code of the file.

    The checkpoint determines the encoder. Its other networks, for shift and focal length, are ignored.
    """
    weights = _read(file)
    encoder: Encoder = "resnext101_32x8d" if "encoder_modules.encoder.layer3.22.conv1.weight" in weights else "resnet50"
    with torch.device("meta"):  # the initial values would be overwritten
        network = Leres(encoder)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file}: not a checkpoint of LeReS with {encoder}: {reason}") from None
    return network


def _read(file: Path) -> dict[str, Tensor]:
    """The parameters of a checkpoint in float32, by their names without prefixes."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{file}: the weights of LeReS cannot be read ({error.strerror}).") from None
    except Exception:  # damaged files make the unpickler raise almost anything
        raise UserError(
            f"{file}: damaged, or not a file of weights only; download the checkpoint of LeReS again (docs/depth.md)."
        ) from None
    state: Any = checkpoint.get("depth_model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file}: not a checkpoint of LeReS: there are no weights under the key 'depth_model'.")
    return {re.sub(PREFIXES, "", str(name)): value.float() for name, value in state.items()}


ESTIMATOR = NetworkKind(
    load=lambda file, device: LeresDepth(load_leres(file), device),
    output="depth up to scale and shift",
    # The authors' server is gone; the checksum is that of their file.
    weights="https://huggingface.co/lllyasviel/Annotators/resolve/main/res101.pth"
    "#sha256=1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b",
    file="res101.pth",
    license="research only, not to be redistributed",
)
