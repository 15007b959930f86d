"""Resampling against its definition: zeros, filter, every second pixel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.models import resample
from threedgp.models.layers import EqualizedConv
from threedgp.models.resample import downsample, reason_against, smooth, upsample

compiled = pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))

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


@pytest.mark.parametrize("change", [upsample, downsample])
def test_derivatives_of_resampling(x: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    x.requires_grad_()
    assert torch.autograd.gradcheck(change, x)
    assert torch.autograd.gradgradcheck(lambda x: change(x).square(), x)


def test_strided_convolution_is_filter_then_convolution_then_every_second_pixel(x: Tensor) -> None:
    layer = EqualizedConv(3, 5, 3, down=True).double()
    wide = F.conv2d(_filter(x, 2), layer.weight / 27**0.5)
    assert torch.allclose(layer(x), wide[..., ::2, ::2], atol=1e-12)


_MAPS = {"up": upsample, "down": downsample} | {f"smooth {p}": functools.partial(smooth, padding=p) for p in range(4)}


@compiled
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("size", [(2, 8, 6, 8), (1, 24, 4, 4), (3, 64, 18, 10), (1, 16, 34, 4)], ids=str)
@pytest.mark.parametrize("name", list(_MAPS))
def test_compiled_filter_and_its_derivatives(name: str, size: tuple[int, ...], layout: torch.memory_format) -> None:
    """Float32, against PyTorch's operators in float64, which the tests above compare with the definition."""
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    assert resample._takes(x, 2)

    def derivatives(x: Tensor) -> list[Tensor]:
        x = x.requires_grad_()
        y = _MAPS[name](x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        (first,) = torch.autograd.grad((y.square() * weights).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return [y.detach(), first.detach(), second]

    for got, expected in zip(derivatives(x.to(memory_format=layout)), derivatives(x.double()), strict=True):
        assert got.shape == expected.shape
        # 16 products and sums, squared by the chain of derivatives: some units in the last place.
        assert (got - expected).abs().max() < 2e-6 * expected.abs().max()


@compiled
@pytest.mark.parametrize("name", list(_MAPS))
def test_compiled_filter_does_not_depend_on_threads_nor_spread_nan(name: str) -> None:
    x = torch.randn(3, 8, 20, 12, generator=torch.Generator().manual_seed(0))
    threads, got = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            got.append(_MAPS[name](x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(got[0], got[1]) and torch.equal(got[0], got[2])
    x[0, 3, 0, 0] = torch.nan
    broken = _MAPS[name](x).isnan()
    assert broken[0, 3, 0, 0] and not broken[0, :3].any() and not broken[0, 3, 4:].any() and not broken[1:].any()


@compiled
def test_what_the_compiled_filter_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it took this")

    monkeypatch.setattr(resample, "_resample", refuse)
    x = torch.randn(2, 8, 8, 8)
    with pytest.raises(AssertionError, match="took"):
        smooth(x, padding=1)
    for other in (x.double(), x.bfloat16(), x[:, :7], x[:0]):
        for apply in _MAPS.values():
            assert apply(other).dtype is other.dtype
    got = torch.compile(downsample, fullgraph=True, backend="eager")(x)
    assert torch.allclose(got, _filter(x.double(), 1)[..., ::2, ::2].float(), atol=1e-6)
