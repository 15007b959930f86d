"""Compositing and importance sampling on CPUs: calls of compositing.cpp, which puts one ray in each vector lane.

The backward pass sorts and composites again instead of keeping anything. Results do not depend on the number of
threads.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from threedgp.render.compositing import CompositeSettings, empty_outputs, last_interval
from threedgp.render.native import building
from threedgp.render.native.building import compiled, pointer
from threedgp.render.native.threads import threads

SOURCE = Path(__file__).with_name("compositing.cpp")
MIN_SAMPLES_PER_THREAD = 16384
"""About a tenth of a millisecond of work; fewer are not worth another thread."""


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


def unavailable_reason() -> str | None:
    """Why there is no compiled compositing; None if there is."""
    return building.unavailable_reason(SOURCE)


def _sets(distances: list[Tensor], samples: list[Tensor], settings: CompositeSettings) -> _Sets:
    return _Sets(
        (ctypes.c_void_p * 2)(*(d.data_ptr() for d in distances)),
        (ctypes.c_void_p * 2)(*(s.data_ptr() for s in samples)),
        (ctypes.c_int64 * 2)(*(d.shape[-1] for d in distances)),
        *(last_interval(settings), settings.density_bias),
        *(settings.midpoint, settings.last_back, settings.sigmoid_color, settings.white_background),
    )


def _work(sets: _Sets, rays: int) -> tuple[object, ...]:
    """The last arguments of each function: number of rays, of pieces to divide them into, threads."""
    pieces = max(min(torch.get_num_threads(), rays * sum(sets.counts) // MIN_SAMPLES_PER_THREAD), 1)
    return ctypes.c_int64(rays), ctypes.c_int64(pieces), ctypes.byref(threads())


def composite_forward(
    distances: list[Tensor], samples: list[Tensor], settings: CompositeSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, weights and transmittance of rays, merged from one or two sets of samples."""
    outs, sets = empty_outputs(distances, settings.midpoint), _sets(distances, samples, settings)
    compiled(SOURCE).composite_forward(ctypes.byref(sets), *map(pointer, outs), *_work(sets, outs[1].numel()))
    return outs


def composite_backward(
    distances: list[Tensor],
    samples: list[Tensor],
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    settings: CompositeSettings,
) -> list[Tensor]:
    """Gradients of the sets of samples, given those of rgb, depth, weights, transmittance (None = zero)."""
    outs = [torch.empty_like(s) for s in samples]
    sets = _sets(distances, samples, settings)
    gradients = [None if g is None else g.contiguous() for g in gradients]  # keeps copies alive during the call
    to = pointer(outs[0]), pointer(outs[1] if len(outs) > 1 else None)
    given, work = _Gradients(*map(pointer, gradients)), _work(sets, distances[0].shape[:-1].numel())
    compiled(SOURCE).composite_backward(ctypes.byref(sets), ctypes.byref(given), *to, *work)
    return outs


def importance(distances: Tensor, samples: Tensor, u: Tensor, density_bias: float) -> Tensor:
    """Fine distances `[B, R, F]` from a coarse pass `[B, R, S]`, `[B, R, S, 4]`, S at least 2."""
    distances, samples, u = distances.contiguous(), samples.contiguous(), u.contiguous()
    out = torch.empty_like(u)
    sets = _Sets((distances.data_ptr(), 0), (samples.data_ptr(), 0), (distances.shape[-1], 0), bias=density_bias)
    arguments = pointer(u), pointer(out), ctypes.c_int64(u.shape[-1])
    compiled(SOURCE).importance(ctypes.byref(sets), *arguments, *_work(sets, distances.shape[:-1].numel()))
    return out
