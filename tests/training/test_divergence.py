"""Detection of diverged runs."""

from __future__ import annotations

import pytest

from threedgp.training.divergence import Diverged, check, check_distance


def test_losses_are_compared_with_their_median() -> None:
    usual = [{"generator/loss": 2.0 + i % 2, "discriminator/gradient_norm": 0.01} for i in range(10)]
    check({"generator/loss": 240.0, "discriminator/gradient_norm": 90.0}, usual, 100)
    with pytest.raises(Diverged, match=r"generator/loss is 260"):
        check({"generator/loss": 260.0}, usual, 100)
    with pytest.raises(Diverged, match="gradient_norm is 110"):
        check({"discriminator/gradient_norm": 110.0}, usual, 100)
    check({"generator/loss": 1e6}, usual[:4], 100)  # too early to tell
    check({"generator/loss": 1e6}, usual, 0)
    with pytest.raises(Diverged, match="near_offset is not finite"):
        check({"generator/near_offset": float("nan")}, [], 0)


@pytest.mark.parametrize(("distance", "factor", "bad"), [(3.9, 4, False), (4.1, 4, True), (99.0, 0, False)])
def test_distances_are_compared_with_the_best(distance: float, factor: float, bad: bool) -> None:
    check_distance(distance, float("inf"), factor)  # the first is never too far
    if bad:
        with pytest.raises(Diverged, match=r"4\.1\b"):
            check_distance(distance, 1.0, factor)
    else:
        check_distance(distance, 1.0, factor)
    with pytest.raises(Diverged, match="not finite"):
        check_distance(float("nan"), 1.0, factor)
