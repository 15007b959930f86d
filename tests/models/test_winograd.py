"""Convolutions by Winograd's method against the plain sum in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.models import winograd
from threedgp.models.winograd import convolve, reason_against
from threedgp.render.native import threads as native_threads

compiled = pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))

SIZES = [
    (2, 16, 16, 4, 4),  # one tile an image
    (3, 16, 48, 7, 13),  # tiles cut off at the border, channels that fill no four vectors
    (1, 48, 16, 1, 30),
    (4, 64, 64, 16, 16),  # full blocks
    (5, 32, 96, 9, 9),
    (1, 16, 16, 25, 2),
]
# Of the largest result: the maps multiply by up to 8 and add up 36 values, in float32. The plain sum: 1e-6.
TOLERANCE = 2e-5


def _tensors(batch: int, channels: int, out: int, height: int, width: int) -> list[Tensor]:
    torch.manual_seed(batch * channels + out)
    shapes = (batch, channels, height, width), (out, channels, 3, 3), (out,), (batch, out, height, width)
    return [torch.randn(shape) for shape in shapes]


def _derivatives(tensors: list[Tensor], convolution) -> list[Tensor]:
    """Result, first derivatives, and second derivatives of a function of all first ones."""
    x, weight, bias, grad = (t.clone().requires_grad_() for t in tensors)
    y = convolution(x, weight, bias)
    first = torch.autograd.grad((y * grad).sum(), (x, weight, bias), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, grad))
    return [y.detach(), *(g.detach() for g in (*first, *second))]


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


@compiled
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_results_and_derivatives(size: tuple[int, ...], layout: torch.memory_format, monkeypatch) -> None:
    monkeypatch.setattr(winograd, "WEIGHTS_PER_TILE", 10**9)
    x, weight, bias, grad = _tensors(*size)
    used = [x.to(memory_format=layout), weight.to(memory_format=layout), bias, grad.to(memory_format=layout)]
    got = _derivatives(used, convolve)
    expected = _derivatives([t.double() for t in (x, weight, bias, grad)], _plain)
    for value, truth in zip(got, expected, strict=True):
        assert value.shape == truth.shape
        assert (value - truth).abs().max() < TOLERANCE * truth.abs().max()


@compiled
def test_every_result_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias, grad = _tensors(3, 16, 48, 7, 13)
    expected = _derivatives([x, weight, bias, grad], convolve)
    real_new, real = torch.Tensor.new_empty, torch.empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *a, **k: real_new(x, *a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty", lambda *a, **k: real(*a, **k).fill_(torch.nan))
    for value, again in zip(expected, _derivatives([x, weight, bias, grad], convolve), strict=True):
        assert torch.equal(value, again)


@compiled
@pytest.mark.parametrize("openmp", [True, False])
def test_numbers_do_not_depend_on_threads(openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(native_threads, "_parallel", lambda: None)
    tensors = _tensors(6, 32, 96, 33, 20)
    threads, got = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x, weight = (t.clone().requires_grad_() for t in tensors[:2])
            y = convolve(x, weight)
            got.append([y.detach(), *torch.autograd.grad(y, (x, weight), tensors[3])])
    finally:
        torch.set_num_threads(threads)
    for other in got[1:]:
        for value, truth in zip(other, got[0], strict=True):
            assert torch.equal(value, truth)


@compiled
def test_nan_stays_in_its_image_and_output_tiles() -> None:
    x, weight, bias, _ = _tensors(2, 16, 16, 12, 12)
    clean = convolve(x, weight, bias)
    x[0, 3, 0, 0] = torch.nan
    got = convolve(x, weight, bias)
    assert got[0, :, 0, 0].isnan().all()
    assert torch.equal(got[1], clean[1])
    assert torch.equal(got[0, :, 4:, 4:], clean[0, :, 4:, 4:])


@compiled
def test_what_it_does_not_take_is_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it took this")

    monkeypatch.setattr(winograd, "_convolution", refuse)
    x, weight, bias, _ = _tensors(4, 16, 32, 8, 8)
    with pytest.raises(AssertionError, match="took"):
        convolve(x, weight, bias)
    cases = [
        (x.double(), weight.double(), bias.double()),
        (x.bfloat16(), weight.bfloat16(), bias.bfloat16()),
        (x[:, :15], weight[:, :15], bias),
        (x, weight[:31], bias[:31]),
        (x[:0], weight, bias),
        (torch.randn(1, 64, 4, 4), torch.randn(32, 64, 3, 3), bias),  # a single tile does not pay for so many weights
    ]
    for case in cases:
        assert torch.equal(convolve(*case), _plain(*case))


def test_compiled_by_torch_without_a_break() -> None:
    x, weight, bias, _ = _tensors(4, 16, 32, 8, 8)
    got = torch.compile(convolve, fullgraph=True, backend="eager")(x, weight, bias)
    assert torch.allclose(got, _plain(x, weight, bias), atol=1e-5)


def test_can_be_switched_off() -> None:
    code = (
        "import torch; from threedgp.models import winograd as w\n"
        "x, k = torch.ones(2, 16, 8, 8), torch.ones(16, 16, 3, 3)\n"
        "assert w.reason_against()\n"
        "assert w.convolve(x, k)[0, 0, 4, 4] == 144"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"THREEDGP_NATIVE": "0", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
