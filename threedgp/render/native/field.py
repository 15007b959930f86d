"""The field on CPUs: calls of field.cpp, which is compiled for one number of channels and of hidden units.

Results do not depend on the number of threads: in the backward pass each thread takes whole images, and the decoder's
gradients of the images are then summed in order.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.decoder import EMPTY_RAW_DENSITY, Decoder
from threedgp.render.field import Needs, Scene
from threedgp.render.native import building
from threedgp.render.native.building import compiled, pointer
from threedgp.render.native.threads import threads
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


def _sizes(channels: int, hidden: int) -> tuple[str, str]:
    return f"CHANNELS={channels}", f"HIDDEN={hidden}"


def unavailable_reason(channels: int, hidden: int) -> str | None:
    """Why there is no compiled field for these sizes; None if there is."""
    if channels % 8:
        return f"it takes planes whose channels are a multiple of 8, got {channels}"
    return building.unavailable_reason(SOURCE, *_sizes(channels, hidden))


def _padded(decoder: Decoder) -> tuple[Tensor, ...]:
    """w1, its transpose, b1, w2 and b2, with hidden units padded with zeros to a multiple of 16."""
    extra = (0, -decoder.bias_1.shape[0] % 16)
    w1, b1, w2, b2 = decoder
    return tuple(x.contiguous() for x in (w1, F.pad(w1.t(), extra), F.pad(b1, extra), F.pad(w2, extra), b2))


def _rays(scene: Scene, distances: Tensor) -> _Rays:
    return _Rays(
        scene.origins.data_ptr(),
        scene.directions.data_ptr(),
        distances.data_ptr(),
        distances.shape[1],
        distances.shape[2],
        *scene.planes.shape[2:4],
        scene.contraction,
        1 / scene.half_width,
    )


def field_forward(
    scene: Scene, distances: Tensor, noise: Tensor | None, max_optical_depth: float = 0.0, density_bias: float = 0.0
) -> Tensor:
    """rgb and raw density `[B, R, S, 4]`; samples behind `max_optical_depth` > 0 are empty."""
    decoder = scene.decoder
    library = compiled(SOURCE, *_sizes(scene.planes.shape[-1], decoder.bias_1.shape[0]))
    planes = addressable(scene.planes.float())
    out = distances.new_empty((*distances.shape, 4))
    weights = _padded(decoder)
    rays = _rays(scene, distances)
    strides, layers = _Planes(*planes.stride()[:4]), _Decoder(*(w.data_ptr() for w in weights))
    library.field_forward(
        *(pointer(planes), ctypes.byref(strides), ctypes.byref(rays), ctypes.byref(layers)),
        *(pointer(noise), pointer(out), ctypes.c_int64(len(distances))),
        *(ctypes.c_float(x) for x in (max_optical_depth, density_bias, EMPTY_RAW_DENSITY)),
        ctypes.byref(threads()),
    )
    return out


def field_backward(scene: Scene, distances: list[Tensor], gradients: list[Tensor], needs: Needs) -> list[Tensor | None]:
    """Gradients of planes, the decoder's four tensors, origins and directions (None = not needed), summed over several
    sets of distances."""
    decoder, origins = scene.decoder, scene.origins
    channels, hidden = scene.planes.shape[-1], decoder.bias_1.shape[0]
    library = compiled(SOURCE, *_sizes(channels, hidden))
    batch, count = origins.shape[:2]
    padded = hidden + -hidden % 16
    sizes = (channels * padded, padded, 4 * padded, 4)
    grad_planes = zeros_like_planes(scene.planes, torch.float32) if needs.planes else None
    grad_decoder = origins.new_zeros(batch, sum(sizes)) if needs.decoder else None
    grad_origins, grad_directions = (origins.new_zeros(batch, count, 3) if needs.rays else None for _ in range(2))
    planes = addressable(scene.planes.float())
    weights = _padded(decoder)
    strides, layers = _Planes(*planes.stride()[:4]), _Decoder(*(w.data_ptr() for w in weights))
    grad_strides = _Planes(*(planes if grad_planes is None else grad_planes).stride()[:4])
    for t, gradient in zip(distances, gradients, strict=True):
        library.field_backward(
            *(pointer(planes), ctypes.byref(strides), ctypes.byref(_rays(scene, t)), ctypes.byref(layers)),
            *(pointer(gradient), pointer(grad_planes), ctypes.byref(grad_strides)),
            *(pointer(grad_decoder), ctypes.c_int64(sum(sizes))),
            *(pointer(grad_origins), pointer(grad_directions)),
            *(ctypes.c_int64(batch), ctypes.byref(threads())),
        )
    if grad_decoder is None:
        return [grad_planes, *[None] * 4, grad_origins, grad_directions]
    w1t, b1, w2, b2 = grad_decoder.sum(0).split(sizes)
    grads = (
        w1t.view(channels, padded)[:, :hidden].t().contiguous(),
        b1[:hidden].clone(),
        w2.view(4, padded)[:, :hidden].clone(memory_format=torch.contiguous_format),
        b2.clone(),
    )
    return [grad_planes, *grads, grad_origins, grad_directions]
