"""Volume rendering along rays: from samples to colour, depth and weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

INFINITE_INTERVAL = 1e10
FINITE_LAST_INTERVAL = 1e-3


class Composite(NamedTuple):
    """What a ray sees."""

    rgb: Tensor
    """`[..., R, 3]`"""
    depth: Tensor
    """`[..., R]`, expected distance along the ray in scene units."""
    weights: Tensor
    """`[..., R, S]`, share of every sample in the pixel."""
    transmittance: Tensor
    """`[..., R]`, share of light that passes all samples."""


def composite(
    samples: Tensor, distances: Tensor, *, infinite_last_interval: bool = True, last_back: bool = False
) -> Composite:
    """Emission-absorption compositing (NeRF, equation 3, with the field as it leaves the decoder).

    density = softplus(raw), alpha_i = 1 - exp(-density_i delta_i), T_i = prod_{j<i} (1 - alpha_j + 1e-10),
    w_i = alpha_i T_i, rgb = sum w_i c_i, depth = sum w_i t_i.

    Args:
        samples: rgb and raw density, `[..., R, S, 4]`.
        distances: increasing, `[..., R, S]`; they carry no gradient.
        infinite_last_interval: whether the last sample's interval is 1e10 (it then ends the ray) or 1e-3.
        last_back: give the weight that is left at the end to the last sample.
    """
    density = F.softplus(samples[..., 3])
    last = INFINITE_INTERVAL if infinite_last_interval else FINITE_LAST_INTERVAL
    deltas = torch.cat([distances.diff(dim=-1), torch.full_like(distances[..., :1], last)], dim=-1)
    optical_depth = density * deltas
    alpha = -torch.expm1(-optical_depth)
    passed = torch.cumprod(1 - alpha + 1e-10, dim=-1)
    before = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
    weights = alpha * before
    if last_back:
        rest = 1 - weights.sum(-1, keepdim=True)
        weights = torch.cat([weights[..., :-1], weights[..., -1:] + rest], dim=-1)
    rgb = torch.einsum("...s,...sk->...k", weights, samples[..., :3])
    depth = (weights * distances).sum(-1)
    return Composite(rgb, depth, weights, passed[..., -1])
