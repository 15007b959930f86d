"""When a run has gone wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from threedgp.training.logging import Record

WATCHED = (
    "generator/loss",
    "discriminator/loss",
    "generator/gradient_norm",
    "discriminator/gradient_norm",
)
HISTORY = 20
"""Lines of the curves that say what is usual."""
ENOUGH = 5
"""Lines before which nothing is unusual: a run changes fast at its start."""


class Diverged(Exception):
    """The run has gone wrong; says how."""

    def __init__(self, how: str, *, measured: bool = False) -> None:
        """`measured`: a measurement found it, so that states saved since the one before are no good either."""
        super().__init__(how)
        self.measured = measured


def check_distance(distance: float, best: float, factor: float) -> None:
    """Refuse a model that has become far worse than an earlier one.

    Args:
        distance: to the real pictures, just measured.
        best: lowest distance so far, infinity before the first.
        factor: largest multiple of `best` that is no divergence; 0 = any is good.

    Raises:
        Diverged: with both numbers.
    """
    if not math.isfinite(distance):
        raise Diverged("the distance to the real pictures is not finite", measured=True)
    if factor > 0 and distance > factor * best:
        said = f"the distance to the real pictures is {distance:.3g}, where {best:.3g} was reached"
        raise Diverged(said, measured=True)


def check(record: Record, history: Sequence[Record], factor: float) -> None:
    """Refuse a line of the curves that shows a run gone wrong.

    Args:
        record: means since the line before.
        history: earlier lines.
        factor: a loss or gradient norm has exploded when it exceeds this multiple of its median over the last lines
            (of 1, where that median is smaller); 0 = only numbers that are not finite count.

    Raises:
        Diverged: naming the scalar.
    """
    for name, value in record.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is not finite")
    recent = history[-HISTORY:]
    if factor <= 0 or len(recent) < ENOUGH:
        return
    for name in WATCHED:
        known = [line[name] for line in recent if name in line]
        usual = median(known) if known else math.inf
        if record.get(name, 0.0) > factor * max(usual, 1.0):
            raise Diverged(f"{name} is {record[name]:.3g}, where {usual:.3g} was usual")
