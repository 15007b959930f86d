"""Compositing and importance sampling on GPUs: kernels, then their launches.

A program holds whole rays: their samples, from one set or merged from two, sorted by distance in registers. The union
is never written to memory, and the backward pass sorts and composites again instead of keeping anything.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from threedgp.render.compositing import CompositeSettings, empty_outputs, last_interval
from threedgp.render.triton.compiler import COMPILER_OPTIONS


@triton.jit
def _multiply(a, b):
    return a * b


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), accurate for very negative x too, because the last interval may be 1e10 long."""
    small = tl.exp(-tl.abs(x))
    rounded = 1.0 + small
    # Kahan's log1p: the division corrects for the rounding of 1 + small.
    correction = tl.where(rounded == 1.0, small, tl.log(rounded) * small / tl.where(rounded == 1.0, 1.0, rounded - 1.0))
    return tl.maximum(x, 0.0) + correction


@triton.jit
def _opacity(depth):
    """Opacity 1 - exp(-depth) of an optical depth, accurate for small ones too."""
    series = depth * (1.0 - depth * (0.5 - depth * (1.0 / 6.0 - depth * (1.0 / 24.0))))
    return tl.where(depth < 0.01, series, 1.0 - tl.exp(-depth))


@triton.jit
def _shift(x, place, step: tl.constexpr, BLOCK_S: tl.constexpr):
    """Values of the sample `step` places further along each ray, clamped to the ends."""
    return tl.gather(x, tl.minimum(tl.maximum(place + step, 0), BLOCK_S - 1), axis=1)


@triton.jit
def _load(first, second, ray, index, valid, in_first, count_1, count_2, K: tl.constexpr, channel: tl.constexpr):
    a = tl.load(first + (ray * count_1 + index) * K + channel, mask=valid & in_first, other=0.0)
    b = tl.load(second + (ray * count_2 + index - count_1) * K + channel, mask=valid & ~in_first, other=0.0)
    return tl.where(in_first, a, b)


@triton.jit
def _order(first, second, ray, place, is_ray, count_1, count_2, SORT: tl.constexpr):
    """Indices of the samples of both sets in the order of their distances."""
    if SORT:
        in_first = place < count_1
        valid = is_ray & (place < count_1 + count_2)
        t = _load(first, second, ray, place, valid, in_first, count_1, count_2, 1, 0)
        t = tl.where(place < count_1 + count_2, t, float("inf"))
        bits = t.to(tl.int32, bitcast=True)
        bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # signed integers in the order of the floats
        key = (bits.to(tl.int64) << 32) | place.to(tl.int64)  # the place in the low bits makes the order stable
        return (tl.sort(key, dim=1) & 0xFFFFFFFF).to(tl.int32)
    else:
        return place


@triton.jit
def _color(raw, SIGMOID: tl.constexpr):
    if SIGMOID:
        return tl.sigmoid(raw) * 1.002 - 0.001
    else:
        return raw


@triton.jit
def _color_gradient(gradient, raw):
    """Gradient of raw colors, given that of sigmoid colors."""
    value = tl.sigmoid(raw)
    return gradient * 1.002 * value * (1.0 - value)


@triton.jit
def _load_rays(
    distances_1,
    distances_2,
    samples_1,
    samples_2,
    rays,
    count_1,
    count_2,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    SORT: tl.constexpr,
    SIGMOID: tl.constexpr,
):
    """The rays of this program and their samples `[BLOCK_R, BLOCK_S]` in the order of distances."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    ray, is_ray = row[:, None], (row < rays)[:, None]
    place = tl.broadcast_to(tl.arange(0, BLOCK_S)[None, :], (BLOCK_R, BLOCK_S))
    index = _order(distances_1, distances_2, ray, place, is_ray, count_1, count_2, SORT)
    valid, in_first = is_ray & (place < count_1 + count_2), index < count_1
    t = _load(distances_1, distances_2, ray, index, valid, in_first, count_1, count_2, 1, 0)
    r = _color(_load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 0), SIGMOID)
    g = _color(_load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 1), SIGMOID)
    b = _color(_load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 2), SIGMOID)
    raw = _load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 3)
    return row, ray, is_ray, place, index, valid, t, r, g, b, raw


@triton.jit
def _weigh(t, r, g, b, raw, place, count, last, bias, MIDPOINT: tl.constexpr, BLOCK_S: tl.constexpr):
    """Values of the intervals that compositing sums, and the factors of their weights."""
    t_next = _shift(t, place, 1, BLOCK_S)
    delta = t_next - t
    if MIDPOINT:
        t = (t + t_next) * 0.5
        r = (r + _shift(r, place, 1, BLOCK_S)) * 0.5
        g = (g + _shift(g, place, 1, BLOCK_S)) * 0.5
        b = (b + _shift(b, place, 1, BLOCK_S)) * 0.5
        raw = (raw + _shift(raw, place, 1, BLOCK_S)) * 0.5
        intervals = count - 1
    else:
        delta = tl.where(place == count - 1, last, delta)
        intervals = count
    used = place < intervals
    delta = tl.where(used, delta, 0.0)
    raw = raw + bias
    depth = _softplus(raw) * delta
    alpha = tl.where(used, _opacity(depth), 0.0)
    passed = 1.0 - alpha + 1e-10
    through = tl.associative_scan(passed, 1, _multiply)
    before = tl.where(place == 0, 1.0, _shift(through, place, -1, BLOCK_S))
    end = tl.sum(tl.where(place == BLOCK_S - 1, through, 0.0), axis=1)
    return t, r, g, b, raw, delta, depth, alpha, passed, before, end, used, intervals


@triton.jit
def composite_forward_kernel(
    distances_1,
    distances_2,
    samples_1,
    samples_2,
    rgb,
    depth_out,
    weights_out,
    transmittance,
    rays,
    count_1,
    count_2,
    last,
    bias,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    SORT: tl.constexpr,
    MIDPOINT: tl.constexpr,
    LAST_BACK: tl.constexpr,
    SIGMOID: tl.constexpr,
    WHITE: tl.constexpr,
):
    """Color, depth, weights and transmittance of BLOCK_R rays; `samples_*` are `[rays, count_*, 4]`."""
    row, ray, is_ray, place, _index, _valid, t, r, g, b, raw = _load_rays(
        distances_1, distances_2, samples_1, samples_2, rays, count_1, count_2, BLOCK_R, BLOCK_S, SORT, SIGMOID
    )
    count = count_1 + count_2
    t, r, g, b, raw, _delta, _depth, alpha, _passed, before, end, used, intervals = _weigh(
        t, r, g, b, raw, place, count, last, bias, MIDPOINT, BLOCK_S
    )
    weights = alpha * before
    if LAST_BACK:
        rest = 1.0 - tl.sum(weights, axis=1)
        weights += tl.where(place == intervals - 1, rest[:, None], 0.0)
    red, green, blue = tl.sum(weights * r, axis=1), tl.sum(weights * g, axis=1), tl.sum(weights * b, axis=1)
    if WHITE:
        missing = 1.0 - tl.sum(weights, axis=1)
        red, green, blue = red + missing, green + missing, blue + missing
    if SIGMOID:
        red, green, blue = red * 2.0 - 1.0, green * 2.0 - 1.0, blue * 2.0 - 1.0
    tl.store(rgb + row * 3, red, mask=row < rays)
    tl.store(rgb + row * 3 + 1, green, mask=row < rays)
    tl.store(rgb + row * 3 + 2, blue, mask=row < rays)
    tl.store(depth_out + row, tl.sum(weights * t, axis=1), mask=row < rays)
    tl.store(transmittance + row, end, mask=row < rays)
    tl.store(weights_out + ray * intervals + place, weights, mask=is_ray & used)


@triton.jit
def _store(first, second, value, ray, index, valid, in_first, count_1, count_2, channel: tl.constexpr):
    tl.store(first + (ray * count_1 + index) * 4 + channel, value, mask=valid & in_first)
    tl.store(second + (ray * count_2 + index - count_1) * 4 + channel, value, mask=valid & ~in_first)


@triton.jit
def _to_samples(gradient, place, MIDPOINT: tl.constexpr, BLOCK_S: tl.constexpr):
    """Gradient of samples, given that of intervals."""
    if MIDPOINT:
        return 0.5 * (gradient + tl.where(place == 0, 0.0, _shift(gradient, place, -1, BLOCK_S)))
    else:
        return gradient


@triton.jit
def composite_backward_kernel(
    distances_1,
    distances_2,
    samples_1,
    samples_2,
    grad_rgb,
    grad_depth,
    grad_weights,
    grad_transmittance,
    grad_samples_1,
    grad_samples_2,
    rays,
    count_1,
    count_2,
    last,
    bias,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    SORT: tl.constexpr,
    MIDPOINT: tl.constexpr,
    LAST_BACK: tl.constexpr,
    SIGMOID: tl.constexpr,
    WHITE: tl.constexpr,
    RGB: tl.constexpr,
    DEPTH: tl.constexpr,
    WEIGHTS: tl.constexpr,
    TRANSMITTANCE: tl.constexpr,
):
    """Gradients of the samples of BLOCK_R rays, given those of the outputs whose flags (RGB, ...) are set."""
    _row, ray, is_ray, place, index, valid, t, r, g, b, raw = _load_rays(
        distances_1, distances_2, samples_1, samples_2, rays, count_1, count_2, BLOCK_R, BLOCK_S, SORT, SIGMOID
    )
    count = count_1 + count_2
    t, r, g, b, raw, delta, depth, alpha, passed, before, end, used, intervals = _weigh(
        t, r, g, b, raw, place, count, last, bias, MIDPOINT, BLOCK_S
    )
    # d loss / d weights, summed over outputs
    to_weight = tl.zeros((BLOCK_R, BLOCK_S), tl.float32)
    g_red = tl.zeros((BLOCK_R, 1), tl.float32)
    g_green = tl.zeros((BLOCK_R, 1), tl.float32)
    g_blue = tl.zeros((BLOCK_R, 1), tl.float32)
    if RGB:
        g_red = tl.load(grad_rgb + ray * 3, mask=is_ray, other=0.0)
        g_green = tl.load(grad_rgb + ray * 3 + 1, mask=is_ray, other=0.0)
        g_blue = tl.load(grad_rgb + ray * 3 + 2, mask=is_ray, other=0.0)
        if SIGMOID:
            g_red, g_green, g_blue = g_red * 2.0, g_green * 2.0, g_blue * 2.0
        to_weight += g_red * r + g_green * g + g_blue * b
        if WHITE:
            to_weight -= g_red + g_green + g_blue
    if DEPTH:
        to_weight += tl.load(grad_depth + ray, mask=is_ray, other=0.0) * t
    if WEIGHTS:
        to_weight += tl.load(grad_weights + ray * intervals + place, mask=is_ray & used, other=0.0)
    weights = alpha * before
    color_weights = weights
    if LAST_BACK:  # the last weight is one minus the others
        is_last = place == intervals - 1
        rest = 1.0 - tl.sum(weights, axis=1)
        color_weights += tl.where(is_last, rest[:, None], 0.0)
        to_weight -= tl.sum(tl.where(is_last, to_weight, 0.0), axis=1)[:, None]
    to_weight = tl.where(used, to_weight, 0.0)
    # A sample attenuates everything behind it: samples, by weight times gradient, and the transmitted light.
    behind = tl.associative_scan(weights * to_weight, 1, _add, reverse=True)
    behind = tl.where(place == BLOCK_S - 1, 0.0, _shift(behind, place, 1, BLOCK_S))
    if TRANSMITTANCE:
        behind += tl.load(grad_transmittance + ray, mask=is_ray, other=0.0) * end[:, None]
    to_alpha = before * to_weight - behind / passed
    to_raw = tl.where(used, to_alpha * tl.exp(-depth) * delta * tl.sigmoid(raw), 0.0)
    to_raw = _to_samples(to_raw, place, MIDPOINT, BLOCK_S)
    color_weights = _to_samples(tl.where(used, color_weights, 0.0), place, MIDPOINT, BLOCK_S)
    in_first = index < count_1
    to_r, to_g, to_b = color_weights * g_red, color_weights * g_green, color_weights * g_blue
    if SIGMOID:
        raw_r = _load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 0)
        to_r = _color_gradient(to_r, raw_r)
        raw_g = _load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 1)
        to_g = _color_gradient(to_g, raw_g)
        raw_b = _load(samples_1, samples_2, ray, index, valid, in_first, count_1, count_2, 4, 2)
        to_b = _color_gradient(to_b, raw_b)
    _store(grad_samples_1, grad_samples_2, to_r, ray, index, valid, in_first, count_1, count_2, 0)
    _store(grad_samples_1, grad_samples_2, to_g, ray, index, valid, in_first, count_1, count_2, 1)
    _store(grad_samples_1, grad_samples_2, to_b, ray, index, valid, in_first, count_1, count_2, 2)
    _store(grad_samples_1, grad_samples_2, to_raw, ray, index, valid, in_first, count_1, count_2, 3)


@triton.jit
def importance_kernel(
    distances,
    samples,
    u,
    out,
    rays,
    count,
    fine,
    bias,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Distances drawn from the weights of the coarse pass (see `importance_distances`); weights stay in registers."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    ray, is_ray = row[:, None], (row < rays)[:, None]
    place = tl.broadcast_to(tl.arange(0, BLOCK_S)[None, :], (BLOCK_R, BLOCK_S))
    valid = is_ray & (place < count)
    t = tl.load(distances + ray * count + place, mask=valid, other=0.0)
    raw = tl.load(samples + (ray * count + place) * 4 + 3, mask=valid, other=0.0)
    t, _r, _g, _b, raw, _delta, _depth, alpha, _passed, before, _end, _used, _intervals = _weigh(
        t, t, t, t, raw, place, count, 1.0, bias, False, BLOCK_S
    )
    mass = tl.where((place > 0) & (place < count - 1), alpha * before + 2e-5, 0.0)  # WEIGHT_FLOOR in sampling.py
    is_edge = place < count - 1
    edges = (t + _shift(t, place, 1, BLOCK_S)) * 0.5
    cdf = tl.associative_scan(mass / tl.sum(mass, axis=1)[:, None], 1, _add)
    cdf, edges, is_edge = cdf[:, None, :], edges[:, None, :], is_edge[:, None, :]
    for start in range(0, fine, BLOCK_F):
        draw = start + tl.arange(0, BLOCK_F)
        is_draw = is_ray & (draw < fine)[None, :]
        at = ray * fine + draw[None, :]
        value = tl.load(u + at, mask=is_draw, other=0.0)
        # Both sequences increase, so the neighbors of a value are a largest and a smallest.
        under = is_edge & (cdf <= value[:, :, None])
        over = is_edge & (cdf > value[:, :, None])
        cdf_below = tl.max(tl.where(under, cdf, 0.0), axis=2)
        edge_below = tl.max(tl.where(under, edges, float("-inf")), axis=2)
        cdf_above = tl.min(tl.where(over, cdf, float("inf")), axis=2)
        edge_above = tl.min(tl.where(over, edges, float("inf")), axis=2)
        beyond = cdf_above == float("inf")
        cdf_above, edge_above = tl.where(beyond, cdf_below, cdf_above), tl.where(beyond, edge_below, edge_above)
        width = cdf_above - cdf_below
        width = tl.where(width < 1e-5, 1.0, width)
        tl.store(out + at, edge_below + (value - cdf_below) / width * (edge_above - edge_below), mask=is_draw)


def _ray_tile(samples: int) -> tuple[int, int]:
    """Rays and (padded) samples of a program."""
    block_s = max(triton.next_power_of_2(samples), 2)
    return max(256 // block_s, 1), block_s


def _options(distances: list[Tensor], settings: CompositeSettings) -> dict[str, object]:
    """Keyword arguments that the forward and the backward kernel share."""
    block_r, block_s = _ray_tile(sum(d.shape[-1] for d in distances))
    return dict(
        last=last_interval(settings),
        bias=settings.density_bias,
        BLOCK_R=block_r,
        BLOCK_S=block_s,
        SORT=len(distances) > 1,
        MIDPOINT=settings.midpoint,
        LAST_BACK=settings.last_back,
        SIGMOID=settings.sigmoid_color,
        WHITE=settings.white_background,
        num_warps=4,
        **COMPILER_OPTIONS,
    )


def composite_forward(
    distances: list[Tensor], samples: list[Tensor], settings: CompositeSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, weights and transmittance of rays, merged from one or two sets of samples."""
    outs, counts = empty_outputs(distances, settings.midpoint), [d.shape[-1] for d in distances]
    rays, total = outs[1].numel(), sum(counts)
    if rays:
        options = _options(distances, settings)
        composite_forward_kernel[(triton.cdiv(rays, options["BLOCK_R"]),)](
            *(distances[0], distances[-1], samples[0], samples[-1], *outs, rays, counts[0], total - counts[0]),
            **options,
        )
    return outs


def composite_backward(
    distances: list[Tensor],
    samples: list[Tensor],
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    settings: CompositeSettings,
) -> list[Tensor]:
    """Gradients of the sets of samples, given those of rgb, depth, weights, transmittance (None = zero)."""
    rays, counts = distances[0].shape[:-1].numel(), [d.shape[-1] for d in distances]
    outs = [torch.empty_like(s) for s in samples]
    if rays:
        options = _options(distances, settings)
        given = dict(zip(("RGB", "DEPTH", "WEIGHTS", "TRANSMITTANCE"), (g is not None for g in gradients), strict=True))
        composite_backward_kernel[(triton.cdiv(rays, options["BLOCK_R"]),)](
            *(distances[0], distances[-1], samples[0], samples[-1]),
            *(distances[0] if g is None else g.contiguous() for g in gradients),
            *(outs[0], outs[-1], rays, counts[0], sum(counts) - counts[0]),
            **given,
            **options,
        )
    return outs


def importance(distances: Tensor, samples: Tensor, u: Tensor, density_bias: float) -> Tensor:
    """Fine distances `[B, R, F]` from a coarse pass `[B, R, S]`, `[B, R, S, 4]`."""
    out = torch.empty_like(u)
    rays, count = distances.shape[:-1].numel(), distances.shape[-1]
    if out.numel():
        block_r, block_s = _ray_tile(count)
        block_r = max(block_r // 2, 1)
        importance_kernel[(triton.cdiv(rays, block_r),)](
            *(distances, samples, u, out, rays, count, u.shape[-1], density_bias),
            BLOCK_R=block_r,
            BLOCK_S=block_s,
            BLOCK_F=16,
            num_warps=4,
            **COMPILER_OPTIONS,
        )
    return out
