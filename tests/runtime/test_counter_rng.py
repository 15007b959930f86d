"""Counter-based random numbers: independent of batching, and as random as they claim."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.runtime import counter_rng
from threedgp.runtime.counter_rng import normal, random_bits, reason_against, uniform, uniform_sets

INDEX = torch.arange(100_000)


def _splitmix64(x: int) -> int:
    """The published finaliser in Python's unbounded integers, modulo 2^64."""
    mask = (1 << 64) - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def test_bits_follow_the_published_finaliser() -> None:
    step, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    state = _splitmix64((2 * 7 + 1 + step) & mask)
    state = _splitmix64(((state ^ 12345) + step) & mask)
    expected = [_splitmix64((state + (i + 1) * step) & mask) for i in range(6)]
    got = [value & mask for value in random_bits((6,), 7, 12345).tolist()]
    assert got == expected


def test_a_sample_does_not_depend_on_its_batch() -> None:
    whole = normal((100, 3, 2), 1, "z", INDEX[:100])
    assert torch.equal(whole[40:60], normal((20, 3, 2), 1, "z", INDEX[40:60]))


def test_seed_name_step_and_index_all_matter() -> None:
    draws = [uniform((64,), *key) for key in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2))]
    draws.append(uniform((64,), 0, "a", 1, INDEX[:64]))
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert not torch.equal(first, second)


def test_uniform_is_uniform() -> None:
    u = uniform((100_000, 4), 0, "u", INDEX)
    assert 0 <= u.min() and u.max() < 1
    # 4 standard errors of 400,000 draws: mean 0.2887 / sqrt(n), Kolmogorov-Smirnov 1.95 / sqrt(n) (p = 0.001).
    assert abs(u.mean().item() - 0.5) < 4 * 0.2887 / math.sqrt(u.numel())
    ordered = u.flatten().sort().values.double()
    distance = (ordered - torch.arange(len(ordered)) / len(ordered)).abs().max().item()
    assert distance < 1.95 / math.sqrt(len(ordered))


def test_normal_is_normal() -> None:
    x = normal((100_000, 4), 0, "n", INDEX)
    n = x.numel()
    assert torch.isfinite(x).all()
    assert abs(x.mean().item()) < 4 / math.sqrt(n)
    assert abs(x.var().item() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**4).mean().item() - 3) < 4 * math.sqrt(96 / n)


def test_columns_and_neighbors_are_uncorrelated() -> None:
    u = uniform((100_000, 4), 0, "u", INDEX)
    off_diagonal = torch.corrcoef(u.T) - torch.eye(4)
    assert off_diagonal.abs().max() < 4.5 / math.sqrt(len(u))
    shifted = torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]))[0, 1]
    assert abs(shifted.item()) < 4.5 / math.sqrt(len(u))


def test_key_of_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"key: expected a tensor of shape \(3,\), got \(4,\)"):
        uniform((3, 2), 0, INDEX[:4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sets_drawn_at_once_are_those_drawn_alone(dtype: torch.dtype) -> None:
    index = torch.tensor([5, 2**40, 7, 5])
    widths = {"one": 1, "none": 0, "many": 300}
    for name, u in zip(widths, uniform_sets(widths, 3, "phase", 11, index=index, dtype=dtype), strict=True):
        assert u.dtype is dtype
        assert torch.equal(u, uniform((4, widths[name]), 3, "phase", 11, name, index, dtype=dtype))


@pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))
@pytest.mark.parametrize("width", [0, 1, 7, 64, 1000])
def test_compiled_numbers_are_the_same(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, for indices of any sign and size and in any memory order."""
    index = torch.tensor([0, 9, 1, 9, -1, 9, 2**40, 9, -(2**63), 9, 2**63 - 1, 9])[::2]

    def draw() -> list[torch.Tensor]:
        sets = uniform_sets({"a": width, "b": 3}, 5, "phase", index=index)
        return [random_bits((6, width, 2), 5, "x", index), uniform((6, width), 5, index), *sets]

    got = draw()
    monkeypatch.setattr(counter_rng, "_compiled", lambda keys: False)
    for value, expected in zip(got, draw(), strict=True):
        assert value.dtype is expected.dtype and value.shape == expected.shape
        assert torch.equal(value, expected)


@pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))
def test_what_is_compiled_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(counter_rng, "_draw", lambda kind, keys, *rest: drawn.append(kind) or torch.zeros(2, 3).long())
    random_bits((2, 3), 0, "a", torch.arange(2))
    uniform_sets({"a": 3}, 0, index=torch.arange(2))
    random_bits((2, 3), 0, "a", torch.arange(2), 1)  # the tensor is not the last part
    random_bits((2, 3), 0, "a")
    uniform_sets({"a": 3}, 0, index=torch.arange(2), dtype=torch.float64)
    assert drawn == ["bits", "uniform"]
