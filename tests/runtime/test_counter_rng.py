"""Counter-based random numbers: independent of batching, and as random as they should be."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.runtime import counter_rng
from threedgp.runtime.counter_rng import normal, random_bits, uniform

INDEX = torch.arange(100_000)


def _splitmix64(x: int) -> int:
    """The published finalizer in Python's unbounded integers, modulo 2^64."""
    mask = (1 << 64) - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def test_bits_follow_the_published_finalizer() -> None:
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(5,), (5, 8), (5, 3, 4097), (5, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_gpu_draws_the_same_numbers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    index = torch.tensor([0, 5, 2**40 + 3, 7, 1])
    there = index.cuda()
    assert counter_rng._kernel_agrees(there.device)
    assert (
        counter_rng.uniform(shape, 3, "a", -5, there, dtype=dtype)
        .cpu()
        .equal(counter_rng.uniform(shape, 3, "a", -5, index, dtype=dtype))
    )
    numbers = counter_rng.normal(shape, 3, "a", -5, there, dtype=dtype).cpu()
    # Logarithm and cosine of a GPU differ by some units in the last place, near 0 and 2 pi by more.
    torch.testing.assert_close(numbers, counter_rng.normal(shape, 3, "a", -5, index, dtype=dtype), rtol=0, atol=1e-5)
