"""The tri-plane field (Chan et al. 2022, section 3): features of three planes at points along rays, decoded.

From the top: the public functions, their PyTorch reference, and the operator that connects the other backends with
autograd and `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.render.arguments import check_field, check_noise, check_planes, expect_shape
from threedgp.render.backends import Backend, engine, field_backend, no_autocast
from threedgp.render.contraction import contract
from threedgp.render.decoder import Decoder, decode
from threedgp.render.plane_layout import zeros_like_planes
from threedgp.render.sampling import fine_distances

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Planes xy, xz, yz: (horizontal, vertical) axis of each."""
REPEATED_PLANE_AXES = ((0, 1), (0, 2), (2, 0))
"""Planes xy, xz, zx of the published EG3D models: the third is the second again, and no plane has both y and z."""

FAR_OUTSIDE = 4.0
"""A plane coordinate that is more than a texel beyond the border of any plane."""


def field_along_rays(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    *,
    half_width: float,
    noise: Tensor | None = None,
    contraction: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """The field at ``origin + distance * direction``.

    Args:
        planes: `[B, 3, H, W, C]`, any strides; a unit stride in C (a backbone's channels-last output) needs no copy.
        decoder: effective weights.
        origins, directions: `[B, R, 3]` in scene units; gradients reach the camera through them alone.
        distances: `[B, R, S]`; no gradient.
        half_width: half the edge length of the cube that the planes cover, in scene units.
        noise: `[B, R, S]`, added to raw density; no gradient.
        contraction: the planes cover all of space, contracted to radius 2 half-widths, instead of the cube alone.
        backend: see `Backend`. Every backend is differentiable once.

    Returns:
        rgb and raw density, `[B, R, S, 4]`, in the dtype of the distances.
    """
    check_field(planes, decoder, origins, directions, distances, half_width)
    check_noise("noise", noise, distances)
    scene = Scene(planes, decoder, origins, directions, half_width, contraction)
    name = field_backend(backend, planes, decoder, distances)
    noise = None if noise is None else noise.detach()
    return field_passes(scene, distances.detach(), noise, backend=name)[0]


def field_at_points(
    planes: Tensor,
    decoder: Decoder,
    points: Tensor,
    *,
    half_width: float,
    contraction: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """The field at points `[B, N, 3]`: rgb and raw density, `[B, N, 4]`. Other arguments as in `field_along_rays`."""
    check_planes(planes)
    expect_shape("points", points, (planes.shape[0], "N", 3))
    check_field(planes, decoder, points, points, points, half_width, like_name="points")
    distances = points.new_zeros((*points.shape[:2], 1))
    rays = (points, torch.zeros_like(points), distances)
    along = dict(half_width=half_width, contraction=contraction, backend=backend)
    return field_along_rays(planes, decoder, *rays, **along)[:, :, 0]


class Scene(NamedTuple):
    """Everything that the field is evaluated with except distances; tensors and units as in `field_along_rays`."""

    planes: Tensor
    decoder: Decoder
    origins: Tensor
    directions: Tensor
    half_width: float
    contraction: bool


def field_passes(
    scene: Scene,
    distances: Tensor,
    noise: Tensor | None,
    u: Tensor | None = None,
    fine_noise: Tensor | None = None,
    *,
    density_bias: float = 0.0,
    max_optical_depth: float = 0.0,
    backend: str,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Samples at `distances` and, given uniform numbers `u`, fine distances drawn from their weights and their samples.

    With `max_optical_depth` > 0, `native` and `triton` leave out samples of the first pass behind that depth.
    """
    if backend != "torch":
        tensors = [scene.planes, *(x.contiguous() for x in (*scene.decoder, scene.origins, scene.directions))]
        numbers = (None if x is None else x.contiguous() for x in (distances, noise, u, fine_noise))
        settings = (scene.half_width, scene.contraction, density_bias, max_optical_depth, backend)
        samples, fine, fine_samples = field(tensors, *numbers, *settings)
        return (samples, None, None) if u is None else (samples, fine, fine_samples)
    with no_autocast(distances.device):
        samples = field_reference(scene, distances, noise)
        if u is None:
            return samples, None, None
        fine = fine_distances(distances, samples, u, density_bias, backend)
        return samples, fine, field_reference(scene, fine, fine_noise)


# The reference: what the other backends are tested against.


def plane_features(
    planes: Tensor,
    points: Tensor,
    half_width: float,
    *,
    contraction: bool = False,
    axes: tuple[tuple[int, int], ...] = PLANE_AXES,
) -> Tensor:
    """Mean of the bilinear features of planes `[B, 3, H, W, C]`, which lie along `axes`, at points `[B, N, 3]`:
    `[B, N, C]`.

    The centers of the outer texels lie on the faces of the cube; features fade to zero within a texel beyond it.
    """
    coordinates = points / half_width  # [B, N, 3], in [-1, 1] on the planes
    if contraction:
        coordinates = contract(coordinates) / 2
    # grid_sample converts coordinates to integers, for which NaN and very large numbers are undefined.
    coordinates = coordinates.nan_to_num(nan=FAR_OUTSIDE).clamp(-FAR_OUTSIDE, FAR_OUTSIDE)
    features = []
    for plane, pair in zip(planes.to(points.dtype).unbind(1), axes, strict=True):
        # Indexing with a list would copy it to the device.
        grid = torch.stack([coordinates[:, None, :, axis] for axis in pair], dim=-1)  # [B, 1, N, 2]
        features.append(F.grid_sample(plane.permute(0, 3, 1, 2), grid, padding_mode="zeros", align_corners=True))
    return ((features[0] + features[1] + features[2]) / 3)[:, :, 0].transpose(1, 2)  # [B, C, 1, N] to [B, N, C]


def field_reference(scene: Scene, distances: Tensor, noise: Tensor | None) -> Tensor:
    """The field along rays, `[B, R, S, 4]`."""
    points = scene.origins[:, :, None] + distances[..., None] * scene.directions[:, :, None]  # [B, R, S, 3]
    features = plane_features(scene.planes, points.flatten(1, 2), scene.half_width, contraction=scene.contraction)
    samples = decode(features, scene.decoder).reshape(*distances.shape, 4)
    if noise is None:
        return samples
    return torch.cat([samples[..., :3], samples[..., 3:] + noise[..., None]], dim=-1)


# The operator of `native` and `triton`. Autograd keeps its inputs only: the backward pass evaluates the field again.


class Needs(NamedTuple):
    """Which gradients are needed."""

    planes: bool
    decoder: bool
    rays: bool


def _scene(tensors: Sequence[Tensor], half_width: float, contraction: bool) -> Scene:
    """The scene of the tensors that an operator takes: planes, the decoder's four, origins, directions."""
    planes, *decoder, origins, directions = tensors
    return Scene(planes, Decoder(*decoder), origins, directions, half_width, contraction)


@torch.library.custom_op("threedgp::field", mutates_args=())
def field(
    tensors: Sequence[Tensor],
    distances: Tensor,
    noise: Tensor | None,
    u: Tensor | None,
    fine_noise: Tensor | None,
    half_width: float,
    contraction: bool,
    density_bias: float,
    max_optical_depth: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, fine distances and fine samples, as in `field_passes`; the last two are empty without `u`.

    Both passes are one operator, so that its backward pass zeroes and sums the gradient of the planes once: at the
    published size that gradient is far larger than all samples together.
    """
    code = engine(backend, "field")
    scene = _scene(tensors, half_width, contraction)
    with torch.cuda.device_of(distances):
        samples = code.field_forward(scene, distances, noise, max_optical_depth, density_bias)
        if u is None:
            return samples, distances.new_empty(0), distances.new_empty(0)
        fine = fine_distances(distances, samples, u, density_bias, backend)
        return samples, fine, code.field_forward(scene, fine, fine_noise)


@field.register_fake
def _(tensors, distances, noise, u, *_):
    new = distances.new_empty
    if u is None:
        return new((*distances.shape, 4)), new(0), new(0)
    return new((*distances.shape, 4)), new(u.shape), new((*u.shape, 4))


@torch.library.custom_op("threedgp::field_backward", mutates_args=())
def field_backward(
    tensors: Sequence[Tensor],
    distances: Sequence[Tensor],
    gradients: Sequence[Tensor],
    half_width: float,
    contraction: bool,
    backend: str,
    for_planes: bool,
    for_decoder: bool,
    for_rays: bool,
) -> list[Tensor]:
    """Gradients of planes (float32), decoder, origins and directions; empty where not needed."""
    needs = Needs(for_planes, for_decoder, for_rays)
    scene = _scene(tensors, half_width, contraction)
    with torch.cuda.device_of(distances[0]):
        grads = engine(backend, "field").field_backward(scene, list(distances), list(gradients), needs)
    return [tensors[0].new_empty(0) if g is None else g for g in grads]


@field_backward.register_fake
def _(tensors, distances, gradients, half_width, contraction, backend, for_planes, for_decoder, for_rays):
    planes, *others = tensors
    needed = (*(for_decoder,) * 4, *(for_rays,) * 2)
    return [
        zeros_like_planes(planes, torch.float32) if for_planes else planes.new_empty(0),
        *(torch.empty_like(x) if need else planes.new_empty(0) for x, need in zip(others, needed, strict=True)),
    ]


def _refuse(ctx: object, *_: Tensor) -> None:
    raise RuntimeError("the field can be differentiated once: its backward pass has no derivative")


field_backward.register_autograd(_refuse)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    tensors, distances, _, u, _, half_width, contraction, _, _, backend = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, distances, *([] if u is None else [output[1]]))
    ctx.settings = (half_width, contraction, backend)


def _backward(
    ctx: torch.autograd.function.FunctionCtx, grad: Tensor | None, _: Tensor | None, grad_fine: Tensor | None
) -> tuple[list[Tensor | None] | None, ...]:
    tensors, distances = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
    used = [(t, g.contiguous()) for t, g in zip(distances, (grad, grad_fine), strict=False) if g is not None]
    needed = ctx.needs_input_grad[0]
    needs = Needs(needed[0], any(needed[1:5]), any(needed[5:]))
    if not used or not any(needs):
        return [None] * 7, *(None,) * 9
    grads = field_backward(list(tensors), [t for t, _ in used], [g for _, g in used], *ctx.settings, *needs)
    of_inputs = (needs.planes, *(needs.decoder,) * 4, *(needs.rays,) * 2)
    return [g.to(x.dtype) if n else None for g, x, n in zip(grads, tensors, of_inputs, strict=True)], *(None,) * 9


field.register_autograd(_backward, setup_context=_save)
