"""Which code evaluates the field and composites: chosen by device, dtype and the caller's `backend`."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from operator import index
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from threedgp.render.field_reference import Decoder

Backend = Literal["auto", "torch", "blocked", "native", "triton"]
"""`auto`: the fastest that takes the tensors.

- `torch`: the plain composition, differentiable any number of times;
- `blocked`: PyTorch for CPUs, recomputing in the backward pass instead of keeping;
- `native`: the same in C++ with compositing, for CPUs, compiled on first use where there is a compiler;
- `triton`: fused GPU kernels (on CPU tensors only in Triton's interpreter).
"""

KERNEL_CHANNELS = (8, 16, 32, 64)
KERNEL_HIDDEN = range(16, 129)
PLANE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_MODULES = {
    "triton": "threedgp.render.triton.field_launch",
    "triton compositing": "threedgp.render.triton.compositing_launch",
    "blocked": "threedgp.render.blocked_field",
    "native": "threedgp.render.native.field",
    "native compositing": "threedgp.render.native.compositing",
}


@cache
def engine(name: str) -> ModuleType:
    """The module of an engine; Triton is imported only when it is asked for."""
    return importlib.import_module(_MODULES[name])


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products in the dtype of their operands, whatever `torch.autocast` a caller is in.

    Whoever wants to save hands over 16-bit planes; coordinates and compositing would be wrong by too much.
    """
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


# What is installed is constant to `torch.compile`, which cannot trace imports.
@torch.compiler.assume_constant_result
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@torch.compiler.assume_constant_result
def _runs_kernels(device_type: str) -> bool:
    if not _has_triton():
        return False
    return device_type == "cuda" or (device_type == "cpu" and engine("triton").INTERPRETED)


@torch.compiler.assume_constant_result
def _reason_against_native(channels: int, hidden: int) -> str | None:
    # The field's second pass draws its samples by the compositing's code.
    return engine("native").reason_against(channels, hidden) or engine("native compositing").reason_against()


@torch.compiler.assume_constant_result
def _reason_against_native_compositing() -> str | None:
    return engine("native compositing").reason_against()


def _check_name(backend: str) -> None:
    if backend not in get_args(Backend):
        raise ValueError(f"backend: expected one of {list(get_args(Backend))}, got '{backend}'")


def _require_kernels(device: torch.device) -> None:
    if not _runs_kernels(device.type):
        raise ValueError(f"backend: 'triton' needs tensors on a CUDA device and the package triton, got {device}")


def field_engine(backend: Backend, planes: Tensor, decoder: Decoder, distances: Tensor) -> str:
    """The name of an engine, or `torch` for the plain composition.

    Raises:
        ValueError: naming what the asked for backend does not take.
    """
    _check_name(backend)
    # Plain numbers under `torch.compile` with dynamic shapes too: engines are chosen, and compiled, by them.
    channels, hidden = index(planes.shape[-1]), index(decoder.bias_1.shape[0])
    if backend == "triton":
        _require_kernels(planes.device)
        if channels not in KERNEL_CHANNELS:
            raise ValueError(f"planes: backend 'triton' takes {list(KERNEL_CHANNELS)} channels, got {channels}")
        if hidden not in KERNEL_HIDDEN:
            raise ValueError(f"decoder: backend 'triton' takes 16 to 128 hidden units, got {hidden}")
        if planes.dtype not in PLANE_DTYPES or distances.dtype is not torch.float32:
            raise ValueError(
                "planes, distances: backend 'triton' takes float32, bfloat16 or float16 planes and float32 distances, "
                f"got {planes.dtype} and {distances.dtype}"
            )
    if backend == "native":
        reason = _reason_against_native(channels, hidden)
        if reason is None and (planes.device.type != "cpu" or distances.dtype is not torch.float32):
            reason = f"it takes float32 distances on a CPU, got {distances.dtype} on {planes.device}"
        if reason:
            raise ValueError(f"backend: 'native' is not to be had: {reason}")
    if backend == "blocked" and planes.device.type != "cpu":
        raise ValueError(f"backend: 'blocked' is for CPUs, got tensors on {planes.device}")
    if backend != "auto":
        return backend
    single = planes.dtype in PLANE_DTYPES and distances.dtype is torch.float32
    if planes.device.type == "cuda":
        fits = single and channels in KERNEL_CHANNELS and hidden in KERNEL_HIDDEN and _has_triton()
        return "triton" if fits else "torch"
    if planes.device.type != "cpu" or not single:
        return "torch"
    return "blocked" if _reason_against_native(channels, hidden) else "native"


def compositing_engine(backend: Backend, samples: Tensor) -> str:
    """`torch`, `native` or `triton`; `blocked` composites by the plain composition.

    Raises:
        ValueError: naming what the asked for backend does not take.
    """
    _check_name(backend)
    single = samples.dtype is torch.float32
    if backend == "triton":
        _require_kernels(samples.device)
        if not single:
            raise ValueError(f"samples: backend 'triton' takes float32, got {samples.dtype}")
    if backend == "native":
        reason = _reason_against_native_compositing()
        if reason is None and (samples.device.type != "cpu" or not single):
            reason = f"it takes float32 samples on a CPU, got {samples.dtype} on {samples.device}"
        if reason:
            raise ValueError(f"backend: 'native' is not to be had: {reason}")
    if backend != "auto":
        return "torch" if backend == "blocked" else backend
    if samples.device.type == "cuda":
        return "triton" if single and _has_triton() else "torch"
    return "native" if samples.device.type == "cpu" and single and not _reason_against_native_compositing() else "torch"
