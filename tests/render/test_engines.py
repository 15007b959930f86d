"""The engines for CPUs, and what all engines share: choice, errors, determinism, `torch.compile`."""

from __future__ import annotations

import pytest
import torch
from render.kernel_checks import FieldCase, field_errors, field_inputs, render_errors

from threedgp.render import (
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    field_along_rays,
    field_at_points,
    midpoint_randomness,
    native_field,
    render_rays,
)

# float32 against float64; sums of a few hundred terms
TOLERANCE = 5e-6

CASES = {
    "odd sizes": FieldCase(channels=24),
    "contraction, noise, contiguous": FieldCase(contraction=True, noise=True, channels_last=False, spread=1.5),
    "not square": FieldCase(channels=16, height=2, width=3),
    "more than a block": FieldCase(channels=32, hidden=64, samples=33, rays=70, height=64, width=48),
    "one image": FieldCase(batch=1, channels=64, hidden=100, samples=1, rays=9),
}

needs_compiler = pytest.mark.skipif(
    native_field.reason_against(8, 16) is not None, reason=str(native_field.reason_against(8, 16))
)
ENGINES = ["blocked", pytest.param("native", marks=needs_compiler)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_field_and_every_gradient(engine: str, name: str) -> None:
    errors = field_errors(CASES[name], engine)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_rendering_and_every_gradient(engine: str) -> None:
    errors = render_errors(engine)
    assert max(errors.values()) < 2e-5, errors


@pytest.mark.parametrize("engine", ENGINES)
def test_low_precision_planes(engine: str) -> None:
    errors = field_errors(FieldCase(dtype=torch.bfloat16), engine)
    assert errors["out"] < TOLERANCE
    assert errors["planes"] < 4e-3  # rounded to bfloat16 once, at the end


def test_gradcheck_of_the_blocked_engine() -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(rays=2, samples=3, hidden=5), "cpu")
    leaves = [x.double().requires_grad_() for x in (planes, *decoder, origins, directions)]

    def run(planes: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        along = dict(half_width=0.7, contraction=True, backend="blocked")
        return field_along_rays(planes, Decoder(*rest[:4]), rest[4], rest[5], distances.double(), **along)

    assert torch.autograd.gradcheck(run, leaves)


@needs_compiler
def test_native_does_not_depend_on_threads() -> None:
    case = FieldCase(batch=3, channels=16, rays=40, samples=9, height=5, width=5)
    planes, decoder, origins, directions, distances, _ = field_inputs(case, "cpu")
    results, threads = [], torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        leaves = [x.clone().requires_grad_() for x in (planes, *decoder, origins, directions)]
        out = field_along_rays(
            *(leaves[0], Decoder(*leaves[1:5]), leaves[5], leaves[6], distances), half_width=0.5, backend="native"
        )
        out.square().sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_auto_does_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_field, "reason_against", lambda channels, hidden: "no C++ compiler was found")
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(), "cpu")
    rays = (planes, decoder, origins, directions, distances)
    out = field_along_rays(*rays, half_width=0.5)
    assert torch.equal(out, field_along_rays(*rays, half_width=0.5, backend="blocked"))
    with pytest.raises(ValueError, match="backend: 'native' is not to be had: no C"):
        field_along_rays(*rays, half_width=0.5, backend="native")


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives_are_refused(engine: str) -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(), "cpu")
    planes = planes.detach().requires_grad_()
    decoder = decoder._replace(bias_1=decoder.bias_1.requires_grad_())
    out = field_along_rays(planes, decoder, origins, directions, distances, half_width=0.5, backend=engine)
    (gradient,) = torch.autograd.grad(out.square().sum(), planes, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once; use backend='torch'"):
        gradient.sum().backward()


@pytest.mark.parametrize("engine", ENGINES)
def test_compiles_without_a_graph_break(engine: str) -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(spread=0.2), "cpu")
    numbers = RayRandomness(torch.rand(2, 5, 6), torch.rand(2, 5, 7), torch.randn(2, 5, 6), torch.randn(2, 5, 7))

    def loss(planes: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
        settings = RaySettings(0.2, 0.9, 0.5)
        seen = render_rays(planes, decoder, origins, directions, numbers, settings, backend=engine)
        return seen.rgb.square().sum() + seen.depth.sum()

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [planes.detach().requires_grad_(), origins.detach().requires_grad_()]
        value = function(*leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_stopping_leaves_out_only_what_is_hidden(engine: str) -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30, spread=0.1), "cpu")
    decoder = decoder._replace(bias_2=decoder.bias_2 + torch.tensor([0, 0, 0, 60.0]))
    rays = (
        planes,
        decoder,
        origins,
        directions,
        midpoint_randomness(2, 30, 40, 8, origins),
        RaySettings(0.1, 0.9, 0.5),
    )
    whole, stopped = (render_rays(*rays, backend=engine, stop_when_opaque=stop) for stop in (False, True))
    assert (whole.rgb - stopped.rgb).abs().max() < 2e-3
    assert (whole.depth - stopped.depth).abs().max() < 1e-3
    with pytest.raises(ValueError, match="stop_when_opaque: samples left out have no gradient"):
        render_rays(planes.clone().requires_grad_(), *rays[1:], backend=engine, stop_when_opaque=True)


@pytest.mark.parametrize("quantile", [0.0, 0.3])
def test_chunks_change_nothing(quantile: float) -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30, spread=0.1), "cpu")
    settings = RaySettings(0.1, 0.9, 0.5, cut_quantile=quantile)
    rays = (planes, decoder, origins, directions, midpoint_randomness(2, 30, 6, 7, origins), settings)
    whole, parts = render_rays(*rays), render_rays(*rays, chunk=7)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))


def test_no_rays() -> None:
    planes, decoder, *_ = field_inputs(FieldCase(), "cpu")
    assert field_at_points(planes, decoder, torch.zeros(2, 0, 3), half_width=0.5).shape == (2, 0, 4)


def test_wrong_arguments_are_named() -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(), "cpu")
    rays = (origins, directions, distances)
    with pytest.raises(ValueError, match="backend: expected one of"):
        field_along_rays(planes, decoder, *rays, half_width=0.5, backend="fast")
    with pytest.raises(ValueError, match=r"origins: expected torch.float32 like distances, got torch.float64"):
        field_along_rays(planes, decoder, origins.double(), directions, distances, half_width=0.5)
    with pytest.raises(ValueError, match=r"directions: expected \[2, 5, 3\], got \[2, 4, 3\]"):
        field_along_rays(planes, decoder, origins, directions[:, 1:], distances, half_width=0.5)
    with pytest.raises(ValueError, match="backend: 'triton' needs tensors on a CUDA device"):
        field_along_rays(planes, decoder, *rays, half_width=0.5, backend="triton")
    with pytest.raises(ValueError, match=r"samples: expected \[2, 5, 7, 4\], got \[2, 5, 7, 3\]"):
        composite(torch.zeros(2, 5, 7, 3), distances)
