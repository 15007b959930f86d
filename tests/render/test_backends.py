"""The backends for CPUs, and what all backends have in common: gradients, errors, determinism, `torch.compile`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from render.kernel_checks import FieldCase, field_errors, field_inputs, needs_compiler, planes_far_apart, render_errors

from threedgp.render import (
    Decoder,
    RayRandomness,
    RaySettings,
    composite,
    field_along_rays,
    field_at_points,
    midpoint_randomness,
    render_rays,
    renderer,
)
from threedgp.render import field as field_operator
from threedgp.render.decoder import decode

# float32 against float64; sums of a few hundred terms
TOLERANCE = 5e-6

EG3D = {"midpoint": True, "density_bias": -1.0, "sigmoid_color": True, "white_background": True}

CASES = {
    "odd sizes": FieldCase(channels=24),
    "contraction, noise, contiguous": FieldCase(contraction=True, noise=True, channels_last=False, spread=1.5),
    "not square": FieldCase(channels=16, height=2, width=3),
    "more than a block": FieldCase(channels=32, hidden=64, samples=33, rays=70, height=64, width=48),
    "one image": FieldCase(batch=1, channels=64, hidden=100, samples=1, rays=9),
    "widest decoder": FieldCase(channels=8, hidden=128),
    "narrowest decoder": FieldCase(channels=32, hidden=16, rays=3),
}

ENGINES = ["torch", pytest.param("native", marks=needs_compiler)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_field_and_every_gradient(engine: str, name: str) -> None:
    errors = field_errors(CASES[name], engine)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("switches", [{}, EG3D | {"contraction": True, "far": 3.0}], ids=["3dgp", "eg3d, contracted"])
def test_whole_rendering_and_every_gradient(engine: str, switches: dict[str, object]) -> None:
    errors = render_errors(engine, **switches)
    assert max(errors.values()) < 2e-5, errors


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_planes(engine: str, dtype: torch.dtype) -> None:
    errors = field_errors(FieldCase(dtype=dtype), engine)
    assert errors["out"] < TOLERANCE
    assert errors["planes"] < torch.finfo(dtype).eps / 2  # rounded to the dtype once, at the end


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("asked", [*((k,) for k in range(7)), (1, 2, 3, 4), (5, 6), (0, 4), (3, 5)], ids=str)
def test_some_gradients_alone(engine: str, asked: tuple[int, ...]) -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(channels=16), "cpu")
    results = []
    for some in (asked, range(7)):
        tensors = [x.detach().clone() for x in (planes, *decoder, origins, directions)]
        leaves = [tensors[k].requires_grad_() for k in some]
        rays = (tensors[0], Decoder(*tensors[1:5]), *tensors[5:], distances)
        out = field_along_rays(*rays, half_width=0.5, backend=engine)
        gradients = torch.autograd.grad(out.square().sum(), leaves)
        results.append([gradients[list(some).index(k)] for k in asked])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *a, **k: real(x, *a, **k).fill_(float("nan")))
    for case in (CASES["odd sizes"], CASES["more than a block"]):
        assert max(field_errors(case, "native").values()) < TOLERANCE
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30, spread=0.1), "cpu")
    rays = (planes, decoder, origins, directions, midpoint_randomness(2, 30, 40, 8, origins))
    seen = render_rays(*rays, RaySettings(0.1, 0.9, 0.5), stop_when_opaque=True, backend="native")
    assert all(torch.isfinite(x).all() for x in seen)


@needs_compiler
def test_nothing_is_kept_per_sample() -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(), "cpu")
    leaves = [x.detach().requires_grad_() for x in (planes, *decoder, origins, directions)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        field_along_rays(
            *(leaves[0], Decoder(*leaves[1:5]), leaves[5], leaves[6], distances), half_width=0.5, backend="native"
        )
    inputs = {x.untyped_storage().data_ptr() for x in (*leaves, distances)}
    assert kept
    assert {x.untyped_storage().data_ptr() for x in kept} <= inputs


@needs_compiler
def test_texels_beyond_2_to_31_elements(tmp_path: Path) -> None:
    _, decoder, origins, directions, distances, _ = field_inputs(FieldCase(batch=1, channels=16), "cpu")
    results = []
    for planes in planes_far_apart(tmp_path, channels=16):
        leaf = directions.clone().requires_grad_()
        out = field_along_rays(planes, decoder, origins, leaf, distances, half_width=0.5, backend="native")
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaf)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


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


@needs_compiler
def test_second_derivatives_are_refused() -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(), "cpu")
    planes = planes.detach().requires_grad_()
    decoder = decoder._replace(bias_1=decoder.bias_1.requires_grad_())
    out = field_along_rays(planes, decoder, origins, directions, distances, half_width=0.5, backend="native")
    (gradient,) = torch.autograd.grad(out.square().sum(), planes, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
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
@pytest.mark.parametrize("place", [math.nan, math.inf, -math.inf, 1e18])
def test_rays_with_non_finite_or_far_origins_see_empty_space(engine: str, place: float) -> None:
    planes, decoder, origins, directions, distances, _ = field_inputs(FieldCase(channels=16), "cpu")
    leaf = planes.requires_grad_()
    out = field_along_rays(
        leaf, decoder, torch.full_like(origins, place), directions, distances, half_width=0.5, backend=engine
    )
    expected = decode(torch.zeros(1, 16), decoder).expand_as(out)
    assert torch.allclose(out, expected, atol=1e-6)
    assert not torch.autograd.grad(out.sum(), leaf)[0].any()


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_compiles_for_any_size(engine: str) -> None:
    """Sizes that change from call to call, including the numbers of channels and hidden units."""

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        decoder = Decoder(*tensors[1:5])
        return field_along_rays(tensors[0], decoder, *tensors[5:], half_width=0.5, backend=engine)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=True)
    for case in (FieldCase(), FieldCase(batch=3, rays=4, samples=6, height=4, channels=16, hidden=24)):
        planes, decoder, origins, directions, distances, _ = field_inputs(case, "cpu")
        tensors = (planes, *decoder, origins, directions, distances)
        assert torch.allclose(compiled(*tensors), run(*tensors), rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("hidden", [16, 20])
def test_operators_agree_with_their_fake_implementations(hidden: int) -> None:
    case = FieldCase(hidden=hidden)
    planes, decoder, origins, directions, distances, _ = field_inputs(case, "cpu")
    scene = [planes, *decoder, origins, directions]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    for needs in ((True, True, True), (False, True, False)):
        gradients = [torch.ones(*distances.shape, 4)]
        arguments = (scene, [distances], gradients, 0.5, False, "native", *needs)
        torch.library.opcheck(field_operator.field_backward, arguments, test_utils=checks)
    leaves = [x.detach().requires_grad_() for x in scene]
    arguments = (leaves, distances, None, None, None, 0.5, False, 0.0, 0.0, "native")
    torch.library.opcheck(field_operator.field, arguments, test_utils=checks)
    arguments = (leaves, distances, distances, distances, None, 0.5, True, -1.0, 0.0, "native")
    torch.library.opcheck(field_operator.field, arguments, test_utils=checks)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 2])
def test_autocast_changes_nothing(engine: str, count: int) -> None:
    """In bfloat16, errors of coordinates and compositing would reach several percent."""
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30, spread=0.1), "cpu")
    scene = (planes.requires_grad_(), decoder, origins, directions, midpoint_randomness(2, 30, 6, 7, origins))
    threads, results = torch.get_num_threads(), []
    torch.set_num_threads(count)
    try:
        for enabled in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                seen = render_rays(*scene, RaySettings(0.1, 0.9, 0.5), backend=engine)
                # Autocast affects the backward passes of PyTorch's operators, which the reference uses.
                with torch.autocast("cpu", enabled=enabled and engine != "torch", dtype=torch.bfloat16):
                    samples = field_along_rays(
                        *scene[:4], seen.depth[..., None].detach(), half_width=0.5, backend=engine
                    )
                    (gradient,) = torch.autograd.grad(samples.square().sum(), planes)
            results.append([*seen, samples, gradient])
    finally:
        torch.set_num_threads(threads)
    for plain, cast in zip(*results, strict=True):
        assert cast.dtype is torch.float32
        assert torch.equal(plain, cast)


@pytest.mark.parametrize("engine", ENGINES)
def test_stopping_changes_little(engine: str) -> None:
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
    with pytest.raises(ValueError, match=r"stop_when_opaque: .* no gradient"):
        render_rays(planes.clone().requires_grad_(), *rays[1:], backend=engine, stop_when_opaque=True)


@pytest.mark.parametrize("quantile", [0.0, 0.3])
def test_chunks_change_nothing(quantile: float) -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30, spread=0.1), "cpu")
    settings = RaySettings(0.1, 0.9, 0.5, cut_quantile=quantile)
    rays = (planes, decoder, origins, directions, midpoint_randomness(2, 30, 6, 7, origins), settings)
    whole, parts = render_rays(*rays), render_rays(*rays, chunk=7)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))


def test_chunks_have_the_requested_size(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(rays=30), "cpu")
    real, sizes = renderer.sample_rays, []
    monkeypatch.setattr(renderer, "sample_rays", lambda *a, **k: sizes.append(a[2].shape[1]) or real(*a, **k))
    numbers = midpoint_randomness(2, 30, 6, 7, origins)
    render_rays(planes, decoder, origins, directions, numbers, RaySettings(0.1, 0.9, 0.5), chunk=7)
    assert sizes == [7, 7, 7, 7, 2]


def test_a_million_rays_in_chunks() -> None:
    count = 1_000_000
    planes, decoder, *_ = field_inputs(FieldCase(batch=1, hidden=16), "cpu")
    generator = torch.Generator().manual_seed(0)
    origins, directions = (torch.randn(1, count, 3, generator=generator) * 0.3 for _ in range(2))
    settings = RaySettings(0.1, 0.9, 0.5)
    numbers = midpoint_randomness(1, count, 2, 2, origins)
    seen = render_rays(planes, decoder, origins, directions, numbers, settings, chunk=123_457)
    assert seen.rgb.shape == (1, count, 3)
    some = torch.arange(0, count, 997)  # from every chunk, the last ray of a chunk among them
    numbers = midpoint_randomness(1, len(some), 2, 2, origins)
    alone = render_rays(planes, decoder, origins[:, some], directions[:, some], numbers, settings)
    # Vector instructions may round the last samples of a chunk otherwise.
    assert torch.allclose(seen.rgb[:, some], alone.rgb, atol=1e-5)
    assert torch.allclose(seen.depth[:, some], alone.depth, atol=1e-5)


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
    with pytest.raises(ValueError, match="backend: 'triton' is not available: it needs tensors on a CUDA"):
        field_along_rays(planes, decoder, *rays, half_width=0.5, backend="triton")
    with pytest.raises(ValueError, match=r"planes: expected a floating dtype, got torch.int32"):
        field_along_rays(planes.int(), decoder, *rays, half_width=0.5)
    with pytest.raises(ValueError, match=r"planes: expected on cpu like distances, got meta"):
        field_along_rays(planes.to("meta"), decoder, *rays, half_width=0.5)
    with pytest.raises(ValueError, match=r"decoder.bias_1: expected \[20\], got \[19\]"):
        field_along_rays(planes, decoder._replace(bias_1=decoder.bias_1[1:]), *rays, half_width=0.5)
    with pytest.raises(ValueError, match=r"decoder.weight_2: expected torch.float32 like distances, got torch.float64"):
        field_along_rays(planes, decoder._replace(weight_2=decoder.weight_2.double()), *rays, half_width=0.5)
    with pytest.raises(ValueError, match=r"noise: expected \[2, 5, 7\], got \[2, 5, 6\]"):
        field_along_rays(planes, decoder, *rays, half_width=0.5, noise=torch.zeros(2, 5, 6))
    with pytest.raises(ValueError, match=r"samples: expected \[2, 5, 7, 4\], got \[2, 5, 7, 3\]"):
        composite(torch.zeros(2, 5, 7, 3), distances)
