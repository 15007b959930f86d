"""Compositing and importance sampling on CPUs, compiled: one ray a vector lane (see `native_compositing.cpp`).

Nothing is kept for the backward pass, which sorts and composites again. Threads share out rays; results do not depend
on how. Tensors come in checked (see `arguments`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from threedgp.native import building
from threedgp.native.building import compiled, pointer
from threedgp.native.threads import share

SOURCE = Path(__file__).with_name("native_compositing.cpp")
LEAST_SAMPLES = 65536
"""Of a piece of work, a third of a millisecond: handing fewer to a thread would cost more than it saves."""


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
def _library() -> ctypes.CDLL:
    code = compiled(SOURCE)
    code.scratch_floats.restype = ctypes.c_int64
    return code


@cache
def reason_against() -> str | None:
    """Why there is no compiled compositing, or None if there is."""
    return building.reason_against(_library)


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


def _share_rays(run: Callable[..., object], sets: _Sets, rays: int, *arguments: object) -> None:
    """`run` with memory to work in, over all rays."""
    samples = sum(sets.counts)
    floats = _library().scratch_floats(ctypes.c_int64(samples))
    pieces = max(min(torch.get_num_threads(), rays * samples // LEAST_SAMPLES), 1)

    def work(k: int) -> None:
        scratch = torch.empty(floats, dtype=torch.float32)
        bounds = (ctypes.c_int64(rays * k // pieces), ctypes.c_int64(rays * (k + 1) // pieces))
        run(ctypes.byref(sets), *arguments, pointer(scratch), *bounds)

    share(work, pieces)


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
    _share_rays(_library().composite_forward, sets, shape.numel(), *map(pointer, outs))
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
    _share_rays(
        _library().composite_backward,
        sets,
        distances[0].shape[:-1].numel(),
        ctypes.byref(_Gradients(*map(pointer, given))),
        pointer(outs[0]),
        pointer(outs[1] if len(outs) > 1 else None),
    )
    return outs


def importance(distances: Tensor, samples: Tensor, u: Tensor, last: float, density_bias: float) -> Tensor:
    """Fine distances `[B, R, F]` from a first pass `[B, R, S]`, `[B, R, S, 4]`, S at least 2."""
    distances, samples, u = distances.contiguous(), samples.contiguous(), u.contiguous()
    out = torch.empty_like(u)
    sets = _sets([distances], [samples], last, density_bias)
    _share_rays(
        _library().importance,
        sets,
        distances.shape[:-1].numel(),
        *(pointer(u), pointer(out), ctypes.c_int64(u.shape[-1])),
    )
    return out
