"""The field as operators of PyTorch, so that autograd and `torch.compile` see one opaque step.

Functional and once differentiable. For backward they keep their inputs, rays and distances, and nothing a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from threedgp.render.engines import engine
from threedgp.render.field_interface import FieldInputs, Needs
from threedgp.render.field_reference import Decoder
from threedgp.render.plane_layout import zeros_like_planes
from threedgp.render.sampling import fine_distances

ONCE = "the fused field can be differentiated once; use backend='torch' for higher derivatives"


@torch.library.custom_op("threedgp::field", mutates_args=())
def field(
    planes: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    noise: Tensor | None,
    half_width: float,
    contraction: bool,
    density_bias: float,
    opaque_depth: float,
    engine_name: str,
) -> Tensor:
    """The field along rays: `[B, R, S, 4]`. Arguments as in `field_along_rays`, contiguous but for the planes.

    `opaque_depth` > 0 leaves out samples behind that optical depth, for which alone `density_bias` counts.
    """
    decoder = Decoder(weight_1, bias_1, weight_2, bias_2)
    inputs = FieldInputs(planes, decoder, origins, directions, half_width, contraction)
    return engine(engine_name).field_forward(inputs, distances, noise, opaque_depth, density_bias)


@field.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, distances, *_):
    return distances.new_empty((*distances.shape, 4))


@torch.library.custom_op("threedgp::field_in_two_passes", mutates_args=())
def field_in_two_passes(
    planes: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    u: Tensor,
    noise: Tensor | None,
    fine_noise: Tensor | None,
    half_width: float,
    contraction: bool,
    density_bias: float,
    opaque_depth: float,
    engine_name: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The field at `distances` and where its weights fall: samples, fine distances, fine samples.

    One operator rather than two, because its backward then zeroes and adds up the gradient of the planes once: at the
    published size that gradient is far larger than all samples together.
    """
    code, decoder = engine(engine_name), Decoder(weight_1, bias_1, weight_2, bias_2)
    inputs = FieldInputs(planes, decoder, origins, directions, half_width, contraction)
    samples = code.field_forward(inputs, distances, noise, opaque_depth, density_bias)
    fine = fine_distances(distances, samples, u, density_bias, engine_name)
    return samples, fine, code.field_forward(inputs, fine, fine_noise)


@field_in_two_passes.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, distances, u, noise, fine_noise, half_width, *_):
    return distances.new_empty((*distances.shape, 4)), torch.empty_like(u), u.new_empty((*u.shape, 4))


@torch.library.custom_op("threedgp::field_backward", mutates_args=())
def field_backward(
    planes: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    origins: Tensor,
    directions: Tensor,
    distances: Sequence[Tensor],
    gradients: Sequence[Tensor],
    half_width: float,
    contraction: bool,
    engine_name: str,
    for_planes: bool,
    for_decoder: bool,
    for_rays: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of planes (float32), decoder, origins, directions; empty where not asked for."""
    decoder, needs = Decoder(weight_1, bias_1, weight_2, bias_2), Needs(for_planes, for_decoder, for_rays)
    inputs = FieldInputs(planes, decoder, origins, directions, half_width, contraction)
    made = engine(engine_name).field_backward(inputs, list(distances), list(gradients), needs)
    gradients = (made.planes, *(made.decoder or (None,) * 4), made.origins, made.directions)
    tensors = (planes, *decoder, origins, directions)
    return tuple(like.new_empty(0) if g is None else g for g, like in zip(gradients, tensors, strict=True))


@field_backward.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, distances, gradients, half_width, contraction, name, *needs):
    for_planes, for_decoder, for_rays = needs
    return (
        zeros_like_planes(planes, origins.dtype) if for_planes else planes.new_empty(0),
        *(torch.empty_like(w) if for_decoder else w.new_empty(0) for w in (w1, b1, w2, b2)),
        *(torch.empty_like(x) if for_rays else x.new_empty(0) for x in (origins, directions)),
    )


def _refuse(ctx: object, *_: Tensor) -> None:
    raise RuntimeError(ONCE)


field_backward.register_autograd(_refuse)


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, distances: list[Tensor], gradients: list[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients of the operators' first seven arguments."""
    planes, w1, b1, w2, b2, origins, directions = ctx.saved_tensors[:7]
    half_width, contraction, name = ctx.settings
    used = [(d, g.contiguous()) for d, g in zip(distances, gradients, strict=True) if g is not None]
    needed = ctx.needs_input_grad
    needs = Needs(needed[0], any(needed[1:5]), any(needed[5:7]))
    if not used or not any(needs):
        return (None,) * 7
    made = field_backward(
        *(planes, w1, b1, w2, b2, origins, directions),
        *([d for d, _ in used], [g for _, g in used], half_width, contraction, name, *needs),
    )
    asked = (needs.planes, *(needs.decoder,) * 4, *(needs.rays,) * 2)
    return (
        made[0].to(planes.dtype) if needs.planes else None,
        *(g if wanted else None for g, wanted in zip(made[1:], asked[1:], strict=True)),
    )


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:8])
    ctx.settings = (inputs[9], inputs[10], inputs[13])


def _backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_differentiate(ctx, [ctx.saved_tensors[7]], [gradient]), *(None,) * 7


field.register_autograd(_backward, setup_context=_keep)


def _keep_two(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:8], output[1])
    ctx.settings = (inputs[11], inputs[12], inputs[15])


def _backward_two(
    ctx: torch.autograd.function.FunctionCtx, gradient: Tensor | None, _: Tensor | None, fine: Tensor | None
) -> tuple[Tensor | None, ...]:
    return *_differentiate(ctx, list(ctx.saved_tensors[7:]), [gradient, fine]), *(None,) * 9


field_in_two_passes.register_autograd(_backward_two, setup_context=_keep_two)
