"""Errors of the fused backends relative to the reference in float64.

The relative error of a tensor is the norm of the difference over the norm of the truth.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from threedgp.render import (
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    field_along_rays,
    render_rays,
)
from threedgp.render.native import field as native_field
from threedgp.render.sampling import fine_distances

HALF_WIDTH = 0.5
needs_compiler = pytest.mark.skipif(
    native_field.unavailable_reason(8, 16) is not None, reason=str(native_field.unavailable_reason(8, 16))
)

if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.runtime import interpreter

    real_patch = interpreter._patch_lang_tensor

    def _patch_lang_tensor(tensor: type, *rest: object) -> None:
        """Triton up to 3.6 reads the bounds of loops with int(), which NumPy 2.4 refuses for arrays."""
        real_patch(tensor, *rest)
        tensor.__index__ = lambda scalar: int(scalar.handle.data.item())

    interpreter._patch_lang_tensor = _patch_lang_tensor


class FieldCase(NamedTuple):
    """Sizes and options of one comparison."""

    batch: int = 2
    rays: int = 5
    samples: int = 7
    height: int = 9
    width: int = 6
    channels: int = 8
    hidden: int = 20
    contraction: bool = False
    noise: bool = False
    channels_last: bool = True
    dtype: torch.dtype = torch.float32
    spread: float = 0.6
    """Standard deviation of ray origins: how far outside of the cube samples are."""
    kinks: bool = True
    """Whether inputs of leaky ReLU may be close to 0, where rounding them changes the slope."""


def error(actual: Tensor, truth: Tensor) -> float:
    """Relative error; NaN counts as infinite."""
    value = ((actual.double() - truth.double()).norm() / truth.double().norm().clamp(min=1e-30)).item()
    return value if value == value else float("inf")


def field_inputs(
    case: FieldCase, device: str, seed: int = 0
) -> tuple[Tensor, Decoder, Tensor, Tensor, Tensor, Tensor | None]:
    """Random scene and rays: some samples inside, on and beyond the border, some at negative coordinates."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    if case.channels_last:
        image = draw(case.batch, case.height, case.width, 3 * case.channels)
        planes = image.unflatten(-1, (3, case.channels)).permute(0, 3, 1, 2, 4)
    else:
        planes = draw(case.batch, 3, case.height, case.width, case.channels)
    shapes = ((case.hidden, case.channels), (case.hidden,), (4, case.hidden), (4,))
    decoder = Decoder(*(draw(*shape) / shape[-1] ** 0.5 for shape in shapes))
    if not case.kinks:
        decoder = decoder._replace(bias_1=decoder.bias_1.sign() * 8)
    origins = draw(case.batch, case.rays, 3) * case.spread
    directions = draw(case.batch, case.rays, 3)
    if case.rays > 2:  # exactly on a face of the cube, and far beyond it
        origins[:, 0], directions[:, 0, 0] = HALF_WIDTH, 0.0
        origins[:, 1] = 1e6
    distances = torch.rand(case.batch, case.rays, case.samples, generator=generator).sort(dim=-1).values.to(device)
    noise = draw(*distances.shape) if case.noise else None
    return planes.to(case.dtype), decoder, origins, directions, distances, noise


def field_errors(case: FieldCase, backend: str, device: str = "cpu", seed: int = 0) -> dict[str, float]:
    """Errors of the output and of all gradients."""
    planes, decoder, origins, directions, distances, noise = field_inputs(case, device, seed)
    weight = torch.randn((*distances.shape, 4), generator=torch.Generator().manual_seed(seed + 1)).to(device)

    def run(backend: str, dtype: torch.dtype | None) -> tuple[Tensor, list[Tensor]]:
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in (planes, *decoder, origins, directions)]
        kept = torch.float64 if dtype else torch.float32
        out = field_along_rays(
            leaves[0],
            Decoder(*leaves[1:5]),
            leaves[5],
            leaves[6],
            distances.to(kept),
            half_width=HALF_WIDTH,
            noise=None if noise is None else noise.to(kept),
            contraction=case.contraction,
            backend=backend,
        )
        (out * weight.to(kept)).sum().backward()
        return out.detach(), [leaf.grad for leaf in leaves]

    actual, gradients = run(backend, None)
    truth, true_gradients = run("torch", torch.float64)
    names = ("planes", "weight_1", "bias_1", "weight_2", "bias_2", "origins", "directions")
    errors = {"out": error(actual, truth)}
    for name, gradient, true in zip(names, gradients, true_gradients, strict=True):
        if not gradient.any():
            errors[f"silent {name}"] = float("inf")
        errors[name] = error(gradient, true)
    return errors


def planes_far_apart(folder: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Planes whose two rows are 2^31 elements apart, and a contiguous copy.

    They live in a sparse file in `folder`, of which only a few pages are touched.
    """
    height, width, row = 2, 5, 2**31
    memory = torch.from_file(str(folder / "planes"), shared=True, size=row + 3 * width * channels)
    far = memory.as_strided((1, 3, height, width, channels), (0, width * channels, row, channels, 1))
    far.copy_(torch.randn(far.shape, generator=torch.Generator().manual_seed(0)))
    return far, far.contiguous()


SWITCHES = [
    {},
    {"infinite_last_interval": False},
    {"infinite_last_interval": False, "last_back": True},
    {"white_background": True, "infinite_last_interval": False},
    {"sigmoid_color": True},
    {"midpoint": True, "density_bias": -1.0, "sigmoid_color": True, "white_background": True},
    {"midpoint": True, "last_back": True},
]


def composite_errors(
    counts: tuple[int, ...],
    rays: int,
    switches: dict[str, object],
    device: str = "cpu",
    seed: int = 0,
    *,
    backend: str = "triton",
) -> dict[str, float]:
    """Errors of fused compositing of one or two sets, with equal distances, empty and opaque samples."""
    generator = torch.Generator().manual_seed(seed)
    distances = tuple(torch.rand(2, rays, n, generator=generator).sort(dim=-1).values + 0.5 for n in counts)
    samples = tuple(torch.randn(2, rays, n, 4, generator=generator) * 2 for n in counts)
    if rays > 2:
        samples[0][:, 0, :, 3] = -60.0  # empty
        samples[0][:, 1, 0, 3] = 1e4  # opaque at once
        distances[-1][:, 2] = distances[0][:, 2, :1]  # equal
    weights = None

    def run(dtype: torch.dtype, engine: str) -> tuple[list[Tensor], list[Tensor]]:
        nonlocal weights
        leaves = [s.detach().clone().to(device, dtype).requires_grad_() for s in samples]
        at = tuple(d.to(device, dtype) for d in distances)
        if len(counts) > 1:
            seen = composite(tuple(leaves), at, backend=engine, **switches)
        else:
            seen = composite(leaves[0], at[0], backend=engine, **switches)
        if weights is None:
            weights = [torch.randn(x.shape, generator=generator) for x in seen]
        sum((x * w.to(x)).sum() for x, w in zip(seen, weights, strict=True)).backward()
        return [x.detach() for x in seen], [leaf.grad for leaf in leaves]

    actual, gradients = run(torch.float32, backend)
    truth, true_gradients = run(torch.float64, "torch")
    errors = {n: error(a, t) for n, a, t in zip(("rgb", "depth", "weights", "light"), actual, truth, strict=True)}
    for k, (gradient, true) in enumerate(zip(gradients, true_gradients, strict=True)):
        errors[f"colors {k}"] = error(gradient[..., :3], true[..., :3])
        errors[f"densities {k}"] = error(gradient[..., 3], true[..., 3])
    return errors


def importance_error(
    count: int, fine: int, rays: int, device: str = "cpu", *, bias: float = 0.0, backend: str = "triton"
) -> float:
    """Maximum error of fine distances, relative to the length of a ray."""
    generator = torch.Generator().manual_seed(count)
    distances = torch.rand(2, rays, count, generator=generator).sort(dim=-1).values.to(device)
    samples = (torch.randn(2, rays, count, 4, generator=generator) * 3).to(device)
    u = torch.rand(2, rays, fine, generator=generator).to(device)
    actual = fine_distances(distances, samples, u, bias, backend)
    truth = fine_distances(distances.double(), samples.double(), u.double(), bias, "torch")
    return (actual - truth).abs().max().item()


def render_errors(
    backend: str, device: str = "cpu", *, rays: int = 6, coarse: int = 5, fine: int = 6, **switches: object
) -> dict[str, float]:
    """Errors of `render_rays` and all its gradients."""
    case = FieldCase(rays=rays, samples=coarse, channels=16, hidden=16, spread=0.2)
    planes, decoder, origins, directions, _, _ = field_inputs(case, device)
    generator = torch.Generator().manual_seed(5)
    numbers = RayRandomness(
        torch.rand(2, rays, coarse, generator=generator),
        torch.rand(2, rays, fine, generator=generator),
        torch.randn(2, rays, coarse, generator=generator),
        torch.randn(2, rays, fine, generator=generator),
    )
    settings = RaySettings(near=0.2, far=0.9, half_width=HALF_WIDTH)._replace(**switches)

    def run(backend: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in (planes, *decoder, origins, directions)]
        seen = render_rays(
            leaves[0],
            Decoder(*leaves[1:5]),
            leaves[5],
            leaves[6],
            RayRandomness(*(x.to(device, dtype) for x in numbers)),
            settings,
            backend=backend,
        )
        (seen.rgb.square().sum() + seen.depth.sum()).backward()
        return [seen.rgb.detach(), seen.depth.detach(), *(leaf.grad for leaf in leaves)]

    names = ("rgb", "depth", "planes", "weight_1", "bias_1", "weight_2", "bias_2", "origins", "directions")
    pairs = zip(names, run(backend, torch.float32), run("torch", torch.float64), strict=True)
    return {name: error(actual, truth) for name, actual, truth in pairs}
