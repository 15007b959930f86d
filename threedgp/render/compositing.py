"""Volume rendering along rays: from samples to color, depth and weights (Mildenhall et al. 2020, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.arguments import check_sets
from threedgp.render.backends import Backend, compositing_backend, engine, no_autocast
from threedgp.render.sampling import merge_samples

INFINITE_INTERVAL = 1e10
FINITE_INTERVAL = 1e-3
"""Length of the last interval of a ray, by `infinite_last_interval`."""


class Composite(NamedTuple):
    """The rendering of rays."""

    rgb: Tensor
    """`[..., R, 3]`"""
    depth: Tensor
    """`[..., R]`, sum of weights times distances along the ray, in scene units."""
    weights: Tensor
    """`[..., R, S]`, contribution of every sample to the pixel; with `midpoint`, of the S - 1 intervals."""
    transmittance: Tensor
    """`[..., R]`, fraction of light that passes all samples."""


class CompositeSettings(NamedTuple):
    """How samples are composited; see `composite`. A number, then switches."""

    density_bias: float = 0.0
    midpoint: bool = False
    infinite_last_interval: bool = True
    last_back: bool = False
    sigmoid_color: bool = False
    white_background: bool = False


def last_interval(settings: CompositeSettings) -> float:
    """Length of the interval behind the last sample. Not a property, which PyTorch 2.8 cannot compile."""
    return INFINITE_INTERVAL if settings.infinite_last_interval else FINITE_INTERVAL


def composite(
    samples: Tensor | tuple[Tensor, ...],
    distances: Tensor | tuple[Tensor, ...],
    *,
    infinite_last_interval: bool = True,
    last_back: bool = False,
    midpoint: bool = False,
    density_bias: float = 0.0,
    sigmoid_color: bool = False,
    white_background: bool = False,
    backend: Backend = "auto",
) -> Composite:
    """Emission-absorption compositing (Max 1995; Mildenhall et al. 2020, equation 3).

    sigma = softplus(raw + bias), alpha_i = 1 - exp(-sigma_i delta_i), T_i = prod_{j<i} (1 - alpha_j + 1e-10),
    w_i = alpha_i T_i, rgb = sum w_i c_i, depth = sum w_i t_i.

    Args:
        samples: rgb and raw density, `[..., R, S, 4]`; or two such sets, whose union is sorted by distance.
            `native` and `triton` never write the union to memory.
        distances: `[..., R, S]`, increasing if there is one set; or one tensor for each set. No gradient.
        infinite_last_interval: whether the last sample's interval is 1e10 (nothing passes it) or 1e-3.
        last_back: add the weight that is left at the end of the ray to the last sample.
        midpoint: average color, raw density and distance of neighboring samples first, and composite these
            intervals (EG3D); there is then no last interval, and S must be at least 2.
        density_bias: added to raw density (EG3D: -1).
        sigmoid_color: map color to sigmoid(c) * 1.002 - 0.001 and the pixel from [0, 1] to [-1, 1] (EG3D).
        white_background: light that passes all samples is white, 1.
        backend: see `Backend`; `native` and `triton` are differentiable once.
    """
    if isinstance(samples, Tensor):
        samples, distances = (samples,), (distances,)
        check_sets(samples, distances, ["samples"], ["distances"])
    else:
        names = [[f"{name}[{k}]" for k in range(len(samples))] for name in ("samples", "distances")]
        check_sets(samples, distances, *names)
    if midpoint and sum(d.shape[-1] for d in distances) < 2:
        raise ValueError("distances: midpoint compositing needs at least 2 samples, got 1")
    if infinite_last_interval and not midpoint and samples[0].dtype is torch.float16:
        raise ValueError("samples: torch.float16 cannot represent the infinite last interval, 1e10; use torch.float32")
    switches = [midpoint, infinite_last_interval, last_back, sigmoid_color, white_background]
    name = compositing_backend(backend, samples[0])
    if name == "torch":
        return composite_reference(samples, distances, CompositeSettings(density_bias, *switches))
    sets = ([d.detach().contiguous() for d in distances], [s.contiguous() for s in samples])
    return Composite(*composite_sets(*sets, density_bias, switches, name))


def composite_reference(
    samples: tuple[Tensor, ...], distances: tuple[Tensor, ...], settings: CompositeSettings
) -> Composite:
    """`composite` in PyTorch: what the other backends are tested against."""
    if len(distances) > 1:
        t, values = merge_samples(distances, samples)  # [..., R, S], [..., R, S, 4]
    else:
        t, values = distances[0], samples[0]
    t, rgb, raw = t.detach(), values[..., :-1], values[..., -1]
    if settings.sigmoid_color:
        rgb = bounded_color(rgb)
    deltas = t.diff(dim=-1)
    if settings.midpoint:
        rgb, raw, t = _midpoints(rgb, -2), _midpoints(raw, -1), _midpoints(t, -1)
    else:
        deltas = F.pad(deltas, (0, 1), value=last_interval(settings))
    alpha = -torch.expm1(-F.softplus(raw + settings.density_bias) * deltas)
    transmittance = torch.cumprod(1 - alpha + 1e-10, dim=-1)
    weights = alpha * F.pad(transmittance[..., :-1], (1, 0), value=1.0)
    if settings.last_back:
        rest = 1 - weights.sum(-1, keepdim=True)
        weights = torch.cat([weights[..., :-1], weights[..., -1:] + rest], dim=-1)
    with no_autocast(weights.device):
        rgb = (weights[..., None, :] @ rgb).squeeze(-2)
    if settings.white_background:
        rgb = rgb + (1 - weights.sum(-1, keepdim=True))
    if settings.sigmoid_color:
        rgb = rgb * 2 - 1
    return Composite(rgb, (weights * t).sum(-1), weights, transmittance[..., -1])


def bounded_color(raw: Tensor) -> Tensor:
    """Color in (-0.001, 1.001) of raw color, a sigmoid that is widened so that it reaches 0 and 1 (EG3D)."""
    return torch.sigmoid(raw) * 1.002 - 0.001


def _midpoints(values: Tensor, dim: int) -> Tensor:
    """Means of neighbors along `dim`."""
    count = values.shape[dim] - 1
    return (values.narrow(dim, 0, count) + values.narrow(dim, 1, count)) / 2


# The operator of `native` and `triton`. Autograd keeps its inputs only: the backward pass composites again.


@torch.library.custom_op("threedgp::composite_sets", mutates_args=())
def composite_sets(
    distances: Sequence[Tensor],
    samples: Sequence[Tensor],
    density_bias: float,
    switches: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, weights and transmittance of one or two sets of samples; `switches` are those of
    `CompositeSettings`."""
    settings, code = CompositeSettings(density_bias, *switches), engine(backend, "compositing")
    with torch.cuda.device_of(distances[0]):
        return code.composite_forward(list(distances), list(samples), settings)


def empty_outputs(distances: Sequence[Tensor], midpoint: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tensors for the results of `composite_sets`."""
    shape, new = distances[0].shape[:-1], distances[0].new_empty
    total = sum(d.shape[-1] for d in distances)
    return new((*shape, 3)), new(shape), new((*shape, total - midpoint)), new(shape)


@composite_sets.register_fake
def _(distances, samples, density_bias, switches, *_):
    return empty_outputs(distances, switches[0])


@torch.library.custom_op("threedgp::composite_sets_backward", mutates_args=())
def composite_sets_backward(
    distances: Sequence[Tensor],
    samples: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    density_bias: float,
    switches: Sequence[bool],
    backend: str,
) -> list[Tensor]:
    """Gradients of the sets of samples, given those of the results of `composite_sets` (None = zero)."""
    settings, code = CompositeSettings(density_bias, *switches), engine(backend, "compositing")
    with torch.cuda.device_of(distances[0]):
        return code.composite_backward(list(distances), list(samples), list(gradients), settings)


@composite_sets_backward.register_fake
def _(distances, samples, *_):
    return [torch.empty_like(s) for s in samples]


def _refuse(ctx: object, *_: Tensor) -> None:
    raise RuntimeError("fused compositing can be differentiated once; use backend='torch' for higher derivatives")


composite_sets_backward.register_autograd(_refuse)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    distances, samples, *settings = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*distances, *samples)
    ctx.settings = settings


def _backward(
    ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor | None
) -> tuple[list[Tensor | None] | None, ...]:
    sets = len(ctx.saved_tensors) // 2
    distances, samples = list(ctx.saved_tensors[:sets]), list(ctx.saved_tensors[sets:])
    grads: list[Tensor] | list[None] = [None] * sets
    if any(g is not None for g in gradients):
        grads = composite_sets_backward(distances, samples, gradients, *ctx.settings)
    return [None] * sets, grads, None, None, None


composite_sets.register_autograd(_backward, setup_context=_save)
