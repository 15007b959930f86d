"""The field on CPUs, compiled: the fastest path where a C++ compiler is found.

`field.cpp` is compiled for one number of channels and hidden units. Results do not depend on the number of
threads: these share out images backward, whose sums are then added in order.
"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.field_interface import FieldGradients, FieldInputs, Needs
from threedgp.render.field_reference import EMPTY_RAW_DENSITY, Decoder
from threedgp.render.native import building
from threedgp.render.native.building import compiled, pointer
from threedgp.render.native.threads import team
from threedgp.render.plane_layout import addressable, zeros_like_planes

SOURCE = Path(__file__).with_name("field.cpp")


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


def _library(channels: int, hidden: int) -> ctypes.CDLL:
    return compiled(SOURCE, f"CHANNELS={channels}", f"HIDDEN={hidden}")


@cache
def reason_against(channels: int, hidden: int) -> str | None:
    """Why there is no compiled field for these sizes, or None if there is."""
    if channels % 8:
        return f"{channels} channels are no multiple of 8"
    return building.reason_against(partial(_library, channels, hidden))


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


def field_forward(
    inputs: FieldInputs,
    distances: Tensor,
    noise: Tensor | None,
    opaque_depth: float = 0.0,
    density_bias: float = 0.0,
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`; `opaque_depth` > 0: samples behind that depth stay empty."""
    decoder = inputs.decoder
    library = _library(inputs.planes.shape[-1], decoder.bias_1.shape[0])
    planes = addressable(inputs.planes.float())
    out = distances.new_empty((*distances.shape, 4))
    weights = _padded(decoder)
    rays = _rays(inputs, distances)
    strides, layers = _strides(planes), _Decoder(*(w.data_ptr() for w in weights))
    library.field_forward(
        *(pointer(planes), ctypes.byref(strides), ctypes.byref(rays), ctypes.byref(layers)),
        *(pointer(noise), pointer(out), ctypes.c_int64(len(distances))),
        *(ctypes.c_float(x) for x in (opaque_depth, density_bias, EMPTY_RAW_DENSITY)),
        ctypes.byref(team()),
    )
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
    for at, gradient in zip(distances, gradients, strict=True):
        library.field_backward(
            *(pointer(planes), ctypes.byref(strides), ctypes.byref(_rays(inputs, at)), ctypes.byref(layers)),
            *(pointer(gradient), pointer(grad_planes), ctypes.byref(grad_strides)),
            *(pointer(grad_decoder), ctypes.c_int64(sum(sizes))),
            *(pointer(grad_origins), pointer(grad_directions)),
            *(ctypes.c_int64(batch), ctypes.byref(team())),
        )
    if grad_decoder is None:
        return FieldGradients(grad_planes, None, grad_origins, grad_directions)
    w1t, b1, w2, b2 = grad_decoder.sum(0).split(sizes)
    decoder = Decoder(
        w1t.view(channels, padded)[:, :hidden].t().contiguous(),
        b1[:hidden].clone(),
        w2.view(4, padded)[:, :hidden].clone(memory_format=torch.contiguous_format),
        b2.clone(),
    )
    return FieldGradients(grad_planes, decoder, grad_origins, grad_directions)
