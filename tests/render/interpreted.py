"""The kernels in Triton's interpreter; test_interpreter.py runs them in a process with TRITON_INTERPRET=1."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from render.kernel_checks import (
    SWITCHES,
    FieldCase,
    composite_errors,
    field_errors,
    field_inputs,
    importance_error,
    planes_far_apart,
    render_errors,
)
from triton.runtime.interpreter import InterpretedFunction

from threedgp.render import (
    Decoder,
    RaySettings,
    composite,
    field_along_rays,
    midpoint_randomness,
    render_rays,
)
from threedgp.render.triton import field as triton_field
from threedgp.render.triton.resampling import resample
from threedgp.runtime import counter_rng
from threedgp.runtime.random_kernel import draw

# float32 against float64; sums of a few hundred terms
TOLERANCE = 5e-6

EG3D = {"midpoint": True, "density_bias": -1.0, "sigmoid_color": True, "white_background": True}

CASES = {
    "odd sizes": FieldCase(),
    "contraction, noise, contiguous": FieldCase(contraction=True, noise=True, channels_last=False, spread=1.5),
    "C 16, one sample": FieldCase(channels=16, hidden=16, samples=1, rays=9),
    "C 32, not square": FieldCase(channels=32, hidden=33, height=3, width=12, samples=9, rays=3),
    "C 64": FieldCase(channels=64, hidden=64, batch=1, samples=3, rays=3),
    "widest decoder, C 16": FieldCase(channels=16, hidden=128, batch=1, samples=3, rays=3),
}


@pytest.mark.parametrize("name", CASES)
def test_field_and_every_gradient(name: str) -> None:
    errors = field_errors(CASES[name], "triton")
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 70, 4, 6)], ids=str)
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_filter_and_its_transpose(shape: tuple[int, ...], stride: int, padding: int, dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    kernel = (torch.outer(line, line) * 2 / 64).expand(shape[1], 1, 4, 4)
    for transposed, convolve in ((False, F.conv2d), (True, F.conv_transpose2d)):
        truth = convolve(x.double(), kernel, stride=stride, padding=padding, groups=shape[1])
        found = resample(x, transposed, 2.0, stride, padding)
        # One rounding of the result; sums of 16 terms in float32.
        torch.testing.assert_close(found.double(), truth, rtol=torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 1030)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_random_numbers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The bits of `counter_rng`; logarithm and cosine differ in the last place."""
    index = torch.tensor([0, 5, 2**40 + 3, 7])
    state = functools.reduce(counter_rng._absorb, (7, "phase", -5, "name"), 0)
    uniform, normal = (draw(shape, state, index, dtype, is_normal=is_normal) for is_normal in (False, True))
    assert uniform.equal(counter_rng.uniform(shape, 3, "phase", -5, "name", index, dtype=dtype))
    expected = counter_rng.normal(shape, 3, "phase", -5, "name", index, dtype=dtype)
    torch.testing.assert_close(normal, expected, rtol=0, atol=16 * torch.finfo(dtype).eps)


def test_kernels_are_launched_on_the_device_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device of the thread, which is the first GPU in every new thread."""
    guards, launches = [], []

    class Guard:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __enter__(self) -> None:
            guards.append(self.tensor)

        def __exit__(self, *_: object) -> None:
            guards.pop()

    launch = InterpretedFunction.__getitem__
    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    monkeypatch.setattr(
        InterpretedFunction,
        "__getitem__",
        lambda kernel, grid: launches.append((kernel.fn.__name__, bool(guards))) or launch(kernel, grid),
    )
    render_errors("triton")
    composite_errors((3, 5), 6, {})
    resample(torch.zeros(1, 1, 4, 4), False, 1.0, 1, 1)
    draw((2, 3), 1, torch.arange(2), torch.float32, is_normal=False)
    assert {name for name, guarded in launches if not guarded} == set()
    assert len({name for name, _ in launches}) == 7


def test_float16_planes() -> None:
    errors = field_errors(FieldCase(dtype=torch.float16), "triton")
    assert errors["out"] < TOLERANCE
    assert errors["planes"] < torch.finfo(torch.float16).eps / 2  # rounded once, at the end


def test_wide_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_field, "_is_wide", lambda planes: True)
    assert max(field_errors(CASES["odd sizes"], "triton").values()) < TOLERANCE


def test_texels_beyond_2_to_31_elements(tmp_path: Path) -> None:
    results = []
    for planes in planes_far_apart(tmp_path, channels=16):
        _, decoder, origins, directions, distances, _ = field_inputs(FieldCase(batch=1, channels=16), "cpu")
        out = field_along_rays(planes, decoder, origins, directions, distances, half_width=0.5, backend="triton")
        results.append(out)
    assert torch.equal(*results)


def test_compositing_keeps_only_its_inputs() -> None:
    distances = [torch.rand(2, 3, n).sort(dim=-1).values for n in (4, 5)]
    samples = [torch.randn(2, 3, n, 4, requires_grad=True) for n in (4, 5)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        composite(tuple(samples), tuple(distances), backend="triton")
    inputs = {x.untyped_storage().data_ptr() for x in (*distances, *samples)}
    assert {x.untyped_storage().data_ptr() for x in kept} == inputs


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("counts", [(6,), (3, 5)], ids=str)
def test_compositing_and_every_gradient(counts: tuple[int, ...], switches: dict[str, object]) -> None:
    errors = composite_errors(counts, 6, switches)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("raw", [-20.0, -12.0, -6.0])
def test_thin_samples_have_accurate_weights(raw: float, infinite: bool) -> None:
    """1 - exp(-x) and log(1 + exp(x)) lose all digits of small numbers, which an interval of 1e10 makes visible."""
    distances = torch.linspace(0.5, 1.0, 6).expand(3, 6).contiguous()
    results = []
    for dtype, backend in ((torch.float32, "triton"), (torch.float64, "torch")):
        samples = torch.ones(3, 6, 4, dtype=dtype)
        samples[..., 3] = raw
        samples.requires_grad_()
        switches = dict(infinite_last_interval=infinite, backend=backend)
        seen = composite((samples,), (distances.to(dtype),), **switches)
        seen.weights[..., :5].sum().backward()
        results.append((seen.weights.detach().double(), samples.grad[..., 3].double()))
    for actual, truth in zip(*results, strict=True):
        assert torch.allclose(actual, truth, rtol=1e-5, atol=0)


def test_one_sample() -> None:
    assert max(composite_errors((1,), 2, {}).values()) < TOLERANCE


@pytest.mark.parametrize(("count", "fine", "rays"), [(5, 6, 3), (8, 17, 2), (3, 3, 2)])
def test_importance(count: int, fine: int, rays: int) -> None:
    assert importance_error(count, fine, rays) < 1e-5


def test_importance_of_biased_densities() -> None:
    assert importance_error(6, 5, 3, bias=-2.0) < 1e-5


@pytest.mark.parametrize("switches", [{}, EG3D | {"contraction": True, "far": 3.0}], ids=["3dgp", "eg3d, contracted"])
def test_whole_rendering_and_every_gradient(switches: dict[str, object]) -> None:
    errors = render_errors("triton", **switches)
    assert max(errors.values()) < 2e-5, errors


def test_second_derivatives_of_compositing_are_refused() -> None:
    samples = torch.randn(3, 4, 4, requires_grad=True)
    seen = composite((samples,), (torch.linspace(0, 1, 4).expand(3, 4),), backend="triton")
    (gradient,) = torch.autograd.grad(seen.rgb.square().sum(), samples, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once; use backend='torch'"):
        gradient.sum().backward()


def test_no_rays_render_to_empty_tensors() -> None:
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(hidden=16), "cpu")
    leaf = planes.requires_grad_()
    rays = (origins[:, :0], directions[:, :0], midpoint_randomness(2, 0, 4, 6, origins))
    seen = render_rays(leaf, decoder, *rays, RaySettings(0.1, 1.0, 0.5), backend="triton")
    assert [tuple(x.shape) for x in seen] == [(2, 0, 3), (2, 0), (2, 0, 10), (2, 0)]
    assert not torch.autograd.grad(seen.rgb.sum(), leaf)[0].any()


def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: real(*a, **k).fill_(float("nan")))
    monkeypatch.setattr(torch, "empty_like", lambda x, **k: torch.full_like(x, float("nan")))
    assert max(field_errors(CASES["odd sizes"], "triton").values()) < TOLERANCE
    assert max(composite_errors((3, 5), 6, {}).values()) < TOLERANCE


@pytest.mark.parametrize(("raw", "bias", "noise"), [(1.5, -1.5, 0.0), (1.5, 0.0, -1.5)])
def test_stopping_includes_bias_and_noise(raw: float, bias: float, noise: float) -> None:
    """Fog of density softplus(0) over a length of 40, opaque after 13 of them."""
    generator = torch.Generator().manual_seed(0)
    decoder = Decoder(torch.zeros(16, 8), torch.zeros(16), torch.zeros(4, 16), torch.tensor([0.5, 0.5, 0.5, raw]))
    directions = torch.randn(1, 4, 3, generator=generator)
    numbers = midpoint_randomness(1, 4, 32, 0, directions)._replace(coarse_noise=torch.full((1, 4, 32), noise))
    rays = (torch.zeros(1, 3, 4, 4, 8), decoder, torch.zeros(1, 4, 3), directions, numbers)
    settings = RaySettings(0.0, 40.0, 0.5, infinite_last_interval=False, density_bias=bias)
    whole = render_rays(*rays, settings, backend="triton")
    stopped = render_rays(*rays, settings, backend="triton", stop_when_opaque=True)
    assert 0 < (whole.transmittance - stopped.transmittance).abs().max() < 1.02e-4


def test_stopping_changes_little() -> None:
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, 6, 6, 8, generator=generator)
    weights = [torch.randn(s, generator=generator) / 4 for s in ((16, 8), (16,), (4, 16), (4,))]
    weights[3][3] += 50
    origins, directions = torch.zeros(1, 3, 3), torch.randn(1, 3, 3, generator=generator)
    rays = (planes, Decoder(*weights), origins, directions, midpoint_randomness(1, 3, 20, 4, origins))
    settings = RaySettings(0.1, 1.0, 0.5)
    whole = render_rays(*rays, settings, backend="triton")
    stopped = render_rays(*rays, settings, backend="triton", stop_when_opaque=True)
    assert (whole.rgb - stopped.rgb).abs().max() < 1e-3
    assert (whole.depth - stopped.depth).abs().max() < 1e-3
