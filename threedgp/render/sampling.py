"""Distances along rays at which the field is evaluated: stratified, then drawn from the weights of those samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.arguments import expect_along_rays, expect_interval, expect_like, expect_shape
from threedgp.render.backends import engine

WEIGHT_FLOOR = 2e-5
"""Added to every weight: the published code adds 1e-5, and 1e-5 again before it normalizes the weights."""
MIN_INVERSE_DISTANCE = 1e-4
"""Smallest inverse distance of `stratified_inverse_distances`; it represents infinity."""


def stratified_distances(u: Tensor, near: float, far: float) -> Tensor:
    """One distance in each of S cells between `near` and `far` (Mildenhall et al. 2020, equation 2), increasing,
    `[..., S]`.

    The edges of the cells are the midpoints of `linspace(near, far, S)`, so the first and the last cell are half as
    wide as the others. `u` `[..., S]` is the position inside the cell, in [0, 1).
    """
    expect_along_rays("u", u, min_samples=0)
    expect_interval(near, far)
    centers = torch.linspace(near, far, u.shape[-1], dtype=u.dtype, device=u.device)
    midpoints = (centers[1:] + centers[:-1]) / 2
    lower = torch.cat([centers[:1], midpoints])
    upper = torch.cat([midpoints, centers[-1:]])
    return lower + (upper - lower) * u


def stratified_inverse_distances(u: Tensor) -> Tensor:
    """Inverse distances behind a point of a ray, in units of the inverse distance of that point: one in each of S cells
    between 1 and 0, decreasing, `[..., S]` (Zhang et al. 2020, NeRF++, section 4). `u` as in `stratified_distances`."""
    return stratified_distances(1 - u, 0.0, 1.0).flip(-1).clamp(min=MIN_INVERSE_DISTANCE)


def importance_distances(distances: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Distances `[..., F]`, in the order of `u`, drawn by the inverse of the distribution function that `weights`
    define (NeRF, section 5.2).

    The bins lie between the midpoints of neighboring `distances`, increasing, `[..., S]`, S >= 2 (two distances make
    one bin of width zero); the weights `[..., S]` of the inner samples fill them. `u` is `[..., F]` in [0, 1). The
    result carries no gradient: sample positions follow rays by ``origin + distance * direction``.
    """
    expect_along_rays("distances", distances, min_samples=2)
    expect_shape("weights", weights, tuple(distances.shape))
    expect_shape("u", u, (*distances.shape[:-1], "F"))
    expect_like("weights", weights, distances, "distances")
    expect_like("u", u, distances, "distances")
    with torch.no_grad():
        bins = (distances[..., 1:] + distances[..., :-1]) / 2
        mass = weights[..., 1:-1] + WEIGHT_FLOOR
        cdf = F.pad(torch.cumsum(mass / mass.sum(-1, keepdim=True), dim=-1), (1, 0))
        right = torch.searchsorted(cdf, u.contiguous(), right=True)
        below = (right - 1).clamp(min=0)
        above = right.clamp(max=bins.shape[-1] - 1)
        cdf_below, cdf_above = cdf.gather(-1, below), cdf.gather(-1, above)
        bin_below, bin_above = bins.gather(-1, below), bins.gather(-1, above)
        width = cdf_above - cdf_below
        width = torch.where(width < 1e-5, torch.ones_like(width), width)
        return bin_below + (u - cdf_below) / width * (bin_above - bin_below)


def merge_samples(distances: tuple[Tensor, Tensor], samples: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Sorted union of two sets of samples along each ray: distances `[..., S_1]` and `[..., S_2]`, samples
    `[..., S_1, K]` and `[..., S_2, K]`, to increasing distances `[..., S]` and their samples `[..., S, K]`, S = S_1 +
    S_2."""
    if len(distances) != 2 or len(samples) != 2:
        raise ValueError(f"distances, samples: expected two sets of each, got {len(distances)} and {len(samples)}")
    expect_along_rays("distances[0]", distances[0], min_samples=0)
    expect_shape("distances[1]", distances[1], (*distances[0].shape[:-1], "S"))
    expect_like("distances[1]", distances[1], distances[0], "distances[0]")
    expect_shape("samples[0]", samples[0], (*distances[0].shape, "K"))
    expect_shape("samples[1]", samples[1], (*distances[1].shape, samples[0].shape[-1]))
    expect_like("samples[1]", samples[1], samples[0], "samples[0]")
    if samples[0].device != distances[0].device:
        raise ValueError(f"samples[0]: expected on {distances[0].device} like distances, got {samples[0].device}")
    merged, order = torch.sort(torch.cat(distances, dim=-1), dim=-1, stable=True)
    values = torch.cat(samples, dim=-2)
    return merged, values.gather(-2, order[..., None].expand_as(values))


def fine_distances(distances: Tensor, samples: Tensor, u: Tensor, density_bias: float, backend: str) -> Tensor:
    """Distances of the fine pass `[B, R, F]`, given the coarse pass `[B, R, S]`, `[B, R, S, 4]` and u `[B, R, F]`.

    Weights are those of `composite` without `midpoint`. Only inner samples count, so neither the length of the last
    interval nor `last_back` matters.
    """
    if backend != "torch" and distances.shape[-1] > 2:
        return engine(backend, "compositing").importance(distances, samples, u, density_bias)
    with torch.no_grad():
        optical_depth = F.softplus(samples[..., :-1, -1] + density_bias) * distances.diff(dim=-1)
        alpha = -torch.expm1(-optical_depth)
        transmittance = torch.cumprod(1 - alpha + 1e-10, dim=-1)
        inner = alpha[..., 1:] * transmittance[..., :-1]
        return importance_distances(distances, F.pad(inner, (1, 1)), u)
