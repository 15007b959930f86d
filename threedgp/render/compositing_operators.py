"""Fused compositing as operators of PyTorch: functional, once differentiable, keeping nothing but their inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from threedgp.render.engines import engine

ONCE = "fused compositing can be differentiated once; use backend='torch' for higher derivatives"


@torch.library.custom_op("threedgp::composite_sets", mutates_args=())
def composite_sets(
    distances: Sequence[Tensor],
    samples: Sequence[Tensor],
    last: float,
    density_bias: float,
    midpoint: bool,
    last_back: bool,
    sigmoid_color: bool,
    white_background: bool,
    engine_name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, weights, transmittance of one or two sets of samples. Arguments as in `composite_union`."""
    return engine(f"{engine_name} compositing").composite_forward(
        list(distances), list(samples), last, density_bias, midpoint, last_back, sigmoid_color, white_background
    )


@composite_sets.register_fake
def _(distances, samples, last, density_bias, midpoint, *_):
    shape, new = distances[0].shape[:-1], distances[0].new_empty
    total = sum(at.shape[-1] for at in distances)
    return new((*shape, 3)), new(shape), new((*shape, total - midpoint)), new(shape)


@torch.library.custom_op("threedgp::composite_sets_backward", mutates_args=())
def composite_sets_backward(
    distances: Sequence[Tensor],
    samples: Sequence[Tensor],
    grad_rgb: Tensor | None,
    grad_depth: Tensor | None,
    grad_weights: Tensor | None,
    grad_transmittance: Tensor | None,
    last: float,
    density_bias: float,
    midpoint: bool,
    last_back: bool,
    sigmoid_color: bool,
    white_background: bool,
    engine_name: str,
) -> list[Tensor]:
    """Gradients of the sets of samples."""
    return engine(f"{engine_name} compositing").composite_backward(
        list(distances),
        list(samples),
        (grad_rgb, grad_depth, grad_weights, grad_transmittance),
        *(last, density_bias, midpoint, last_back, sigmoid_color, white_background),
    )


@composite_sets_backward.register_fake
def _(distances, samples, *_):
    return [torch.empty_like(s) for s in samples]


def _refuse(ctx: object, *_: Tensor) -> None:
    raise RuntimeError(ONCE)


composite_sets_backward.register_autograd(_refuse)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    distances, samples, *switches = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*distances, *samples)
    ctx.switches = switches


def _backward(
    ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor | None
) -> tuple[list[Tensor | None] | None, ...]:
    tensors = ctx.saved_tensors
    sets = len(tensors) // 2
    distances, samples = list(tensors[:sets]), list(tensors[sets:])
    made: list[Tensor] | list[None] = [None] * sets
    if any(g is not None for g in gradients):
        made = composite_sets_backward(distances, samples, *gradients, *ctx.switches)
    return [None] * sets, made, *(None,) * 7


composite_sets.register_autograd(_backward, setup_context=_keep)
