"""Compositing and importance sampling on CPUs, compiled: one ray a vector lane (see `compositing.cpp`).

Nothing is kept for the backward pass, which sorts and composites again. Threads share out rays; results do not depend
on how. Tensors come in checked (see `arguments`).
"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from threedgp.render.native import building
from threedgp.render.native.building import compiled, pointer
from threedgp.render.native.threads import team

SOURCE = Path(__file__).with_name("compositing.cpp")
LEAST_SAMPLES = 16384
"""Of a piece of work, a tenth of a millisecond: handing fewer to a thread would save nothing."""


class _Sets(ctypes.Structure):
    _fields_ = (
        ("distances", ctypes.c_void_p * 2),
        ("samples", ctypes.c_void_p * 2),
        ("counts", ctypes.c_int64 * 2),
        *((name, ctypes.c_float) for name in ("last", "bias")),
        *((name, ctypes.c_int32) for name in ("midpoint", "last_back", "sigmoid", "white")),
    )


class _Gradients(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("rgb", "depth", "weights", "transmittance"))


@cache
def reason_against() -> str | None:
    """Why there is no compiled compositing, or None if there is."""
    return building.reason_against(partial(compiled, SOURCE))


def _sets(
    distances: list[Tensor],
    samples: list[Tensor],
    last: float,
    density_bias: float,
    *switches: bool,
) -> _Sets:
    return _Sets(
        (ctypes.c_void_p * 2)(*(d.data_ptr() for d in distances)),
        (ctypes.c_void_p * 2)(*(s.data_ptr() for s in samples)),
        (ctypes.c_int64 * 2)(*(d.shape[-1] for d in distances)),
        last,
        density_bias,
        *switches,
    )


def _sharing(sets: _Sets, rays: int) -> tuple[object, ...]:
    """The last arguments of each function: number of rays, of pieces to share out, threads."""
    pieces = max(min(torch.get_num_threads(), rays * sum(sets.counts) // LEAST_SAMPLES), 1)
    return ctypes.c_int64(rays), ctypes.c_int64(pieces), ctypes.byref(team())


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
    shape, total = distances[0].shape[:-1], sum(d.shape[-1] for d in distances)
    new = distances[0].new_empty
    outs = new((*shape, 3)), new(shape), new((*shape, total - midpoint)), new(shape)
    sets = _sets(distances, samples, last, density_bias, midpoint, last_back, sigmoid_color, white_background)
    compiled(SOURCE).composite_forward(ctypes.byref(sets), *map(pointer, outs), *_sharing(sets, shape.numel()))
    return outs


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
    outs = [torch.empty_like(s) for s in samples]
    given = [None if g is None else g.contiguous() for g in gradients]
    sets = _sets(distances, samples, last, density_bias, midpoint, last_back, sigmoid_color, white_background)
    to = pointer(outs[0]), pointer(outs[1] if len(outs) > 1 else None)
    sharing = _sharing(sets, distances[0].shape[:-1].numel())
    gradients_of_outs = ctypes.byref(_Gradients(*map(pointer, given)))
    compiled(SOURCE).composite_backward(ctypes.byref(sets), gradients_of_outs, *to, *sharing)
    return outs


def importance(distances: Tensor, samples: Tensor, u: Tensor, last: float, density_bias: float) -> Tensor:
    """Fine distances `[B, R, F]` from a first pass `[B, R, S]`, `[B, R, S, 4]`, S at least 2."""
    distances, samples, u = distances.contiguous(), samples.contiguous(), u.contiguous()
    out = torch.empty_like(u)
    sets = _sets([distances], [samples], last, density_bias)
    arguments = pointer(u), pointer(out), ctypes.c_int64(u.shape[-1])
    compiled(SOURCE).importance(ctypes.byref(sets), *arguments, *_sharing(sets, distances.shape[:-1].numel()))
    return out
