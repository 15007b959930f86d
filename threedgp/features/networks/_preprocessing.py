"""The preprocessing of timm, which works on images of Pillow, for tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn


def center_crop(images: Tensor, side: int | None = None) -> Tensor:
    """The central square of `[B, C, H, W]` with `side` pixels a side; None = the largest."""
    height, width = images.shape[-2:]
    side = side or min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return images[..., top : top + side, left : left + side]


@dataclass(frozen=True)
class Preprocessing:
    """Center crop, resize, cut off the margin, normalize."""

    size: int  # side of the result in pixels
    crop: float  # fraction of the resized image's side that is kept
    interpolation: str  # `bilinear` or `bicubic`, with antialiasing as in Pillow
    mean: tuple[float, ...]
    std: tuple[float, ...]  # of RGB in [0, 1]

    @classmethod
    def of(cls, model: nn.Module, size: int) -> Preprocessing:
        """The preprocessing with which timm evaluated `model`, for images of `size` pixels."""
        data = resolve_model_data_config(model)
        return cls(size, data["crop_pct"], data["interpolation"], tuple(data["mean"]), tuple(data["std"]))

    @property
    def identity(self) -> str:
        """A string that differs whenever the preprocessing differs."""
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.interpolation}{self.size}-crop{self.crop:g}-mean{mean}-std{std}"

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocess RGB images, uint8 `[B, 3, H, W]`, to float32 `[B, 3, size, size]` on the same device."""
        x = center_crop(images).float()
        scaled = math.floor(self.size / self.crop)
        if x.shape[-1] != scaled:
            for shape in ((x.shape[-2], scaled), (scaled, scaled)):  # Pillow rounds to 8 bits after each pass
                x = F.interpolate(x, shape, mode=self.interpolation, align_corners=False, antialias=True)
                x = (x + 0.5).floor().clamp(0, 255)
        mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (self.mean, self.std))
        return (center_crop(x, self.size) / 255 - mean) / std
