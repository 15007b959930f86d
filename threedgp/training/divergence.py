"""Detection of diverged runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from threedgp.training.logging import Record

WATCHED = ("generator/loss", "discriminator/loss", "generator/gradient_norm", "discriminator/gradient_norm")
HISTORY = 20
"""Number of earlier lines of the curves whose median is the reference."""
MIN_HISTORY = 5
"""Number of earlier lines from which on losses are compared: they change fast at the start of a run."""


class Diverged(Exception):
    """The run has diverged; the message says which number shows it."""

    def __init__(self, how: str, *, measured: bool = False) -> None:
        """`measured`: found by a measurement, so that states saved since the previous measurement are bad, too."""
        super().__init__(how)
        self.measured = measured


def check_distance(distance: float, best: float, factor: float) -> None:
    """Raise `Diverged` if the distance to the real images is not finite, or more than `factor` times `best`, the lowest
    earlier one (infinity before the first). 0 = no limit."""
    if not math.isfinite(distance):
        raise Diverged("the distance to the real images is not finite", measured=True)
    if factor > 0 and distance > factor * best:
        raise Diverged(f"the distance to the real images is {distance:.3g}, after {best:.3g}", measured=True)


def check(record: Record, history: Sequence[Record], factor: float) -> None:
    """Raise `Diverged` if a scalar in a line of the curves is not finite, or if a loss or gradient norm is more than
    `factor` times its median over the last lines of `history` (1 if the median is smaller). 0 = check only that numbers
    are finite."""
    for name, value in record.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is not finite")
    recent = history[-HISTORY:]
    if factor <= 0 or len(recent) < MIN_HISTORY:
        return
    for name in WATCHED:
        earlier = [line[name] for line in recent if name in line]
        usual = median(earlier) if earlier else math.inf
        if record.get(name, 0.0) > factor * max(usual, 1.0):
            raise Diverged(f"{name} is {record[name]:.3g}, after a median of {usual:.3g}")
