"""Estimated speed of training on GPUs that are not available, from counted work and data sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from threedgp.training.counting import Operation, StepCount


class Card(NamedTuple):
    """A GPU, by its data sheet. Arithmetic is dense, in TFLOP/s."""

    name: str
    memory: float
    """GB."""
    bandwidth: float
    """Bandwidth of the memory, in GB/s."""
    fp32: float
    tf32: float
    bf16: float


CARDS = {
    "h200": Card("H200 SXM", 141, 4800, 67, 494, 989),
    "h100": Card("H100 SXM", 80, 3350, 67, 494, 989),
    "a100": Card("A100 SXM 80 GB", 80, 2039, 19.5, 156, 312),
    "a100-40gb": Card("A100 SXM 40 GB", 40, 1555, 19.5, 156, 312),
    "l40s": Card("L40S", 48, 864, 91.6, 183, 362),
    "a6000": Card("RTX A6000", 48, 768, 38.7, 77.4, 155),
    "rtx5090": Card("RTX 5090", 32, 1792, 104.8, 104.8, 209.5),
    "rtx4090": Card("RTX 4090", 24, 1008, 82.6, 82.6, 165.2),
    "rtx3090": Card("RTX 3090", 24, 936, 35.6, 35.6, 71),
    "rtx4080": Card("RTX 4080", 16, 717, 48.7, 48.7, 97.5),
    "rtx3060": Card("RTX 3060", 12, 360, 12.7, 12.7, 25.5),
}
COMPUTE_SHARE = 0.4
"""Assumed fraction of the peak arithmetic of convolutions and matrix products; not measured."""
BANDWIDTH_SHARE = 0.7
"""Assumed fraction of the peak bandwidth of all operators; not measured."""
LAUNCH_SECONDS = 2e-5
"""Time that the host needs to launch an operator; a step takes at least as long as launching all of them. Measured on a
host with an H200 (docs/results.md); a faster processor needs less."""
CONTEXT_BYTES, ALLOCATOR_SHARE = 10**9, 0.1
"""Memory of CUDA and its libraries, and memory lost by the allocator, as a fraction of the tensors; assumed."""


def step_seconds(count: StepCount, card: Card, r1_interval: int) -> float:
    """Computed mean time of a training step: a roofline for each operator (Williams et al. 2009).

    An operator takes the time of its arithmetic or that of its traffic, whichever is longer.
    """
    first, usual = (_seconds(step, card) for step in (count.first_step, count.usual_step))
    return usual + (first - usual) / r1_interval


def _seconds(operations: Sequence[Operation], card: Card) -> float:
    busy = 0.0
    for precision, flops, traffic in operations:
        arithmetic = flops / (getattr(card, precision) * 1e12 * COMPUTE_SHARE)
        busy += max(arithmetic, traffic / (card.bandwidth * 1e9 * BANDWIDTH_SHARE))
    return max(busy, LAUNCH_SECONDS * len(operations))


def needed_bytes(count: StepCount) -> float:
    """Bytes of GPU memory that training needs."""
    return count.peak_bytes * (1 + ALLOCATOR_SHARE) + CONTEXT_BYTES


def fitting_piece(count: StepCount, memory: float, piece: int, group: int) -> int:
    """Images of a process that fit into `memory` bytes at once, a multiple of `group`; 0 if none do.

    `count` is that of pieces of `piece` images, to which activations are proportional.
    """
    activations = (count.peak_bytes - count.state_bytes) / piece
    free = (memory - CONTEXT_BYTES) / (1 + ALLOCATOR_SHARE) - count.state_bytes
    return max(int(free / activations) // group * group, 0)


def pieces_needed(piece: int, fitting: int, group: int) -> int | None:
    """Smallest number of equal pieces, multiples of `group`, into which `piece` images must be divided so that at most
    `fitting` are in memory at once; None if there is none."""
    counts = (n for n in range(1, piece // group + 1) if piece % (n * group) == 0 and piece // n <= fitting)
    return next(counts, None)
