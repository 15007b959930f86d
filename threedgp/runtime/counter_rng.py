"""Counter-based random numbers: every draw is a function of a key and of no state.

A training step asks for `uniform((batch, 256, 8), seed, "coarse", step, sample_index)`. The numbers of a sample do not
depend on the batch, the process or the order in which it is drawn, so that a run can be split, moved and resumed
exactly. The bits are those of the finalizer of SplitMix64 (Steele, Lea and Flood 2014) applied to key and counter, in
wrapping int64 arithmetic, and therefore the same on every device.
"""

from __future__ import annotations

import functools
import math
import warnings
import zlib
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Key = int | str | Tensor
Integer = TypeVar("Integer", int, Tensor)


def _wrap(x: Integer) -> Integer:
    """A Python integer as a signed 64-bit one; tensors already wrap."""
    return x if isinstance(x, Tensor) else (x + (1 << 63)) % (1 << 64) - (1 << 63)


_STEP = _wrap(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _wrap(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _wrap(0x94D049BB133111EB)


def _mix(x: Integer) -> Integer:
    # Signed integers shift arithmetically; the masks make the shifts logical.
    x = _wrap((x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLIER_1)
    x = _wrap((x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLIER_2)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _absorb(state: int | Tensor, part: Key) -> int | Tensor:
    """The state after another part of the key."""
    return _mix(_wrap((state ^ _wrap(zlib.crc32(part.encode()) if isinstance(part, str) else part)) + _STEP))


def random_bits(shape: Sequence[int], seed: int, *key: Key) -> Tensor:
    """64 random bits for each element of `shape`, int64.

    Parts of the key are names and numbers that separate uses of the seed, or tensors, such as the global index of each
    sample: int64 `[shape[0]]`, on the device of the result; another shape raises ValueError.
    """
    tensors = [part for part in key if isinstance(part, Tensor)]
    device = tensors[0].device if tensors else torch.device("cpu")
    state: int | Tensor = 0
    for part in (seed * 2 + 1, *key):
        if isinstance(part, Tensor):
            if part.shape != (shape[0],):
                raise ValueError(f"key: expected a tensor of shape ({shape[0]},), got {tuple(part.shape)}")
            part = part.to(device=device, dtype=torch.int64)
        state = _absorb(state, part)
    numbers_per_state = math.prod(shape[1:]) if tensors else math.prod(shape)
    counter = torch.arange(1, numbers_per_state + 1, device=device, dtype=torch.int64) * _STEP
    if isinstance(state, Tensor):
        state = state[:, None]
    return _mix(state + counter).reshape(tuple(shape))


def uniform(shape: Sequence[int], seed: int, *key: Key, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24. Arguments as in `random_bits`."""
    drawn = _drawn_by_kernel(shape, seed, key, dtype, is_normal=False)
    return _uniform(random_bits(shape, seed, *key), dtype) if drawn is None else drawn


def normal(shape: Sequence[int], seed: int, *key: Key, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers (Box and Muller 1958, the cosine branch). Arguments as in `random_bits`."""
    drawn = _drawn_by_kernel(shape, seed, key, dtype, is_normal=True)
    return _normal(random_bits(shape, seed, *key), dtype) if drawn is None else drawn


class NumberStream:
    """Random numbers of the samples `index`, int64 `[B]`: functions of seed, use, name and index."""

    def __init__(self, seed: int, use: str, index: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.seed, self.use, self.index, self.dtype = seed, use, index, dtype

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers `[B, *shape]`."""
        return uniform((len(self.index), *shape), self.seed, self.use, name, self.index, dtype=self.dtype)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers `[B, *shape]`."""
        return normal((len(self.index), *shape), self.seed, self.use, name, self.index, dtype=self.dtype)


def _uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    return ((bits >> 40) & 0xFFFFFF).to(dtype) * 2.0**-24


def _normal(bits: Tensor, dtype: torch.dtype) -> Tensor:
    radius = (((bits >> 32) & 0xFFFFFFFF) + 1).to(dtype) * 2.0**-32
    angle = (bits & 0xFFFFFFFF).to(dtype) * (2.0**-32 * 2 * math.pi)
    return torch.sqrt(-2 * torch.log(radius)) * torch.cos(angle)


def _drawn_by_kernel(
    shape: Sequence[int], seed: int, key: Sequence[Key], dtype: torch.dtype, *, is_normal: bool
) -> Tensor | None:
    """The numbers from one kernel on a GPU, where the key ends with its only tensor; None elsewhere."""
    *names, index = key or (0,)
    if not isinstance(index, Tensor) or not index.is_cuda or index.dtype != torch.int64 or index.shape != (shape[0],):
        return None
    if any(isinstance(part, Tensor) for part in names) or not _kernel_agrees(index.device):
        return None
    from threedgp.runtime.random_kernel import draw  # needs Triton

    prefix = functools.reduce(_absorb, (seed * 2 + 1, *names), 0)
    return draw(shape, prefix, index, dtype, is_normal=is_normal)


@functools.cache
def _kernel_agrees(device: torch.device) -> bool:
    """Whether the kernel works on this device, and draws the numbers of PyTorch's operators."""
    index = torch.arange(3, device=device)
    bits = random_bits((3, 1500), 1, index)
    try:
        from threedgp.runtime.random_kernel import draw

        prefix = _absorb(0, 3)
        u, z = (draw((3, 1500), prefix, index, torch.float32, is_normal=is_normal) for is_normal in (False, True))
        # A GPU's logarithm and cosine differ by some units in the last place.
        agrees = torch.equal(u, _uniform(bits, u.dtype)) and torch.allclose(z, _normal(bits, z.dtype), atol=1e-4)
    except Exception as error:  # compilers raise errors of many types
        warnings.warn(f"PyTorch operators draw random numbers on {device}: {error}", RuntimeWarning, stacklevel=2)
        return False
    if not agrees:
        warnings.warn(f"the kernel for random numbers is wrong on {device} and not used", RuntimeWarning, stacklevel=2)
    return agrees
