"""Volume rendering along rays: from samples to colour, depth and weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.arguments import check_samples, check_sets
from threedgp.render.compositing_operators import composite_sets
from threedgp.render.engines import Backend, compositing_engine, own_precision
from threedgp.render.sampling import merge_samples

INFINITE_INTERVAL = 1e10
FINITE_LAST_INTERVAL = 1e-3


class Composite(NamedTuple):
    """What a ray sees."""

    rgb: Tensor
    """`[..., R, 3]`"""
    depth: Tensor
    """`[..., R]`, expected distance along the ray in scene units."""
    weights: Tensor
    """`[..., R, S]`, share of every sample in the pixel; with `midpoint` of the S - 1 intervals."""
    transmittance: Tensor
    """`[..., R]`, share of light that passes all samples."""


def composite(
    samples: Tensor,
    distances: Tensor,
    *,
    infinite_last_interval: bool = True,
    last_back: bool = False,
    midpoint: bool = False,
    density_bias: float = 0.0,
    sigmoid_color: bool = False,
    white_background: bool = False,
    backend: Backend = "auto",
) -> Composite:
    """Emission-absorption compositing (NeRF, equation 3, with the field as it leaves the decoder).

    density = softplus(raw + bias), alpha_i = 1 - exp(-density_i delta_i), T_i = prod_{j<i} (1 - alpha_j + 1e-10),
    w_i = alpha_i T_i, rgb = sum w_i c_i, depth = sum w_i t_i.

    Args:
        samples: rgb and raw density, `[..., R, S, 4]`.
        distances: increasing, `[..., R, S]`; they carry no gradient.
        infinite_last_interval: whether the last sample's interval is 1e10 (it then ends the ray) or 1e-3.
        last_back: give the weight that is left at the end to the last sample.
        midpoint: average colour, raw density and distance of neighboring samples first, and composite these
            intervals (EG3D); there is then no last interval, and S must be at least 2.
        density_bias: added to raw density (EG3D: -1).
        sigmoid_color: squash colour to sigmoid(c) * 1.002 - 0.001 and scale the pixel from [0, 1] to [-1, 1] (EG3D).
        white_background: light that passes all samples is white, 1.
        backend: see `Backend`; `native` and `triton` are differentiable once.

    Raises:
        ValueError: naming the argument whose shape, dtype or device is wrong.
    """
    check_samples(samples, distances)
    return composite_union(
        (samples,),
        (distances,),
        infinite_last_interval=infinite_last_interval,
        last_back=last_back,
        midpoint=midpoint,
        density_bias=density_bias,
        sigmoid_color=sigmoid_color,
        white_background=white_background,
        backend=backend,
    )


def composite_union(
    samples: tuple[Tensor, ...],
    distances: tuple[Tensor, ...],
    *,
    infinite_last_interval: bool = True,
    last_back: bool = False,
    midpoint: bool = False,
    density_bias: float = 0.0,
    sigmoid_color: bool = False,
    white_background: bool = False,
    backend: Backend = "auto",
) -> Composite:
    """Compositing of one set of samples, or of the union of two, sorted by distance (a single set must be sorted).

    Takes sets of samples `[..., R, S_k, 4]` at distances `[..., R, S_k]`; the rest is as in `composite`. `native` and
    `triton` never write the union out.

    Raises:
        ValueError: naming the argument whose shape, dtype or device is wrong.
    """
    check_sets(samples, distances, infinite_last_interval and not midpoint)
    if midpoint and sum(at.shape[-1] for at in distances) < 2:
        raise ValueError("distances: midpoint compositing needs at least 2 samples, got 1")
    last = INFINITE_INTERVAL if infinite_last_interval else FINITE_LAST_INTERVAL
    name = compositing_engine(backend, samples[0])
    if name != "torch":
        values, at = [s.contiguous() for s in samples], [d.detach().contiguous() for d in distances]
        switches = (last, density_bias, midpoint, last_back, sigmoid_color, white_background, name)
        return Composite(*composite_sets(at, values, *switches))
    if len(distances) > 1:
        merged, values = merge_samples(distances, samples)
    else:
        merged, values = distances[0], samples[0]
    rgb, raw, merged = values[..., :3], values[..., 3], merged.detach()
    if sigmoid_color:
        rgb = torch.sigmoid(rgb) * 1.002 - 0.001
    deltas = merged.diff(dim=-1)
    if midpoint:
        rgb, raw, merged = _middles(rgb, -2), _middles(raw, -1), _middles(merged, -1)
    else:
        deltas = F.pad(deltas, (0, 1), value=last)
    alpha = -torch.expm1(-F.softplus(raw + density_bias) * deltas)
    passed = torch.cumprod(1 - alpha + 1e-10, dim=-1)
    weights = alpha * F.pad(passed[..., :-1], (1, 0), value=1.0)
    if last_back:
        rest = 1 - weights.sum(-1, keepdim=True)
        weights = torch.cat([weights[..., :-1], weights[..., -1:] + rest], dim=-1)
    with own_precision(weights.device):
        rgb = (weights[..., None, :] @ rgb).squeeze(-2)
    if white_background:
        rgb = rgb + (1 - weights.sum(-1, keepdim=True))
    if sigmoid_color:
        rgb = rgb * 2 - 1
    return Composite(rgb, (weights * merged).sum(-1), weights, passed[..., -1])


def _middles(values: Tensor, dim: int) -> Tensor:
    """Means of neighbors along `dim`."""
    count = values.shape[dim] - 1
    return (values.narrow(dim, 0, count) + values.narrow(dim, 1, count)) / 2
