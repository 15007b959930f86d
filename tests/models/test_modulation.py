"""The compiled pass between two convolutions against its formula in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.models import modulation
from threedgp.models.modulation import activate_modulated, modulate, reason_against

compiled = pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))

SIZES = [(2, 16, 4, 4), (3, 48, 7, 5), (1, 64, 33, 20), (5, 32, 1, 1), (4, 80, 16, 16)]
"""Channels that fill pairs of vectors or leave one over; fewer and more pixels than are summed at once."""
TOLERANCE = 2e-6
"""Of the largest result; sums of up to 660 products in float32."""

Formula = Callable[..., Tensor]


def _wide(factor: Tensor) -> Tensor:
    return factor[..., None, None]


def _formula(x: Tensor, scale: Tensor | None, offset: Tensor, after: Tensor | None) -> Tensor:
    x = (x if scale is None else x * _wide(scale)) + _wide(offset)
    x = F.leaky_relu(x, 0.2)
    return x if after is None else x * _wide(after)


def _arguments(size: tuple[int, ...], *, scale: bool, shared: bool, after: bool) -> list[Tensor | None]:
    torch.manual_seed(sum(size))
    factors = size[:2]
    offset = torch.randn(size[1:2] if shared else factors)
    return [torch.randn(size), torch.randn(factors) if scale else None, offset, torch.randn(factors) if after else None]


def _derivatives(function: Formula, arguments: list[Tensor | None], *, twice: bool) -> list[Tensor]:
    """Result, first derivatives, and second derivatives of a function of all first ones."""
    used = [None if t is None else t.detach().clone().requires_grad_() for t in arguments]
    given = [t for t in used if t is not None]
    y = function(*used)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    first = torch.autograd.grad((y * weights).sum() + y.square().sum(), given, create_graph=twice)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), given) if twice else ()
    return [y.detach(), *(g.detach() for g in first), *second]


def _assert_close(got: list[Tensor], expected: list[Tensor]) -> None:
    for value, truth in zip(got, expected, strict=True):
        assert value.shape == truth.shape
        assert (value - truth).abs().max() <= TOLERANCE * truth.abs().max()


@compiled
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("scale", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("shared", [False, True], ids=["each", "shared"])
@pytest.mark.parametrize("after", [False, True], ids=["last", "after"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_results_and_derivatives(size: tuple[int, ...], after: bool, shared: bool, scale: bool, twice: bool) -> None:
    arguments = _arguments(size, scale=scale, shared=shared, after=after)
    assert modulation._takes(*arguments)
    precise = [None if t is None else t.double() for t in arguments]
    expected = _derivatives(_formula, precise, twice=twice)
    for layout in (torch.channels_last, torch.contiguous_format):
        laid_out = [arguments[0].to(memory_format=layout), *arguments[1:]]
        _assert_close(_derivatives(activate_modulated, laid_out, twice=twice), expected)

    def of_views(x: Tensor, *factors: Tensor | None) -> Tensor:
        """Factors as others hand them over: columns of something wider, or rows of something transposed."""
        wider = (None if f is None else torch.cat([f, f], dim=-1).split(f.shape[-1], dim=-1)[1] for f in factors)
        turned = (f if f is None or f.dim() == 1 else f.t().contiguous().t() for f in wider)
        return activate_modulated(x, *(turned if after else wider))

    _assert_close(_derivatives(of_views, arguments, twice=twice), expected)


@compiled
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_modulation_alone(size: tuple[int, ...], twice: bool) -> None:
    arguments = _arguments(size, scale=True, shared=True, after=False)[:2]
    expected = _derivatives(lambda x, scale: x * _wide(scale), [t.double() for t in arguments], twice=twice)
    _assert_close(_derivatives(modulate, arguments, twice=twice), expected)


@compiled
def test_gradients_of_those_alone_who_ask() -> None:
    x, scale, offset, after = _arguments(SIZES[1], scale=True, shared=True, after=True)
    every = _derivatives(activate_modulated, [x, scale, offset, after], twice=False)[1:]
    for number in range(4):
        arguments = [x, scale, offset, after]
        arguments[number] = arguments[number].clone().requires_grad_()
        y = activate_modulated(*arguments)
        weights = torch.linspace(-1, 1, y.numel()).view_as(y)
        (gradient,) = torch.autograd.grad((y * weights).sum() + y.square().sum(), arguments[number])
        assert torch.equal(gradient, every[number])


@compiled
def test_numbers_do_not_depend_on_threads() -> None:
    arguments = _arguments((3, 80, 40, 20), scale=True, shared=False, after=True)
    threads, got = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            got.append(_derivatives(activate_modulated, arguments, twice=False))
    finally:
        torch.set_num_threads(threads)
    for other in got[1:]:
        assert all(torch.equal(value, truth) for value, truth in zip(other, got[0], strict=True))


@compiled
def test_nan_stays_where_it_is() -> None:
    x, scale, offset, after = _arguments((2, 16, 4, 4), scale=True, shared=True, after=True)
    x[1, 3, 2, 0] = torch.nan
    assert activate_modulated(x, scale, offset, after).isnan().nonzero().tolist() == [[1, 3, 2, 0]]


def test_what_it_does_not_take_are_pytorchs_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modulation, "_channels_last", lambda x: pytest.fail("it took this"))
    x, scale, offset, after = _arguments((2, 16, 4, 4), scale=True, shared=False, after=True)
    pixels = torch.randn(2, 1, 4, 4)
    cases = [
        ([x.double(), scale.double(), offset.double(), after.double()], 1e-12),
        ([x.bfloat16(), scale, offset, after], 0.03),  # three roundings to 8 bits
        ([x[:, :15], scale[:, :15], offset[:, :15], after[:, :15]], 1e-6),
    ]
    for arguments, tolerance in cases:
        got = activate_modulated(*arguments)
        truth = _formula(*(t.double() for t in arguments))
        assert got.dtype is arguments[0].dtype
        assert (got - truth).abs().max() <= tolerance * truth.abs().max()
        assert modulate(*arguments[:2]).dtype is arguments[0].dtype
    with_noise = activate_modulated(x, scale, offset[:, :, None, None] + pixels, after)
    shifted = x * _wide(scale) + offset[:, :, None, None] + pixels
    assert torch.allclose(with_noise, F.leaky_relu(shifted, 0.2) * _wide(after), atol=1e-6)
    assert activate_modulated(x[:0], scale[:0], offset[:0]).shape == (0, 16, 4, 4)


@compiled
def test_factors_of_other_shapes_and_types_are_not_taken_for_rows_of_float32() -> None:
    x, scale, offset, after = _arguments((2, 16, 4, 4), scale=True, shared=False, after=True)
    assert torch.allclose(modulate(x, scale[:1]), x * _wide(scale[:1]))
    assert torch.allclose(activate_modulated(x, scale, offset[:1]), _formula(x, scale, offset[:1], None), atol=1e-6)
    expected = _formula(x, scale.bfloat16().float(), offset, after)
    assert torch.allclose(activate_modulated(x, scale.bfloat16(), offset, after), expected, atol=1e-5)


def test_compiled_by_torch_without_a_break() -> None:
    arguments = _arguments((2, 16, 4, 4), scale=True, shared=True, after=True)
    got = torch.compile(activate_modulated, fullgraph=True, backend="eager")(*arguments)
    assert torch.allclose(got, _formula(*arguments), atol=1e-6)
