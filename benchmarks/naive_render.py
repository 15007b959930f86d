"""The baseline: volume rendering composed of PyTorch operators, as published tri-plane generators do it.

`grid_sample` on NCHW planes, all features and hidden units in memory, autograd throughout. Like `render_rays`, it
evaluates each sample of the coarse pass once and reuses it in the union of both passes, and gradients reach ray origins
and directions through the sample positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render import Decoder, RayRandomness, RaySettings, composite, importance_distances, stratified_distances


def _field(planes: Tensor, decoder: Decoder, points: Tensor, half_width: float) -> Tensor:
    """rgb and raw density `[B, M, 4]` of planes `[B, 3, C, H, W]` at points `[B, M, 3]`."""
    batch, count = points.shape[:2]
    scaled = points / half_width
    grid = torch.stack([scaled[..., [0, 1]], scaled[..., [0, 2]], scaled[..., [1, 2]]], dim=1).flatten(0, 1)
    features = F.grid_sample(
        planes.flatten(0, 1), grid[:, None], mode="bilinear", padding_mode="zeros", align_corners=True
    )
    features = features.reshape(batch, 3, -1, count).permute(0, 1, 3, 2).mean(dim=1)
    hidden = F.leaky_relu(F.linear(features, decoder.weight_1, decoder.bias_1), 0.2) * 2**0.5
    return F.linear(hidden, decoder.weight_2, decoder.bias_2)


def naive_render(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    randomness: RayRandomness,
    settings: RaySettings,
) -> tuple[Tensor, Tensor]:
    """rgb `[B, R, 3]` and depth `[B, R]` of planes `[B, 3, C, H, W]`; other arguments as in `render_rays`."""

    def evaluate(distances: Tensor) -> Tensor:
        points = origins[:, :, None] + distances[..., None] * directions[:, :, None]
        return _field(planes, decoder, points.flatten(1, 2), settings.half_width).reshape(*distances.shape, 4)

    coarse = stratified_distances(randomness.coarse, settings.near, settings.far)
    samples = evaluate(coarse)
    with torch.no_grad():
        weights = composite(samples, coarse, backend="torch").weights
        fine = importance_distances(coarse, weights, randomness.fine)
    distances = torch.cat([coarse, fine], dim=-1)
    samples = torch.cat([samples, evaluate(fine)], dim=-2)
    distances, order = distances.sort(dim=-1)
    samples = samples.gather(-2, order[..., None].expand_as(samples))
    seen = composite(samples, distances, backend="torch")
    return seen.rgb, seen.depth
