"""Launches of the field's kernels: shapes of tiles, outputs, arguments. Tensors come in checked (see `arguments`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from threedgp.render.field_interface import FieldGradients, FieldInputs, Needs
from threedgp.render.field_reference import EMPTY_RAW_DENSITY, Decoder
from threedgp.render.plane_layout import TexelStrides, addressable, texel_strides, zeros_like_planes
from threedgp.render.triton.field import field_backward_kernel, field_forward_kernel

INTERPRETED = triton.knobs.runtime.interpret
# Set explicitly: the default changes in Triton 3.10, and results with it.
COMPILER = {} if INTERPRETED else {"num_stages": 1, "enable_fp_fusion": True}


class Tile(NamedTuple):
    """How a kernel is cut up."""

    samples: int
    """Samples of a program's tile, over all of its rays."""
    warps: int
    programs_per_processor: int = 1
    """For kernels whose programs take tiles in turn."""
    registers: int | None = None
    """Most registers a thread may use; None = the compiler's choice."""


def forward_tile(channels: int) -> Tile:
    """Tiles of the forward kernel that stay in registers on sm_90."""
    return Tile(samples=64, warps=8 if channels == 64 else 4)


def backward_tile(channels: int, capability: tuple[int, int] = (9, 0)) -> Tile:
    """Tiles of the backward kernel that stay in registers on sm_90.

    Every thread then holds four channels of one sample (C 32 and 64) or two; larger tiles spill. Two programs share a
    processor, so that one gathers while the other multiplies. sm_80 has no vector reductions and needs more registers.
    """
    if channels == 64:
        return Tile(samples=16, warps=8)
    samples = 16 if channels == 32 else 32
    return Tile(samples, warps=4, programs_per_processor=2) if capability >= (9, 0) else Tile(samples, warps=8)


STOPPING_SAMPLES = 8
"""Samples of a ray between two looks at whether its tile is opaque."""


def _ray_block(samples: int, tile: Tile, longest: int = 32) -> tuple[int, int]:
    """Rays and samples a tile: the longest power of two of samples that wastes no more than the shortest one would."""
    candidates = [2**k for k in range(longest.bit_length())]
    padded = {block: triton.cdiv(samples, block) * block for block in candidates if block < 2 * samples}
    best = max((block for block in padded if padded[block] <= 1.125 * samples), default=1)
    best = min(best, tile.samples)
    return tile.samples // best, best


def _is_wide(layout: TexelStrides, planes: Tensor) -> bool:
    """Whether offsets inside a plane pass 2^31 elements."""
    _, _, height, width, channels = planes.shape
    return (height * layout.row + width * layout.column + 1) * channels >= 2**31


def _constants(planes: Tensor, hidden: int, contraction: bool, wide: bool) -> dict[str, object]:
    channels = planes.shape[-1]
    low_precision = planes.dtype is torch.bfloat16 and channels >= 16 and not INTERPRETED
    return dict(
        C=channels,
        HIDDEN=hidden,
        BLOCK_H=max(16, triton.next_power_of_2(hidden)),
        CONTRACT=contraction,
        WIDE=wide,
        # float32 operands enter the matrix units as TF32, which keeps float32's range and ten bits of the fraction;
        # bf16 products need 16 terms.
        DOT=tl.bfloat16 if low_precision else tl.float32,
        PRECISION="tf32",
    )


def _compiler(tile: Tile) -> dict[str, object]:
    limit = {} if tile.registers is None or INTERPRETED else {"maxnreg": tile.registers}
    return {"num_warps": tile.warps, **limit, **COMPILER}


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def field_forward(
    inputs: FieldInputs,
    distances: Tensor,
    noise: Tensor | None,
    opaque_depth: float = 0.0,
    density_bias: float = 0.0,
    tile: Tile | None = None,
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`, float32; `opaque_depth` > 0: samples behind that depth stay empty."""
    planes, decoder, origins, directions, half_width, contraction = inputs
    tile = tile or forward_tile(planes.shape[-1])
    batch, rays, samples = distances.shape
    out = torch.empty((batch, rays, samples, 4), dtype=torch.float32, device=planes.device)
    if not out.numel():
        return out
    planes = addressable(planes)
    layout = texel_strides(planes)
    block_r, block_s = _ray_block(samples, tile, STOPPING_SAMPLES if opaque_depth else 32)
    tiles = triton.cdiv(rays, block_r)
    field_forward_kernel[(batch * tiles,)](
        planes,
        *decoder,
        origins,
        directions,
        distances,
        distances if noise is None else noise,
        out,
        rays,
        samples,
        *planes.shape[2:4],
        *layout,
        1 / half_width,
        opaque_depth,
        density_bias,
        EMPTY_RAW_DENSITY,
        tiles,
        BLOCK_R=block_r,
        BLOCK_S=block_s,
        NOISE=noise is not None,
        STOP=opaque_depth > 0,
        **_constants(planes, decoder.bias_1.shape[0], contraction, _is_wide(layout, planes)),
        **_compiler(tile),
    )
    return out


def field_backward(
    inputs: FieldInputs, distances: list[Tensor], gradients: list[Tensor], needs: Needs, tile: Tile | None = None
) -> FieldGradients:
    """Gradients of the field at several sets of distances together, so that planes are zeroed and summed once."""
    planes, decoder, origins, directions, half_width, contraction = inputs
    tile = tile or backward_tile(planes.shape[-1], _capability(planes.device))
    channels, hidden = planes.shape[-1], decoder.bias_1.shape[0]
    totals = torch.zeros(0, device=planes.device)
    grad_planes = zeros_like_planes(planes, torch.float32) if needs.planes else totals
    grad_origins = torch.zeros_like(origins, memory_format=torch.contiguous_format) if needs.rays else totals
    grad_directions = torch.zeros_like(directions, memory_format=torch.contiguous_format) if needs.rays else totals
    planes = addressable(planes)
    layout, grad_layout = (
        texel_strides(planes),
        texel_strides(grad_planes) if needs.planes else TexelStrides(0, 0, 0, 0),
    )
    batch, rays = distances[0].shape[:2]
    programs = _processors(planes.device) * tile.programs_per_processor
    partial = torch.zeros(
        (len(distances), programs, hidden * channels + 5 * hidden + 4) if needs.decoder else (len(distances), 0),
        device=planes.device,
    )
    scratch = torch.empty(programs * tile.samples * channels, device=planes.device)
    wide = _is_wide(layout, planes) or (needs.planes and _is_wide(grad_layout, planes))
    for at, gradient, partial_sums in zip(distances, gradients, partial, strict=True):
        samples = at.shape[2]
        block_r, block_s = _ray_block(samples, tile)
        tiles = triton.cdiv(rays, block_r)
        if not gradient.numel():
            continue
        field_backward_kernel[(min(programs, batch * tiles),)](
            planes,
            decoder.weight_1,
            decoder.bias_1,
            decoder.weight_2,
            origins,
            directions,
            at,
            gradient,
            grad_planes,
            grad_origins,
            grad_directions,
            partial_sums,
            scratch,
            rays,
            samples,
            *planes.shape[2:4],
            *layout,
            *grad_layout,
            1 / half_width,
            tiles,
            batch * tiles,
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            PLANES=needs.planes,
            POSITIONS=needs.rays,
            DECODER=needs.decoder,
            **_constants(planes, hidden, contraction, wide),
            **_compiler(tile),
        )
    grad_decoder = None
    if needs.decoder:
        parts = partial.sum((0, 1)).split([hidden * channels, hidden, 4 * hidden, 4])
        grad_decoder = Decoder(*(part.reshape(like.shape).clone() for part, like in zip(parts, decoder, strict=True)))
    return FieldGradients(
        grad_planes if needs.planes else None,
        grad_decoder,
        *((grad_origins, grad_directions) if needs.rays else (None, None)),
    )
