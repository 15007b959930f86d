"""Launches of the compositing kernels: outputs and arguments. Tensors come in checked (see `arguments`)."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from threedgp.render.triton.compositing import composite_backward_kernel, composite_forward_kernel, importance_kernel
from threedgp.render.triton.field_launch import COMPILER


def _ray_tile(samples: int) -> tuple[int, int]:
    block_s = max(triton.next_power_of_2(samples), 2)
    return max(256 // block_s, 1), block_s


def _switches(
    distances: list[Tensor], midpoint: bool, last_back: bool, sigmoid_color: bool, white_background: bool
) -> dict[str, bool]:
    return dict(
        SORT=len(distances) > 1, MIDPOINT=midpoint, LAST_BACK=last_back, SIGMOID=sigmoid_color, WHITE=white_background
    )


def composite_forward(
    distances: list[Tensor],
    samples: list[Tensor],
    last: float,
    density_bias: float,
    midpoint: bool,
    last_back: bool,
    sigmoid_color: bool,
    white_background: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, weights and transmittance of rays, merged from one or two sets of samples."""
    shape = distances[0].shape[:-1]
    rays, counts = shape.numel(), [d.shape[-1] for d in distances]
    total = sum(counts)
    new = distances[0].new_empty
    rgb, depth, weights, transmittance = new((*shape, 3)), new(shape), new((*shape, total - midpoint)), new(shape)
    if rays:
        block_r, block_s = _ray_tile(total)
        composite_forward_kernel[(triton.cdiv(rays, block_r),)](
            distances[0],
            distances[-1],
            samples[0],
            samples[-1],
            rgb,
            depth,
            weights,
            transmittance,
            rays,
            counts[0],
            total - counts[0],
            last,
            density_bias,
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            **_switches(distances, midpoint, last_back, sigmoid_color, white_background),
            num_warps=4,
            **COMPILER,
        )
    return rgb, depth, weights, transmittance


def composite_backward(
    distances: list[Tensor],
    samples: list[Tensor],
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    last: float,
    density_bias: float,
    midpoint: bool,
    last_back: bool,
    sigmoid_color: bool,
    white_background: bool,
) -> list[Tensor]:
    """Gradients of the sets of samples, given those of rgb, depth, weights, transmittance (None = zero)."""
    rays, counts = distances[0].shape[:-1].numel(), [d.shape[-1] for d in distances]
    total = sum(counts)
    outs = [torch.empty_like(s) for s in samples]
    if rays:
        block_r, block_s = _ray_tile(total)
        composite_backward_kernel[(triton.cdiv(rays, block_r),)](
            distances[0],
            distances[-1],
            samples[0],
            samples[-1],
            *(distances[0] if g is None else g.contiguous() for g in gradients),
            outs[0],
            outs[-1],
            rays,
            counts[0],
            total - counts[0],
            last,
            density_bias,
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            **_switches(distances, midpoint, last_back, sigmoid_color, white_background),
            **dict(zip(("RGB", "DEPTH", "WEIGHTS", "TRANSMITTANCE"), (g is not None for g in gradients), strict=True)),
            num_warps=4,
            **COMPILER,
        )
    return outs


def importance(distances: Tensor, samples: Tensor, u: Tensor, last: float, density_bias: float) -> Tensor:
    """Fine distances `[B, R, F]` from a first pass `[B, R, S]`, `[B, R, S, 4]`."""
    out = torch.empty_like(u)
    rays, count = distances.shape[:-1].numel(), distances.shape[-1]
    if out.numel():
        block_r, block_s = _ray_tile(count)
        block_r = max(block_r // 2, 1)
        importance_kernel[(triton.cdiv(rays, block_r),)](
            distances,
            samples,
            u,
            out,
            rays,
            count,
            u.shape[-1],
            last,
            density_bias,
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            BLOCK_F=16,
            num_warps=4,
            **COMPILER,
        )
    return out
