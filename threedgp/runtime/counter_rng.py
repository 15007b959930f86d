"""Counter-based random numbers: every draw is a function of a key, never of history.

A training step asks for ``uniform((batch, 256, 8), seed, "coarse", step, sample_index)``; the numbers of a sample are
the same in whatever batch, process or order it is drawn, so a run can be split, moved and resumed exactly. Bits come
from the finaliser of SplitMix64 (Steele, Lea, Flood 2014) applied to key and counter, in int64 arithmetic that wraps,
and are therefore equal on every device. On a CPU they are compiled where there is a compiler: the same numbers, one
pass instead of some twenty.
"""

from __future__ import annotations

import ctypes
import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from threedgp.render.native import building
from threedgp.render.native.building import compiled, pointer

SOURCE = Path(__file__).with_suffix(".cpp")
Key = int | str | Tensor


_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >= 1 << 63 else value


_STEP = _signed(0x9E3779B97F4A7C15)
_MULTIPLY_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = _signed(0x94D049BB133111EB)


@functools.lru_cache(maxsize=4096)
def _after(state: int, part: int) -> int:
    """The state after one more part of the key: `_mix` on a plain number, and known from the step before."""
    x = ((state ^ part) + _STEP) & _MASK
    x = ((x ^ (x >> 30)) * _MULTIPLY_1) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLY_2) & _MASK
    return x ^ (x >> 31)


@functools.cache
def reason_against() -> str | None:
    """Why numbers on this machine's CPU come from PyTorch's operators, or None if they are compiled."""
    return building.reason_against(functools.partial(compiled, SOURCE))


def _compiled(keys: Tensor) -> bool:
    return keys.device.type == "cpu" and not torch.compiler.is_compiling() and reason_against() is None


def _draw(kind: str, keys: Tensor, state: int, count: int, dtype: torch.dtype) -> Tensor:
    """`[len(keys), count]` from the compiled `kind`; `keys` are the last part, the others made `state`."""
    keys = keys.to(torch.int64).contiguous()
    to = torch.empty(len(keys), count, dtype=dtype, device=keys.device)
    sizes = ctypes.c_int64(len(keys)), ctypes.c_uint64(state), ctypes.c_int64(count)
    getattr(compiled(SOURCE), f"counter_{kind}")(pointer(keys), *sizes, pointer(to))
    return to


def _mix(x: Tensor) -> Tensor:
    # PyTorch shifts int64 arithmetically; the mask makes the shift logical.
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLY_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLY_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _number(part: int | str) -> int:
    """A part of a key as 64 bits."""
    return (zlib.crc32(part.encode()) if isinstance(part, str) else part) & _MASK


def _unit(bits: Tensor, dtype: torch.dtype) -> Tensor:
    return ((bits >> 40) & 0xFFFFFF).to(dtype) * 2.0**-24


def _plain(part: int | Tensor) -> int | Tensor:
    """A number as int64 arithmetic takes it."""
    return _signed(part) if isinstance(part, int) else part


def random_bits(shape: Sequence[int], seed: int, *key: Key, device: torch.device | str | None = None) -> Tensor:
    """64 random bits for each element.

    Args:
        shape: of the result; where a part of `key` is a tensor, its length is `shape[0]`.
        seed: of the run.
        key: what the numbers are for: names, step, and at most one kind of tensor, int64 `[shape[0]]`, such as the
            global index of each sample.
        device: of the result; by default that of the key's tensor.

    Returns:
        int64, `shape`.
    """
    tensors = [part for part in key if isinstance(part, Tensor)]
    if device is None:
        device = tensors[0].device if tensors else torch.device("cpu")
    state: int | Tensor = _after(0, (seed * 2 + 1) & _MASK)
    for number, part in enumerate(key, 1):
        if isinstance(part, Tensor):
            if part.shape != (shape[0],):
                raise ValueError(f"key: expected a tensor of shape ({shape[0]},), got {tuple(part.shape)}")
            part = part.to(device=device, dtype=torch.int64)
            if isinstance(state, int) and number == len(key) and _compiled(part):
                return _draw("bits", part, state, math.prod(shape[1:]), torch.int64).reshape(tuple(shape))
        else:
            part = _number(part)
        if isinstance(state, int) and isinstance(part, int):
            state = _after(state, part)
        else:
            state = _mix((_plain(state) ^ _plain(part)) + _STEP)
    if isinstance(state, int):
        state = torch.tensor([_signed(state)], device=device)
    per_key = math.prod(shape[1:]) if tensors else math.prod(shape)
    counter = torch.arange(1, per_key + 1, device=device, dtype=torch.int64) * _STEP
    return _mix(state[:, None] + counter).reshape(tuple(shape))


@functools.lru_cache(maxsize=64)
def _columns(states: tuple[int, ...], widths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """First states of several sets `[K]`, and of each of their columns the set `[N]` and the counter `[N]`."""
    # Made outside of inference mode: a tensor of that mode could not be used in training later.
    with torch.inference_mode(False):
        first = torch.tensor([_signed(state) for state in states], device=device)
        which = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths)).to(device)
        counter = torch.cat([torch.arange(1, width + 1) for width in widths]).to(device) * _STEP
    return first, which, counter


def uniform_sets(
    widths: Mapping[str, int], seed: int, *key: int | str, index: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """Several sets of uniform numbers at once: to a GPU, each kernel counts more than the numbers in it.

    Args:
        widths: name of each set, and how many numbers it has for each sample.
        seed: of the run.
        key: what the numbers are for.
        index: int64 `[B]`, such as the global index of each sample.
        dtype: of the numbers.

    Returns:
        for each set the `[B, width]` that ``uniform((B, width), seed, *key, name, index)`` returns.
    """
    state = _after(0, (seed * 2 + 1) & _MASK)
    for part in key:
        state = _after(state, _number(part))
    states = tuple(_after(state, _number(name)) for name in widths)
    if dtype is torch.float32 and _compiled(index):
        sets = zip(states, widths.values(), strict=True)
        return tuple(_draw("uniform", index, state, width, dtype) for state, width in sets)
    first, which, counter = _columns(states, tuple(widths.values()), index.device)
    mixed = _mix((first ^ index[:, None]) + _STEP)
    return _unit(_mix(mixed.index_select(1, which) + counter), dtype).split(list(widths.values()), dim=1)


def uniform(
    shape: Sequence[int],
    seed: int,
    *key: Key,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24. Arguments as in `random_bits`."""
    return _unit(random_bits(shape, seed, *key, device=device), dtype)


def normal(
    shape: Sequence[int],
    seed: int,
    *key: Key,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal numbers (Box and Muller 1958, the cosine branch). Arguments as in `random_bits`."""
    bits = random_bits(shape, seed, *key, device=device)
    radius = (((bits >> 32) & 0xFFFFFFFF) + 1).to(dtype) * 2.0**-32
    angle = (bits & 0xFFFFFFFF).to(dtype) * (2.0**-32 * 2 * math.pi)
    return torch.sqrt(-2 * torch.log(radius)) * torch.cos(angle)
