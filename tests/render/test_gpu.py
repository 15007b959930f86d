"""Fused kernels on a GPU against the reference in float64: `pytest -m gpu tests/render/test_gpu.py`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from render.kernel_checks import (
    SWITCHES,
    FieldCase,
    composite_errors,
    error,
    field_errors,
    field_inputs,
    importance_error,
    render_errors,
)

from threedgp.render import RaySettings, field_along_rays, midpoint_randomness, render_rays
from threedgp.render.backends import engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

# TF32 keeps ten bits of the fraction of each operand (2^-11 = 5e-4 each, partly averaging out over sums of 8 to 128
# products, twice in a row); bf16 keeps seven.
TF32, BF16 = 3e-3, 3e-2
# Rounding changes the sign of a few inputs of leaky ReLU, and each changes a derivative by 0.8 of its size. PyTorch's
# operators with operands that are truncated to TF32, as an H200 does, give gradients with the kernels' errors: 0.006 to
# 0.034, and 0.074 for bias_1 of "contraction" (0.073 on the GPU).
KINKS = 0.1

CASES = {
    "odd": FieldCase(),
    "contraction": FieldCase(contraction=True, noise=True, channels_last=False, spread=1.5, rays=33),
    "one sample": FieldCase(samples=1, rays=1000, channels=16, hidden=16),
    "many samples": FieldCase(samples=200, rays=17, channels=16, height=31, width=65),
    "C 32": FieldCase(samples=48, rays=65, channels=32, hidden=64, height=64, width=64),
    "C 64": FieldCase(samples=32, rays=65, channels=64, hidden=128, height=40, width=24),
    "single texel rows": FieldCase(height=2, width=1, samples=8),
    "hidden 100": FieldCase(channels=32, hidden=100, rays=100, samples=12),
}
COUNTS = [(1,), (64,), (33,), (32, 32), (5, 90), (1, 1), (64, 64)]
"""Samples of each set that is composited."""
IMPORTANCE = [(32, 32), (3, 5), (2, 4), (64, 64), (100, 7)]
"""Samples of the first and of the second pass."""


def wrong(errors: dict[str, float], case: FieldCase, tolerance: float) -> dict[str, float]:
    """The errors that are larger than rounding explains."""
    gradients = KINKS if case.kinks else tolerance
    if min(case.height, case.width) == 1:  # some gradients are zero
        errors = {name: value for name, value in errors.items() if not name.startswith("silent")}
    return {name: value for name, value in errors.items() if value > (tolerance if name == "out" else gradients)}


@pytest.mark.parametrize("kinks", [False, True], ids=["smooth", "kinks"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_field_and_gradients(name: str, dtype: torch.dtype, kinks: bool) -> None:
    case = CASES[name]._replace(dtype=dtype, kinks=kinks)
    assert not wrong(field_errors(case, "triton", "cuda"), case, BF16 if dtype is torch.bfloat16 else TF32)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_compositing_and_gradients(counts: tuple[int, ...], switches: dict[str, object]) -> None:
    if switches.get("midpoint") and sum(counts) < 2:
        return
    errors = composite_errors(counts, 301, switches, "cuda")
    # float32; the gradient of nearly opaque rays cancels
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize(("count", "fine"), IMPORTANCE)
def test_importance(count: int, fine: int) -> None:
    assert importance_error(count, fine, 500, "cuda") < 1e-4  # of a ray of length 1, in float32


def test_whole_rendering() -> None:
    errors = render_errors("triton", "cuda", rays=333, coarse=16, fine=24)
    # Fine distances move with TF32 noise of the first pass, so more than the field's own tolerance.
    assert max(errors.values()) < 2e-2, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(3, 3, 18, 6), (2, 96, 8, 8), (1, 512, 4, 4), (2, 70, 33, 31)], ids=str)
def test_filter_of_the_networks(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, device="cuda", dtype=dtype)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64, device="cuda")
    kernel = (torch.outer(line, line) / 64).expand(shape[1], 1, 4, 4)
    for stride, padding in ((1, 0), (1, 1), (1, 2), (2, 1)):
        for transposed, convolve in ((False, F.conv2d), (True, F.conv_transpose2d)):
            truth = convolve(x.double(), kernel, stride=stride, padding=padding, groups=shape[1])
            found = engine("triton", "filter").resample(x, transposed, 1.0, stride, padding)
            assert error(found, truth) < torch.finfo(dtype).eps  # sums in float32, rounded once


def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real_empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: real_empty(*a, **k).fill_(float("nan")))
    for case in (CASES["odd"], CASES["many samples"]):
        assert not wrong(field_errors(case, "triton", "cuda"), case, TF32)


def test_a_million_rays_in_chunks() -> None:
    case = FieldCase(batch=1, rays=8, samples=4, channels=8, hidden=16, spread=0.2)
    planes, decoder, *_ = field_inputs(case, "cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    origins = torch.randn(1, 1_000_000, 3, device="cuda", generator=generator) * 0.2
    directions = torch.randn(1, 1_000_000, 3, device="cuda", generator=generator)
    numbers = midpoint_randomness(1, 1_000_000, 8, 8, origins)
    settings = RaySettings(0.1, 0.9, 0.5)
    whole = render_rays(planes, decoder, origins, directions, numbers, settings)
    parts = render_rays(planes, decoder, origins, directions, numbers, settings, chunk=123_457)
    assert torch.equal(whole.rgb, parts.rgb)


def test_planes_beyond_2_to_31_elements() -> None:
    # One image's planes of 3 x 6000 x 6000 x 32 elements: offsets inside pass 2^31.
    case = FieldCase(batch=1, rays=512, samples=8, channels=32, hidden=16, height=6000, width=6000, spread=0.3)
    _, decoder, origins, directions, distances, _ = field_inputs(case._replace(height=4, width=4), "cuda")
    planes = torch.empty(1, 6000, 6000, 96, device="cuda", dtype=torch.bfloat16).normal_()
    planes = planes.unflatten(-1, (3, 32)).permute(0, 3, 1, 2, 4).requires_grad_()
    out = field_along_rays(planes, decoder, origins, directions, distances, half_width=0.5, backend="triton")
    truth = field_along_rays(planes.detach(), decoder, origins, directions, distances, half_width=0.5, backend="torch")
    assert error(out.detach(), truth) < BF16
    out.sum().backward()
    assert planes.grad.any() and torch.isfinite(planes.grad).all()


def test_stopping_changes_little() -> None:
    case = FieldCase(batch=2, rays=500, samples=8, channels=16, hidden=32, height=32, width=32, spread=0.2)
    planes, decoder, origins, directions, *_ = field_inputs(case, "cuda")
    decoder = decoder._replace(bias_2=decoder.bias_2 + torch.tensor([0, 0, 0, 40.0], device="cuda"))
    numbers = midpoint_randomness(2, 500, 64, 64, origins)
    rays = (planes, decoder, origins, directions, numbers, RaySettings(0.1, 0.9, 0.5))
    with torch.no_grad():
        assert (render_rays(*rays).rgb - render_rays(*rays, stop_when_opaque=True).rgb).abs().max() < 5e-3


def test_cuda_graph_replays() -> None:
    case = FieldCase(rays=64, samples=8, channels=16, hidden=16, spread=0.2)
    planes, decoder, origins, directions, *_ = field_inputs(case, "cuda")
    planes.requires_grad_()
    numbers = midpoint_randomness(2, 64, 8, 8, origins)

    def step() -> torch.Tensor:
        seen = render_rays(planes, decoder, origins, directions, numbers, RaySettings(0.1, 0.9, 0.5))
        return torch.autograd.grad(seen.rgb.square().sum(), planes)[0]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    captured.fill_(float("nan"))
    graph.replay()
    assert error(captured, expected) < 1e-5
