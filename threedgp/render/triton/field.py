"""The tri-plane field on GPUs: kernels, then their launches.

A program takes a tile of neighboring rays and loops over their samples. For each sample it gathers 12 texels, takes
their bilinear mean and decodes it; features and hidden units never leave the chip. The backward pass gathers and
decodes again, so only rays and distances are kept.

Coordinates, interpolation weights and sums are float32; only operands of matrix products are rounded (`_options`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from threedgp.render.decoder import EMPTY_RAW_DENSITY
from threedgp.render.field import Needs, Scene
from threedgp.render.plane_layout import addressable, zeros_like_planes
from threedgp.render.triton.compiler import COMPILER_OPTIONS, INTERPRETED
from threedgp.render.triton.texels import coordinates, gather, position_gradient, scatter


@triton.jit
def _dot(a, b, DOT: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(DOT), b.to(DOT), input_precision=PRECISION)


@triton.jit
def _pad(features, M: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Features `[M, BLOCK_C]`, from `[M, C]` and zeros: Triton needs 16 columns in a matrix product."""
    if BLOCK_C == C:
        return features
    else:
        pairs = tl.join(features, tl.zeros_like(features))
        return tl.reshape(tl.permute(pairs, (0, 2, 1)), (M, BLOCK_C))


@triton.jit
def _load_weight_1(weight_1, HIDDEN: tl.constexpr, BLOCK_H: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """First layer, `[BLOCK_H, BLOCK_C]`, padded with zeros."""
    hidden, channel = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_C)
    mask = (hidden < HIDDEN)[:, None] & (channel < C)[None, :]
    return tl.load(weight_1 + hidden[:, None] * C + channel[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _load_weight_2(weight_2, HIDDEN: tl.constexpr, BLOCK_H: tl.constexpr):
    """Second layer, `[16, BLOCK_H]`: four outputs, padded to the size that a matrix product needs."""
    hidden, output = tl.arange(0, BLOCK_H), tl.arange(0, 16)
    mask = (output < 4)[:, None] & (hidden < HIDDEN)[None, :]
    return tl.load(weight_2 + output[:, None] * HIDDEN + hidden[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _load_ray(vectors, ray, valid):
    x = tl.load(vectors + ray * 3, mask=valid, other=0.0)
    y = tl.load(vectors + ray * 3 + 1, mask=valid, other=0.0)
    z = tl.load(vectors + ray * 3 + 2, mask=valid, other=0.0)
    return x, y, z


@triton.jit
def _evaluate(
    base,
    plane_1,
    plane_2,
    x,
    y,
    z,
    valid,
    w1,
    b1,
    w2,
    b2,
    height,
    width,
    stride_h,
    stride_w,
    M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Color and raw density, `[M, 16]` (four columns are used), at coordinates on the planes."""
    features, _, _ = gather(base, x, y, valid, height, width, stride_h, stride_w, C, WIDE, False)
    more, _, _ = gather(plane_1, x, z, valid, height, width, stride_h, stride_w, C, WIDE, False)
    features += more
    more, _, _ = gather(plane_2, y, z, valid, height, width, stride_h, stride_w, C, WIDE, False)
    features = (features + more) * (1.0 / 3.0)
    pre = _dot(_pad(features, M, C, BLOCK_C), tl.trans(w1), DOT, PRECISION) + b1[None, :]
    active = tl.where(pre > 0, pre, pre * 0.2) * 1.4142135623730951
    return _dot(active, tl.trans(w2), DOT, PRECISION) + b2[None, :]


# Sizes and strides vary from call to call, so kernels are not compiled for their values. (Strides are in texels, so
# addresses are aligned for any values.)
UNSPECIALIZED = [
    *("rays", "samples", "height", "width", "stride_b", "stride_p", "stride_h", "stride_w", "tiles", "total_tiles"),
    *("grad_stride_b", "grad_stride_p", "grad_stride_h", "grad_stride_w"),
]


@triton.jit(do_not_specialize=UNSPECIALIZED)
def field_forward_kernel(
    planes,
    weight_1,
    bias_1,
    weight_2,
    bias_2,
    origins,
    directions,
    distances,
    noise,
    out,
    rays,
    samples,
    height,
    width,
    stride_b,
    stride_p,
    stride_h,
    stride_w,
    inverse_half_width,
    max_optical_depth,
    bias,
    empty,
    tiles,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    NOISE: tl.constexpr,
    CONTRACT: tl.constexpr,
    STOP: tl.constexpr,
    WIDE: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """rgb and raw density of every sample; `tiles` programs per image, each with BLOCK_R rays.

    With STOP, samples are empty (black, raw density `empty`) once all rays of the program have passed the optical depth
    `max_optical_depth`. `bias` is added to raw density for that test only.
    """
    M: tl.constexpr = BLOCK_R * BLOCK_S
    program = tl.program_id(0)
    image = (program // tiles).to(tl.int64)
    member = tl.arange(0, M)
    ray_of_image = (program % tiles) * BLOCK_R + member // BLOCK_S
    ray = image * rays + ray_of_image
    is_ray = ray_of_image < rays
    ox, oy, oz = _load_ray(origins, ray, is_ray)
    dx, dy, dz = _load_ray(directions, ray, is_ray)
    base = planes + image * stride_b * C
    plane_1 = base + tl.cast(stride_p, tl.int64) * C
    plane_2 = plane_1 + tl.cast(stride_p, tl.int64) * C
    hidden, output = tl.arange(0, BLOCK_H), tl.arange(0, 16)
    w1 = _load_weight_1(weight_1, HIDDEN, BLOCK_H, C, BLOCK_C)
    w2 = _load_weight_2(weight_2, HIDDEN, BLOCK_H)
    b1 = tl.load(bias_1 + hidden, mask=hidden < HIDDEN, other=0.0).to(tl.float32)
    b2 = tl.load(bias_2 + output, mask=output < 4, other=0.0).to(tl.float32)
    if STOP:
        own = (program % tiles) * BLOCK_R + tl.arange(0, BLOCK_R)
        optical_depth = tl.where(own < rays, 0.0, float("inf"))  # of each ray so far
    for first in range(0, samples, BLOCK_S):
        sample = first + member % BLOCK_S
        valid = is_ray & (sample < samples)
        at = ray * samples + sample
        t = tl.load(distances + at, mask=valid, other=0.0)
        x, y, z = coordinates(ox + t * dx, oy + t * dy, oz + t * dz, inverse_half_width, CONTRACT)
        if STOP:
            values = tl.where((output == 3)[None, :], empty, tl.zeros((M, 16), tl.float32))
            if tl.min(optical_depth, axis=0) < max_optical_depth:
                values = _evaluate(
                    base, plane_1, plane_2, x, y, z, valid, w1, b1, w2, b2, height, width, stride_h, stride_w,
                    M, BLOCK_H, C, BLOCK_C, WIDE, DOT, PRECISION,
                )  # fmt: skip
                raw = tl.sum(tl.where((output == 3)[None, :], values, 0.0), axis=1) + bias
                if NOISE:
                    raw += tl.load(noise + at, mask=valid, other=0.0)
                density = tl.maximum(raw, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(raw)))
                t_next = tl.load(distances + at + 1, mask=valid & (sample + 1 < samples), other=0.0)
                depth = tl.where(valid & (sample + 1 < samples), density * (t_next - t), 0.0)
                optical_depth += tl.sum(tl.reshape(depth, (BLOCK_R, BLOCK_S)), axis=1)
        else:
            values = _evaluate(
                base, plane_1, plane_2, x, y, z, valid, w1, b1, w2, b2, height, width, stride_h, stride_w,
                M, BLOCK_H, C, BLOCK_C, WIDE, DOT, PRECISION,
            )  # fmt: skip
        if NOISE:
            extra = tl.load(noise + at, mask=valid, other=0.0)
            values += tl.where((output == 3)[None, :], extra[:, None], 0.0)
        tl.store(out + (at * 4)[:, None] + output[None, :], values, mask=valid[:, None] & (output < 4)[None, :])


@triton.jit
def _add_to_rays(out, gradient, ray, is_ray, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr, AXIS: tl.constexpr):
    """Add the samples of each ray to one component of its gradient; no atomics: a ray belongs to one program."""
    total = tl.sum(tl.reshape(gradient, (BLOCK_R, BLOCK_S)), axis=1)
    pointers = out + ray * 3 + AXIS
    tl.store(pointers, tl.load(pointers, mask=is_ray, other=0.0) + total, mask=is_ray)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def field_backward_kernel(
    planes,
    weight_1,
    bias_1,
    weight_2,
    origins,
    directions,
    distances,
    grad_out,
    grad_planes,
    grad_origins,
    grad_directions,
    partial,
    scratch,
    rays,
    samples,
    height,
    width,
    stride_b,
    stride_p,
    stride_h,
    stride_w,
    grad_stride_b,
    grad_stride_p,
    grad_stride_h,
    grad_stride_w,
    inverse_half_width,
    tiles,
    total_tiles,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    PLANES: tl.constexpr,
    POSITIONS: tl.constexpr,
    DECODER: tl.constexpr,
    CONTRACT: tl.constexpr,
    WIDE: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add the gradients of one set of samples to `grad_planes`, `grad_origins` and `grad_directions`.

    There are as many programs as the GPU runs at once; they take tiles in turn, so that gradients of the decoder need
    one partial sum per program: row `program` of `partial`: `[HIDDEN, C]`, `[HIDDEN]`, `[4, HIDDEN]`, `[4]`.
    """
    M: tl.constexpr = BLOCK_R * BLOCK_S
    program = tl.program_id(0)
    member = tl.arange(0, M)
    hidden, output = tl.arange(0, BLOCK_H), tl.arange(0, 16)
    w1 = _load_weight_1(weight_1, HIDDEN, BLOCK_H, C, BLOCK_C)
    w2 = _load_weight_2(weight_2, HIDDEN, BLOCK_H)
    b1 = tl.load(bias_1 + hidden, mask=hidden < HIDDEN, other=0.0).to(tl.float32)
    grad_w1 = tl.zeros((BLOCK_C, BLOCK_H), tl.float32)
    grad_b1 = tl.zeros((16, BLOCK_H), tl.float32)  # all rows are equal
    grad_w2 = tl.zeros((16, BLOCK_H), tl.float32)
    grad_b2 = tl.zeros((M, 16), tl.float32)  # summed over rows in the end
    buffer = scratch + program.to(tl.int64) * (M * C) + member[:, None] * C
    channel = tl.arange(0, BLOCK_C)
    for tile in range(program, total_tiles, tl.num_programs(0)):
        image = (tile // tiles).to(tl.int64)
        ray_of_image = (tile % tiles) * BLOCK_R + member // BLOCK_S
        ray = image * rays + ray_of_image
        is_ray = ray_of_image < rays
        ox, oy, oz = _load_ray(origins, ray, is_ray)
        dx, dy, dz = _load_ray(directions, ray, is_ray)
        base = planes + image * stride_b * C
        plane_1 = base + tl.cast(stride_p, tl.int64) * C
        plane_2 = plane_1 + tl.cast(stride_p, tl.int64) * C
        grad_base = grad_planes + image * grad_stride_b * C
        grad_1 = grad_base + tl.cast(grad_stride_p, tl.int64) * C
        grad_2 = grad_1 + tl.cast(grad_stride_p, tl.int64) * C
        gox = tl.zeros((M,), tl.float32)
        goy = tl.zeros((M,), tl.float32)
        goz = tl.zeros((M,), tl.float32)
        gdx = tl.zeros((M,), tl.float32)
        gdy = tl.zeros((M,), tl.float32)
        gdz = tl.zeros((M,), tl.float32)
        for first in range(0, samples, BLOCK_S):
            sample = first + member % BLOCK_S
            valid = is_ray & (sample < samples)
            at = ray * samples + sample
            t = tl.load(distances + at, mask=valid, other=0.0)
            px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
            x, y, z = coordinates(px, py, pz, inverse_half_width, CONTRACT)
            # The barriers keep the compiler from loading the texels of all planes into registers at once.
            features, slope_x, slope_y = gather(
                base, x, y, valid, height, width, stride_h, stride_w, C, WIDE, POSITIONS
            )
            tl.debug_barrier()
            more, across, slope_z = gather(plane_1, x, z, valid, height, width, stride_h, stride_w, C, WIDE, POSITIONS)
            features, slope_x = features + more, slope_x + across
            tl.debug_barrier()
            more, across, up = gather(plane_2, y, z, valid, height, width, stride_h, stride_w, C, WIDE, POSITIONS)
            features, slope_y, slope_z = (features + more) * (1.0 / 3.0), slope_y + across, slope_z + up
            tl.debug_barrier()
            features = _pad(features, M, C, BLOCK_C)
            pre = _dot(features, tl.trans(w1), DOT, PRECISION) + b1[None, :]
            grad = tl.load(
                grad_out + (at * 4)[:, None] + output[None, :], mask=valid[:, None] & (output < 4)[None, :], other=0.0
            )
            slope = tl.where(pre > 0, 1.4142135623730951, 0.2 * 1.4142135623730951)
            grad_pre = _dot(grad, w2, DOT, PRECISION) * slope
            if PLANES or POSITIONS:
                # The product distributes its result over threads in another layout than the atomics need. A round trip
                # through memory (a buffer of this program, which stays in the cache) converts it once; Triton would
                # convert it for each atomic.
                tl.debug_barrier()
                grad_plane = _dot(grad_pre, w1, DOT, PRECISION) * (1.0 / 3.0)
                tl.store(buffer + channel[None, :], grad_plane, mask=(channel < C)[None, :])
                tl.debug_barrier()
                grad_features = tl.load(buffer + tl.arange(0, C)[None, :])
            if POSITIONS:
                gx = tl.sum(grad_features * slope_x, axis=1)
                gy = tl.sum(grad_features * slope_y, axis=1)
                gz = tl.sum(grad_features * slope_z, axis=1)
                gx, gy, gz = position_gradient(px, py, pz, gx, gy, gz, inverse_half_width, CONTRACT)
                gox, goy, goz = gox + gx, goy + gy, goz + gz
                gdx, gdy, gdz = gdx + t * gx, gdy + t * gy, gdz + t * gz
            if DECODER:
                grad_w2 += _dot(tl.trans(grad), pre * slope, DOT, PRECISION)
                grad_w1 += _dot(tl.trans(features), grad_pre, DOT, PRECISION)
                # Column sums as a product with ones: cheaper than reductions across warps.
                grad_b1 += _dot(tl.full((16, M), 1.0, tl.float32), grad_pre, DOT, PRECISION)
                grad_b2 += grad
            tl.debug_barrier()
            if PLANES:
                scatter(grad_base, grad_features, x, y, valid, height, width, grad_stride_h, grad_stride_w, C, WIDE)
                scatter(grad_1, grad_features, x, z, valid, height, width, grad_stride_h, grad_stride_w, C, WIDE)
                scatter(grad_2, grad_features, y, z, valid, height, width, grad_stride_h, grad_stride_w, C, WIDE)
        if POSITIONS:
            own = (tile % tiles) * BLOCK_R + tl.arange(0, BLOCK_R)
            own_ray = image * rays + own
            _add_to_rays(grad_origins, gox, own_ray, own < rays, BLOCK_R, BLOCK_S, 0)
            _add_to_rays(grad_origins, goy, own_ray, own < rays, BLOCK_R, BLOCK_S, 1)
            _add_to_rays(grad_origins, goz, own_ray, own < rays, BLOCK_R, BLOCK_S, 2)
            _add_to_rays(grad_directions, gdx, own_ray, own < rays, BLOCK_R, BLOCK_S, 0)
            _add_to_rays(grad_directions, gdy, own_ray, own < rays, BLOCK_R, BLOCK_S, 1)
            _add_to_rays(grad_directions, gdz, own_ray, own < rays, BLOCK_R, BLOCK_S, 2)
    if DECODER:
        row = partial + program.to(tl.int64) * (HIDDEN * C + 5 * HIDDEN + 4)
        is_hidden = hidden < HIDDEN
        mask = (channel < C)[:, None] & is_hidden[None, :]
        tl.store(row + hidden[None, :] * C + channel[:, None], grad_w1, mask=mask)
        row += HIDDEN * C
        tl.store(row + hidden, tl.sum(grad_b1, axis=0) * (1.0 / 16.0), mask=is_hidden)
        row += HIDDEN
        mask = (output < 4)[:, None] & is_hidden[None, :]
        tl.store(row + output[:, None] * HIDDEN + hidden[None, :], grad_w2, mask=mask)
        row += 4 * HIDDEN
        tl.store(row + output, tl.sum(grad_b2, axis=0), mask=output < 4)


class Tile(NamedTuple):
    """How a kernel is divided into programs."""

    samples: int
    """Samples that a program evaluates at a time, of all its rays."""
    warps: int
    programs_per_processor: int = 1
    """For kernels whose programs take tiles in turn."""
    registers: int | None = None
    """Maximum per thread; None = the compiler's choice."""


INTERPRETER_CAPABILITY = (9, 0)


def forward_tile(channels: int, capability: tuple[int, int] = INTERPRETER_CAPABILITY) -> Tile:
    """Tile of the forward kernel that does not spill at the published sizes."""
    if channels == 64:
        return Tile(samples=32, warps=8)
    return Tile(samples=64, warps=8 if channels == 32 and capability >= (10, 0) else 4)


def backward_tile(channels: int, capability: tuple[int, int] = INTERPRETER_CAPABILITY) -> Tile:
    """Tile of the backward kernel that does not spill at the published sizes.

    From sm_90 on, each thread then holds four channels of one sample, two if C is 8; larger tiles spill. Up to C 32,
    two programs share a processor, so that one gathers while the other multiplies. sm_80 has no vector reductions and
    needs more registers: one program with twice as many threads.
    """
    if channels == 64:
        return Tile(samples=16, warps=8)
    samples = 16 if channels == 32 else 32
    return Tile(samples, warps=4, programs_per_processor=2) if capability >= (9, 0) else Tile(samples, warps=8)


STOPPING_SAMPLES = 8
"""Samples of a ray between two tests whether it is opaque."""


def _ray_block(samples: int, tile: Tile, max_samples: int = 32) -> tuple[int, int]:
    """Rays and samples per ray of a tile: the largest power of two of samples that pads rays by at most an eighth."""
    blocks = [2**k for k in range(max_samples.bit_length()) if 2**k < 2 * samples]
    best = max((block for block in blocks if triton.cdiv(samples, block) * block <= 1.125 * samples), default=1)
    best = min(best, tile.samples)
    return tile.samples // best, best


def _capability(device: torch.device) -> tuple[int, int]:
    return INTERPRETER_CAPABILITY if INTERPRETED else torch.cuda.get_device_capability(device)


def _texel_strides(planes: Tensor) -> list[int]:
    """Strides of images, planes, rows and columns in texels."""
    return [stride // planes.shape[-1] for stride in planes.stride()[:4]]


def _is_wide(planes: Tensor) -> bool:
    """Whether offsets inside a plane exceed 32 bits."""
    _, _, height, width, channels = planes.shape
    return height * planes.stride(2) + width * planes.stride(3) + channels >= 2**31


def _options(planes: Tensor, hidden: int, contraction: bool, wide: bool, tile: Tile) -> dict[str, object]:
    """Keyword arguments that the forward and the backward kernel share."""
    channels = planes.shape[-1]
    low_precision = planes.dtype is torch.bfloat16 and channels >= 16 and not INTERPRETED
    limit = {} if tile.registers is None or INTERPRETED else {"maxnreg": tile.registers}
    return dict(
        C=channels,
        BLOCK_C=max(16, channels),
        HIDDEN=hidden,
        BLOCK_H=max(16, triton.next_power_of_2(hidden)),
        CONTRACT=contraction,
        WIDE=wide,
        # float32 operands enter matrix products as TF32, which has the range of float32 and ten bits of its fraction.
        DOT=tl.bfloat16 if low_precision else tl.float32,
        PRECISION="tf32",
        num_warps=tile.warps,
        **limit,
        **COMPILER_OPTIONS,
    )


def field_forward(
    scene: Scene,
    distances: Tensor,
    noise: Tensor | None,
    max_optical_depth: float = 0.0,
    density_bias: float = 0.0,
    tile: Tile | None = None,
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`, float32; samples behind `max_optical_depth` > 0 are empty."""
    planes, decoder, origins, directions, half_width, contraction = scene
    tile = tile or forward_tile(planes.shape[-1], _capability(planes.device))
    batch, rays, samples = distances.shape
    out = torch.empty((batch, rays, samples, 4), dtype=torch.float32, device=planes.device)
    if not out.numel():
        return out
    planes = addressable(planes)
    block_r, block_s = _ray_block(samples, tile, STOPPING_SAMPLES if max_optical_depth else 32)
    tiles = triton.cdiv(rays, block_r)
    field_forward_kernel[(batch * tiles,)](
        *(planes, *decoder, origins, directions, distances, distances if noise is None else noise, out),
        *(rays, samples, *planes.shape[2:4], *_texel_strides(planes)),
        *(1 / half_width, max_optical_depth, density_bias, EMPTY_RAW_DENSITY, tiles),
        BLOCK_R=block_r,
        BLOCK_S=block_s,
        NOISE=noise is not None,
        STOP=max_optical_depth > 0,
        **_options(planes, decoder.bias_1.shape[0], contraction, _is_wide(planes), tile),
    )
    return out


def field_backward(
    scene: Scene, distances: list[Tensor], gradients: list[Tensor], needs: Needs, tile: Tile | None = None
) -> list[Tensor | None]:
    """Gradients of planes, the decoder's four tensors, origins and directions (None = not needed), summed over several
    sets of distances."""
    planes, decoder, origins, directions, half_width, contraction = scene
    device, channels, hidden = planes.device, planes.shape[-1], decoder.bias_1.shape[0]
    processors = 1 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count
    tile = tile or backward_tile(channels, _capability(device))
    programs = processors * tile.programs_per_processor
    unused = torch.empty(0, device=device)
    grad_planes = zeros_like_planes(planes, torch.float32) if needs.planes else unused
    grad_rays = [torch.zeros_like(origins) if needs.rays else unused for _ in range(2)]
    sizes = (hidden * channels, hidden, 4 * hidden, 4)
    partial = torch.zeros((len(distances), programs, sum(sizes) if needs.decoder else 0), device=device)
    scratch = torch.empty(programs * tile.samples * channels, device=device)
    planes = addressable(planes)
    wide = _is_wide(planes) or (needs.planes and _is_wide(grad_planes))
    for t, gradient, partial_sums in zip(distances, gradients, partial, strict=True):
        batch, rays, samples = t.shape
        block_r, block_s = _ray_block(samples, tile)
        tiles = triton.cdiv(rays, block_r)
        if not gradient.numel():
            continue
        field_backward_kernel[(min(programs, batch * tiles),)](
            *(planes, *decoder[:3], origins, directions, t, gradient),
            *(grad_planes, *grad_rays, partial_sums, scratch),
            *(rays, samples, *planes.shape[2:4], *_texel_strides(planes)),
            *(_texel_strides(grad_planes) if needs.planes else [0] * 4),
            *(1 / half_width, tiles, batch * tiles),
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            PLANES=needs.planes,
            POSITIONS=needs.rays,
            DECODER=needs.decoder,
            **_options(planes, hidden, contraction, wide, tile),
        )
    layers = [None] * 4
    if needs.decoder:
        parts = partial.sum((0, 1)).split(sizes)
        layers = [part.reshape(like.shape).clone() for part, like in zip(parts, decoder, strict=True)]
    return [grad_planes if needs.planes else None, *layers, *(grad_rays if needs.rays else [None] * 2)]
