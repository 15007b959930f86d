"""Resampling against its definition: zeros, filter, every second pixel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.models.layers import EqualizedConv
from threedgp.models.resample import downsample, smooth, upsample

LINE = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
KERNEL = torch.outer(LINE, LINE) / 64


def _filter(x: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, KERNEL.expand(x.shape[1], 1, 4, 4), padding=padding, groups=x.shape[1])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_upsampling(x: Tensor) -> None:
    zeros = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
    zeros[..., ::2, ::2] = x
    expected = _filter(F.pad(zeros, (2, 1, 2, 1)), 0) * 4
    assert torch.allclose(upsample(x), expected, atol=1e-14)


def test_downsampling(x: Tensor) -> None:
    assert torch.allclose(downsample(x), _filter(x, 1)[..., ::2, ::2], atol=1e-14)


def test_downsampling_a_constant_keeps_it_inside() -> None:
    assert torch.allclose(downsample(torch.ones(1, 1, 8, 8))[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_smoothing_and_its_derivatives(x: Tensor, padding: int) -> None:
    assert torch.allclose(smooth(x, gain=2.0, padding=padding), 2 * _filter(x, padding), atol=1e-14)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smooth(x, padding=padding), x)
    assert torch.autograd.gradgradcheck(lambda x: smooth(x, padding=padding).square(), x)


@pytest.mark.parametrize("resample", [lambda x: smooth(x, gain=2.0, padding=2), upsample, downsample])
def test_compiled_code_sums_shifted_tensors(
    resample: Callable[[Tensor], Tensor], x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda value=compiling: value)
        x = x.detach().requires_grad_()
        y = resample(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for composed, convolved in zip(*found, strict=True):
        torch.testing.assert_close(composed, convolved, rtol=0, atol=1e-13)


@pytest.mark.parametrize("change", [upsample, downsample])
def test_derivatives_of_resampling(x: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    x.requires_grad_()
    assert torch.autograd.gradcheck(change, x)
    assert torch.autograd.gradgradcheck(lambda x: change(x).square(), x)


def test_strided_convolution_is_filter_then_convolution_then_every_second_pixel(x: Tensor) -> None:
    layer = EqualizedConv(3, 5, 3, down=True).double()
    wide = F.conv2d(_filter(x, 2), layer.weight / 27**0.5)
    assert torch.allclose(layer(x), wide[..., ::2, ::2], atol=1e-12)
