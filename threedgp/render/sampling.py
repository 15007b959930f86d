"""Distances along rays at which the field is evaluated: stratified first, then where the weights are."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_distances(u: Tensor, near: float, far: float) -> Tensor:
    """One distance in each of S cells between `near` and `far`.

    The cells' edges are the midpoints of `linspace(near, far, S)`, so the first and the last are half as wide.

    Args:
        u: position inside the cell, in [0, 1), `[..., S]`.

    Returns:
        increasing distances in scene units, `[..., S]`.
    """
    centres = torch.linspace(near, far, u.shape[-1], dtype=u.dtype, device=u.device)
    middles = (centres[1:] + centres[:-1]) / 2
    lower = torch.cat([centres[:1], middles])
    upper = torch.cat([middles, centres[-1:]])
    return lower + (upper - lower) * u


def importance_distances(distances: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Distances drawn by the inverse of the distribution function that `weights` define (NeRF, section 5.2).

    The bins lie between the midpoints of neighbouring `distances`; the weights of the inner samples fill them. The
    result carries no gradient: sample positions follow rays by ``origin + distance * direction``.

    Args:
        distances: increasing, `[..., S]`, S >= 3.
        weights: of compositing, `[..., S]`.
        u: in [0, 1), `[..., F]`.

    Returns:
        distances in the order of `u`, `[..., F]`.
    """
    with torch.no_grad():
        bins = (distances[..., 1:] + distances[..., :-1]) / 2
        mass = weights[..., 1:-1] + 2e-5  # never zero: 1e-5 to the weights and once more before normalising
        cdf = torch.cumsum(mass / mass.sum(-1, keepdim=True), dim=-1)
        cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], dim=-1)
        right = torch.searchsorted(cdf, u.contiguous(), right=True)
        below = (right - 1).clamp(min=0)
        above = right.clamp(max=bins.shape[-1] - 1)
        cdf_below, cdf_above = cdf.gather(-1, below), cdf.gather(-1, above)
        bin_below, bin_above = bins.gather(-1, below), bins.gather(-1, above)
        width = cdf_above - cdf_below
        width = torch.where(width < 1e-5, torch.ones_like(width), width)
        return bin_below + (u - cdf_below) / width * (bin_above - bin_below)


def merge_samples(distances: tuple[Tensor, Tensor], samples: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Sorted union of two sets of samples along each ray.

    Args:
        distances: two of `[..., S_1]` and `[..., S_2]`.
        samples: two of `[..., S_1, K]` and `[..., S_2, K]`.

    Returns:
        increasing distances `[..., S]` and their samples `[..., S, K]`, S = S_1 + S_2.
    """
    merged, order = torch.sort(torch.cat(distances, dim=-1), dim=-1, stable=True)
    values = torch.cat(samples, dim=-2)
    return merged, values.gather(-2, order[..., None].expand_as(values))
