"""The field on CPUs, compiled: the fastest path where a C++ compiler is found.

`native_field.cpp` is compiled on first use, for one number of channels and hidden units, and kept in the user's cache.
It is plain C++ behind a C interface, so it needs no headers of PyTorch and compiles in about a second. Results do not
depend on the number of threads: threads share out images backward, whose sums are then added in order.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.field_interface import FieldGradients, FieldInputs, Needs
from threedgp.render.field_reference import EMPTY_RAW_DENSITY, Decoder
from threedgp.render.plane_layout import addressable, zeros_like_planes
from threedgp.render.worker_threads import share

SOURCE = Path(__file__).with_name("native_field.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
SWITCH = "THREEDGP_NATIVE"
"""Environment variable; 0 keeps the renderer from compiling anything."""


class NativeError(RuntimeError):
    """The compiled field is not to be had; the message says why."""


class _Planes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("image", "plane", "row", "column"))


class _Rays(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("origins", "directions", "distances")),
        *((name, ctypes.c_int64) for name in ("per_image", "samples")),
        *((name, ctypes.c_int32) for name in ("height", "width", "contraction")),
        ("inverse_half_width", ctypes.c_float),
    )


class _Decoder(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("w1", "w1t", "b1", "w2", "b2"))


def _compiler() -> str | None:
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _processor() -> str:
    """What `-march=native` depends on, so that machines that share a home do not share code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


@cache
def _library(channels: int, hidden: int) -> ctypes.CDLL:
    """The compiled source for these sizes.

    Raises:
        NativeError: saying why it is not to be had.
    """
    if os.environ.get(SWITCH) == "0":
        raise NativeError(f"{SWITCH} is 0")
    compiler = _compiler()
    if compiler is None:
        raise NativeError("no C++ compiler (c++, g++ or clang++) was found")
    command = [compiler, *FLAGS, f"-DCHANNELS={channels}", f"-DHIDDEN={hidden}"]
    key = hashlib.sha256("\0".join([SOURCE.read_text(), *command, platform.machine(), _processor()]).encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "threedgp"
    target = folder / f"field-{key.hexdigest()[:20]}.so"
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                built = Path(scratch) / target.name
                subprocess.run([*command, str(SOURCE), "-o", str(built)], check=True, capture_output=True, text=True)
                built.replace(target)
        return ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as problem:
        raise NativeError(f"{compiler} failed: {problem.stderr[-500:]}") from problem
    except OSError as problem:
        raise NativeError(f"cannot build or load {target}: {problem}") from problem


@cache
def reason_against(channels: int, hidden: int) -> str | None:
    """Why there is no compiled field for these sizes, or None if there is."""
    if channels % 8:
        return f"{channels} channels are no multiple of 8"
    try:
        _library(channels, hidden)
    except NativeError as problem:
        return str(problem)
    return None


def _strides(planes: Tensor) -> _Planes:
    return _Planes(*planes.stride()[:4])


def _padded(decoder: Decoder) -> tuple[Tensor, ...]:
    """w1, w1 transposed, b1, w2, b2, hidden units padded with zeros to a multiple of 16."""
    extra = -decoder.bias_1.shape[0] % 16
    tensors = (
        decoder.weight_1,
        F.pad(decoder.weight_1.t(), (0, extra)),
        F.pad(decoder.bias_1, (0, extra)),
        F.pad(decoder.weight_2, (0, extra)),
        decoder.bias_2,
    )
    return tuple(t.contiguous() for t in tensors)


def _rays(inputs: FieldInputs, distances: Tensor) -> _Rays:
    return _Rays(
        inputs.origins.data_ptr(),
        inputs.directions.data_ptr(),
        distances.data_ptr(),
        distances.shape[1],
        distances.shape[2],
        *inputs.planes.shape[2:4],
        inputs.contraction,
        1 / inputs.half_width,
    )


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def field_forward(inputs: FieldInputs, distances: Tensor, noise: Tensor | None, opaque_depth: float = 0.0) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`; `opaque_depth` > 0: samples behind that depth stay empty."""
    decoder = inputs.decoder
    library = _library(inputs.planes.shape[-1], decoder.bias_1.shape[0])
    planes = addressable(inputs.planes.float())
    out = distances.new_empty((*distances.shape, 4))
    weights = _padded(decoder)
    rays = _rays(inputs, distances)
    strides, layers = _strides(planes), _Decoder(*(w.data_ptr() for w in weights))
    total = distances.shape[0] * distances.shape[1]
    pieces = min(4 * torch.get_num_threads(), total)  # more than threads: opaque rays end early

    def work(k: int) -> None:
        library.field_forward(
            *(_pointer(planes), ctypes.byref(strides), ctypes.byref(rays), ctypes.byref(layers)),
            *(_pointer(noise), _pointer(out)),
            *(ctypes.c_int64(total * k // pieces), ctypes.c_int64(total * (k + 1) // pieces)),
            *(ctypes.c_float(opaque_depth), ctypes.c_float(EMPTY_RAW_DENSITY)),
        )

    share(work, pieces)
    return out


def field_backward(
    inputs: FieldInputs, distances: list[Tensor], gradients: list[Tensor], needs: Needs
) -> FieldGradients:
    """Gradients of the field at several sets of distances together, so that planes are zeroed and summed once."""
    decoder, origins = inputs.decoder, inputs.origins
    channels, hidden = inputs.planes.shape[-1], decoder.bias_1.shape[0]
    library = _library(channels, hidden)
    batch, count = origins.shape[:2]
    padded = hidden + -hidden % 16
    sizes = (channels * padded, padded, 4 * padded, 4)
    grad_planes = zeros_like_planes(inputs.planes, torch.float32) if needs.planes else None
    grad_decoder = origins.new_zeros(batch, sum(sizes)) if needs.decoder else None
    grad_origins, grad_directions = (origins.new_zeros(batch, count, 3) if needs.rays else None for _ in range(2))
    planes = addressable(inputs.planes.float())
    weights = _padded(decoder)
    strides, layers = _strides(planes), _Decoder(*(w.data_ptr() for w in weights))
    grad_strides = _strides(planes if grad_planes is None else grad_planes)
    sets = [_rays(inputs, at) for at in distances]

    def work(image: int) -> None:
        for rays, gradient in zip(sets, gradients, strict=True):
            library.field_backward(
                *(_pointer(planes), ctypes.byref(strides), ctypes.byref(rays), ctypes.byref(layers)),
                *(_pointer(gradient), _pointer(grad_planes), ctypes.byref(grad_strides)),
                _pointer(None if grad_decoder is None else grad_decoder[image]),
                *(_pointer(grad_origins), _pointer(grad_directions)),
                *(ctypes.c_int64(image * count), ctypes.c_int64((image + 1) * count)),
            )

    share(work, batch)
    if grad_decoder is None:
        return FieldGradients(grad_planes, None, grad_origins, grad_directions)
    w1t, b1, w2, b2 = grad_decoder.sum(0).split(sizes)
    decoder = Decoder(
        w1t.view(channels, padded)[:, :hidden].t().contiguous(),
        b1[:hidden].clone(),
        w2.view(4, padded)[:, :hidden].contiguous(),
        b2.clone(),
    )
    return FieldGradients(grad_planes, decoder, grad_origins, grad_directions)
