"""Mapping networks: from latent vector, class or patch parameters to a style vector (Karras et al. 2019, section 2)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.config import GeneratorConfig
from threedgp.models.layers import EqualizedLinear, normalize_second_moment


class LabelEmbedding(nn.Module):
    """A linear layer on a one-hot class, computed as an embedding lookup."""

    def __init__(self, num_classes: int, width: int, *, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.linear = EqualizedLinear(num_classes, width, lr_multiplier=lr_multiplier)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels int64 `[B]` to `[B, width]`."""
        linear = self.linear
        return torch.add(
            linear.bias * linear.bias_gain, F.embedding(labels, linear.weight.t()), alpha=linear.weight_gain
        )


class GeneratorMapping(nn.Module):
    """Maps z, class and a pose of `pose_width` numbers (0 = none) to w; tracks the average of w for truncation."""

    def __init__(self, config: GeneratorConfig, num_classes: int, pose_width: int = 0) -> None:
        super().__init__()
        w_dim, options = config.w_dim, dict(activation="leaky_relu", lr_multiplier=config.mapping_lr_multiplier)
        self.embed = LabelEmbedding(num_classes, w_dim) if num_classes else None
        self.embed_pose = EqualizedLinear(pose_width, w_dim) if pose_width else None
        widths = [config.z_dim + w_dim * (bool(num_classes) + bool(pose_width))] + [w_dim] * config.mapping_layers
        self.layers = nn.Sequential(*(EqualizedLinear(before, after, **options) for before, after in pairwise(widths)))
        self.register_buffer("w_average", torch.zeros(w_dim))

    def forward(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0, poses: Tensor | None = None) -> Tensor:
        """Map z `[B, z_dim]`, labels int64 `[B]` (None without classes), poses `[B, pose_width]` to w `[B, w_dim]`."""
        x = normalize_second_moment(z)
        if self.embed is not None:
            x = torch.cat([x, normalize_second_moment(self.embed(labels))], dim=1)
        if self.embed_pose is not None:
            x = torch.cat([x, normalize_second_moment(self.embed_pose(poses))], dim=1)
        w = self.layers(x)
        return w if truncation == 1 else self.w_average.lerp(w, truncation)

    @torch.no_grad()
    def track_average(self, w: Tensor, decay: float) -> None:
        """Update the running average of w with the mean of w `[B, w_dim]`."""
        self.w_average.copy_(w.mean(dim=0).lerp(self.w_average, decay))


class ConditionMapping(nn.Module):
    """Maps a condition to a style vector: linear embedding, second-moment normalization, two leaky-ReLU layers."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.embed = EqualizedLinear(in_features, width)
        self.layers = nn.Sequential(
            *(EqualizedLinear(width, width, activation="leaky_relu", lr_multiplier=0.01) for _ in range(2))
        )

    def forward(self, condition: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Map `[B, in_features]`, and a second condition that is embedded already `[B, width]`, to `[B, width]`."""
        x = normalize_second_moment(self.embed(condition))
        return self.layers(x if embedded is None else x + normalize_second_moment(embedded))
