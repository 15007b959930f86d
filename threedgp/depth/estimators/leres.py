"""LeReS (Yin et al., "Learning to Recover 3D Scene Shape from a Single Image", CVPR 2021): the network.

A residual encoder, and a decoder that fuses its four levels from coarse to fine. Modules carry the names of the
published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from threedgp.depth.network import DepthMap

Encoder = Literal["resnet50", "resnext101_32x8d"]
"""As timm calls them."""

INPUT_SIZE = 448
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, RGB in [0, 1]."""
WIDTH = 256
"""Channels of the decoder."""


def _conv(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, padding=1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class FeatureTransfer(nn.Module):
    """``y = relu(conv(x)); relu(y + branch(y))``: the residual starts from the rectified value."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels)
        # The first place belongs to a ReLU that the published checkpoint counts; its input is rectified already.
        self.conv_branch = nn.Sequential(
            nn.Identity(), _conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(), _conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x))
        return F.relu(y + self.conv_branch(y))


class FeatureFusion(nn.Module):
    """Adds a level of the encoder to what comes from below, and doubles the size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.ftb1, self.ftb2 = FeatureTransfer(in_channels, WIDTH), FeatureTransfer(WIDTH, WIDTH)

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        return _double(self.ftb2(self.ftb1(level) + below))


class Output(nn.Module):
    """From features at half the size to depth, without an activation at the end."""

    def __init__(self) -> None:
        super().__init__()
        half = WIDTH // 2
        self.adapt_conv = nn.Sequential(_conv(WIDTH, half), nn.BatchNorm2d(half), nn.ReLU(), _conv(half, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _double(self.adapt_conv(x))


class Decoder(nn.Module):
    """From features of 256, 512, 1024 and 2048 channels at 1/4 to 1/32 of the size to depth at full size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv1 = FeatureTransfer(2048, 512), _conv(512, WIDTH)
        self.ffm2, self.ffm1, self.ffm0 = FeatureFusion(1024), FeatureFusion(512), FeatureFusion(256)
        self.outconv = Output()

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        x = _double(self.conv1(self.conv(levels[3])))
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
        """From normalised RGB `[B, 3, H, W]`, H and W multiples of 32, to depth `[B, 1, H, W]`."""
        return self.decoder_modules(self.encoder_modules["encoder"](images))


class LeresDepth:
    """Runs LeReS on pictures, in float32.

    They are brought to 448x448 by bilinear interpolation without smoothing, as in the published inference: depth is
    then what others get from the same weights.
    """

    batches = True

    def __init__(self, network: Leres, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self._device = device
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        size = (INPUT_SIZE, INPUT_SIZE)
        small = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in pictures])
        images = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2).float() / 255
        depth = self._network((images - self._mean) / self._std)
        return [DepthMap(one) for one in depth[:, 0].cpu().numpy()]
