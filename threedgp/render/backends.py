"""Selection of the code that evaluates the field and composites, by device, dtype and the caller's `backend`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from operator import index
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from threedgp.render.decoder import Decoder

Backend = Literal["auto", "torch", "native", "triton"]
"""`auto` selects the fastest one that supports the tensors.

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
}


@cache
def engine(backend: str, operator: str) -> ModuleType:
    """The module that implements an operator; imported on first use, because Triton need not be installed."""
    return importlib.import_module(_MODULES[backend, operator])


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Disable `torch.autocast`: coordinates and compositing would be too inaccurate in 16 bits."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


# torch.compile cannot trace imports. What is installed is constant while a program runs.
@torch.compiler.assume_constant_result
def _triton_unavailable_reason(device_type: str) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if device_type == "cuda" or (device_type == "cpu" and engine("triton", "field").INTERPRETED):
        return None
    return f"it needs tensors on a CUDA device, got {device_type}"


@torch.compiler.assume_constant_result
def _native_unavailable_reason(operator: str, *sizes: int) -> str | None:
    return engine("native", operator).unavailable_reason(*sizes)


def _select(backend: str, device: torch.device, reasons: dict[str, Callable[[], str | None]]) -> str:
    """The backend to use. `reasons` say why the tensors cannot be given to `native` and `triton`."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend: expected one of {list(get_args(Backend))}, got '{backend}'")
    if backend == "auto":
        fastest = {"cuda": "triton", "cpu": "native"}.get(device.type)
        return fastest if fastest and reasons[fastest]() is None else "torch"
    if backend != "torch" and (reason := reasons[backend]()):
        raise ValueError(f"backend: '{backend}' is not available: {reason}")
    return backend


def field_backend(backend: Backend, planes: Tensor, decoder: Decoder, distances: Tensor) -> str:
    """`torch`, `native` or `triton`.

    Raises:
        ValueError: saying why the requested backend is not available.
    """
    # Plain integers under `torch.compile` with dynamic shapes too: kernels are compiled for these sizes.
    channels, hidden = index(planes.shape[-1]), index(decoder.bias_1.shape[0])

    def unsupported_dtype() -> str | None:
        if planes.dtype in PLANE_DTYPES and distances.dtype is torch.float32:
            return None
        return f"it takes planes of 16 or 32 bits and float32 distances, got {planes.dtype} and {distances.dtype}"

    def native() -> str | None:
        if planes.device.type != "cpu":
            return f"it needs tensors on a CPU, got {planes.device}"
        # The field's second pass draws its samples with the code for compositing.
        return (
            unsupported_dtype()
            or _native_unavailable_reason("field", channels, hidden)
            or _native_unavailable_reason("compositing")
        )

    def triton() -> str | None:
        if reason := _triton_unavailable_reason(planes.device.type):
            return reason
        if channels not in TRITON_CHANNELS:
            return f"it takes planes of {list(TRITON_CHANNELS)} channels, got {channels}"
        if not MIN_TRITON_HIDDEN <= hidden <= MAX_TRITON_HIDDEN:
            return f"it takes decoders of {MIN_TRITON_HIDDEN} to {MAX_TRITON_HIDDEN} hidden units, got {hidden}"
        return unsupported_dtype()

    return _select(backend, planes.device, {"native": native, "triton": triton})


def compositing_backend(backend: Backend, samples: Tensor) -> str:
    """`torch`, `native` or `triton`.

    Raises:
        ValueError: saying why the requested backend is not available.
    """

    def unsupported_dtype() -> str | None:
        return None if samples.dtype is torch.float32 else f"it takes float32 samples, got {samples.dtype}"

    def native() -> str | None:
        if samples.device.type != "cpu":
            return f"it needs tensors on a CPU, got {samples.device}"
        return unsupported_dtype() or _native_unavailable_reason("compositing")

    def triton() -> str | None:
        return _triton_unavailable_reason(samples.device.type) or unsupported_dtype()

    return _select(backend, samples.device, {"native": native, "triton": triton})
