"""Selection of the code that evaluates the field and composites, by device, dtype and the caller's `backend`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from operator import index
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from threedgp.render.decoder import Decoder
from threedgp.render.verification import Case, problem

Backend = Literal["auto", "torch", "native", "triton"]
"""`auto` selects the fastest one that supports the tensors and agrees with `torch` on this machine (`verification`).

- `torch`: the reference, composed of PyTorch's operators; any device and floating dtype;
- `native`: C++ for CPUs, compiled on first use where there is a compiler;
- `triton`: fused GPU kernels (on CPU tensors only in Triton's interpreter).
"""

TRITON_CHANNELS = (8, 16, 32, 64)
MIN_TRITON_HIDDEN, MAX_TRITON_HIDDEN = 16, 128
PLANE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


_MODULES = {
    ("native", "field"): "threedgp.render.native.field",
    ("native", "compositing"): "threedgp.render.native.compositing",
    ("triton", "field"): "threedgp.render.triton.field",
    ("triton", "compositing"): "threedgp.render.triton.compositing",
    ("triton", "filter"): "threedgp.render.triton.resampling",
}


_ASSUMED: ContextVar[str] = ContextVar("backend of tensors without data", default="torch")


@contextmanager
def assume(backend: Literal["torch", "native", "triton"]) -> Iterator[None]:
    """Within the context, `auto` selects `backend` for tensors on the meta device, whose sizes are known and nothing
    else, where it takes their dtypes and sizes."""
    token = _ASSUMED.set(backend)
    try:
        yield
    finally:
        _ASSUMED.reset(token)


@cache
def engine(backend: str, operator: str) -> ModuleType:
    """The module that implements an operator; imported on first use, because Triton need not be installed."""
    return importlib.import_module(_MODULES[backend, operator])


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Disable `torch.autocast`: coordinates and compositing would be too inaccurate in 16 bits."""
    return torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext()


# torch.compile cannot trace imports, and PyTorch 2.11 not even this query. What is installed is constant while a
# program runs.
@torch.compiler.assume_constant_result
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


@torch.compiler.assume_constant_result
def _triton_unavailable_reason(device_type: str) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if device_type == "cuda" or (device_type == "cpu" and engine("triton", "field").INTERPRETED):
        return None
    return f"it needs tensors on a CUDA device, got {device_type}"


@torch.compiler.assume_constant_result
def _native_unavailable_reason(*field_sizes: int) -> str | None:
    # The field's second pass draws its samples with the code for compositing.
    reason = engine("native", "field").unavailable_reason(*field_sizes) if field_sizes else None
    return reason or engine("native", "compositing").unavailable_reason()


@torch.compiler.assume_constant_result
def _agrees(*case: str | int) -> bool:
    return problem(Case(*case)) is None


def _select(
    backend: str, device: torch.device, unsupported: dict[str, str | None], operator: str, *kind: str | int
) -> str:
    """The backend to use: `auto` selects a fused one only if it agrees with `torch`.

    Args:
        unsupported: why `native` and `triton` do not take tensors such as these.
        kind: for the field, dtype and channels of the planes, and hidden units.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend: expected one of {list(get_args(Backend))}, got '{backend}'")
    if backend == "auto" and device.type == "meta":
        assumed = _ASSUMED.get()
        return "torch" if unsupported.get(assumed) else assumed
    name = {"cuda": "triton", "cpu": "native"}.get(device.type, "torch") if backend == "auto" else backend
    reason = None
    if name == "native":
        reason = None if device.type == "cpu" else f"it needs tensors on a CPU, got {device}"
        reason = reason or unsupported[name] or _native_unavailable_reason(*kind[1:])
    elif name == "triton":
        reason = _triton_unavailable_reason(device.type) or unsupported[name]
    if reason and backend != "auto":
        raise ValueError(f"backend: '{backend}' is not available: {reason}")
    if backend == "auto" and name != "torch" and not reason:
        return name if _agrees(name, operator, str(device), *kind) else "torch"
    return "torch" if reason else name


def field_backend(backend: Backend, planes: Tensor, decoder: Decoder, distances: Tensor) -> str:
    """`torch`, `native` or `triton`; raises ValueError with the reason if the requested one is not available."""
    # Plain integers under `torch.compile` with dynamic shapes too: kernels are compiled for these sizes.
    channels, hidden = index(planes.shape[-1]), index(decoder.bias_1.shape[0])
    native = triton = None
    if planes.dtype not in PLANE_DTYPES or distances.dtype is not torch.float32:
        native = f"it takes planes of 16 or 32 bits and float32 distances, got {planes.dtype} and {distances.dtype}"
    if channels not in TRITON_CHANNELS:
        triton = f"it takes planes of {list(TRITON_CHANNELS)} channels, got {channels}"
    elif not MIN_TRITON_HIDDEN <= hidden <= MAX_TRITON_HIDDEN:
        triton = f"it takes decoders of {MIN_TRITON_HIDDEN} to {MAX_TRITON_HIDDEN} hidden units, got {hidden}"
    kind = (str(planes.dtype).removeprefix("torch."), channels, hidden)
    return _select(backend, planes.device, {"native": native, "triton": triton or native}, "field", *kind)


def compositing_backend(backend: Backend, samples: Tensor) -> str:
    """`torch`, `native` or `triton`; raises ValueError with the reason if the requested one is not available."""
    unsupported = None if samples.dtype is torch.float32 else f"it takes float32 samples, got {samples.dtype}"
    return _select(backend, samples.device, {"native": unsupported, "triton": unsupported}, "compositing")


def filter_backend(x: Tensor) -> str:
    """`triton` or `torch`, for the filter of the networks on activations `x`."""
    unsupported = {"native": "there is none", "triton": None}
    return _select("auto", x.device, unsupported, "filter", str(x.dtype).removeprefix("torch."))
