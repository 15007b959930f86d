"""Planes, rays and decoders in any memory layout, and inputs that have no gradient although they require one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from render.kernel_checks import FieldCase, field_inputs, needs_compiler
from torch import Tensor

from threedgp.render import (
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    field_along_rays,
    render_rays,
)
from threedgp.render.plane_layout import addressable, zeros_like_planes

ENGINES = ["torch", pytest.param("native", marks=needs_compiler)]
CASE = FieldCase(spread=0.2)
B, R, S, C = CASE.batch, CASE.rays, CASE.samples, CASE.channels


def _scene() -> tuple[Tensor, Decoder, Tensor, Tensor, Tensor]:
    return field_inputs(CASE, "cpu")[:5]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels first": lambda p: p.movedim(-1, 2).contiguous().movedim(2, -1),
    "columns before rows": lambda p: p.transpose(2, 3).contiguous().transpose(2, 3),
    "some of more channels": lambda p: torch.cat([p[..., :4], p], dim=-1)[..., 4:],
    "half of the channels": lambda p: torch.cat([p, p], dim=-1)[..., C:],
    "every second number": lambda p: torch.stack([p, p], dim=-1)[..., 0],
    "part of wider planes": lambda p: torch.cat([p, p], dim=3)[:, :, :, : p.shape[3]],
    "not aligned": lambda p: torch.cat([p.new_zeros(1), p.flatten()])[1:].view(p.shape),
}


def _results(planes: Tensor, decoder: Decoder, *rays: Tensor, engine: str) -> list[Tensor]:
    """The field and the gradient of its planes."""
    out = field_along_rays(planes, decoder, *rays, half_width=0.5, backend=engine)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), planes)]


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planes_in_any_layout(engine: str, layout: str) -> None:
    planes, *rest = _scene()
    strange = LAYOUTS[layout](planes)
    assert torch.equal(strange, planes)
    assert strange.stride() != planes.contiguous().stride() or strange.data_ptr() % 16
    results = [_results(p.detach().requires_grad_(), *rest, engine=engine) for p in (planes, strange)]
    assert _same(*results)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_that_kernels_receive(layout: str) -> None:
    planes = LAYOUTS[layout](_scene()[0])
    table, zeros = addressable(planes), zeros_like_planes(planes, torch.float32)
    assert torch.equal(table, planes)
    assert table.data_ptr() % 16 == 0
    assert zeros.shape == planes.shape
    for made in (table, zeros):
        assert made.stride(-1) == 1
        assert all(stride % C == 0 for stride in made.stride()[:-1])
    assert zeros.untyped_storage().nbytes() == 4 * zeros.numel(), "a gradient has neither gaps nor overlaps"


@pytest.mark.parametrize("engine", ENGINES)
def test_one_scene_for_several_cameras(engine: str) -> None:
    """Planes expanded over the batch: their gradient is the sum over images."""
    planes, *rest = _scene()
    results = []
    for spread in (lambda p: p.expand(B, -1, -1, -1, -1), lambda p: p.repeat(B, 1, 1, 1, 1)):
        leaf = planes[:1].clone().requires_grad_()
        out = field_along_rays(spread(leaf), *rest, half_width=0.5, backend=engine)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaf)])
    assert _same(*results)


def _relayout(values: Tensor) -> Tensor:
    """The same values with the first dimension innermost in memory, or with gaps for a vector."""
    if values.ndim == 1:
        return torch.stack([values, values], dim=1)[:, 0]
    return values.movedim(0, -1).contiguous().movedim(-1, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fine", [0, 6])
def test_rays_and_decoder_in_any_layout(engine: str, fine: int) -> None:
    planes, decoder, origins, directions, distances = _scene()
    draw = torch.Generator().manual_seed(0)
    numbers = RayRandomness(*(torch.rand(B, R, n, generator=draw) for n in (S, fine, S, fine)))
    strange = (Decoder(*map(_relayout, decoder)), _relayout(origins), _relayout(directions))
    assert not any(x.is_contiguous() for x in (*strange[0], *strange[1:]))
    settings = RaySettings(0.2, 0.9, 0.5)
    plain = render_rays(planes, decoder, origins, directions, numbers, settings, backend=engine)
    again = render_rays(planes, *strange, RayRandomness(*map(_relayout, numbers)), settings, backend=engine)
    assert _same(plain, again)
    plain = field_along_rays(planes, decoder, origins, directions, distances, half_width=0.5, backend=engine)
    given = dict(noise=_relayout(torch.zeros_like(distances)), half_width=0.5, backend=engine)
    assert _same([plain], [field_along_rays(planes, *strange, _relayout(distances), **given)])


@pytest.mark.parametrize("engine", ENGINES)
def test_distances_and_noise_carry_no_gradient(engine: str) -> None:
    *scene, distances = _scene()
    noise = torch.zeros_like(distances).requires_grad_()
    given = dict(noise=noise, half_width=0.5, backend=engine)
    assert not field_along_rays(*scene, distances.clone().requires_grad_(), **given).requires_grad
    numbers = RayRandomness(*(torch.rand(B, R, n).requires_grad_() for n in (S, 6)), noise, None)
    assert not render_rays(*scene, numbers, RaySettings(0.2, 0.9, 0.5), backend=engine).rgb.requires_grad


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_distances_of_compositing_carry_no_gradient(backend: str) -> None:
    distances = torch.linspace(0, 1, S).expand(R, S).clone().requires_grad_()
    assert not composite(torch.randn(R, S, 4), distances, backend=backend).depth.requires_grad
