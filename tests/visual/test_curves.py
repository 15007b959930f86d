"""Curves of the training log beside those of other runs."""

from __future__ import annotations

from threedgp.visual.curves import MAX_LABEL, draw_curves


def test_every_other_run_has_a_curve_of_its_own() -> None:
    """Also if the names of two experiments differ behind the end of a short name only."""
    names = ["beyond-toy-prior_estimated-0", "beyond-toy-prior_estimated_strong-0", "ideas-toy-gradient_regularizer-0"]
    records = {name: [{"kimg": 1, "distance/swd": number}] for number, name in enumerate(names)}
    (group,) = draw_curves([{"kimg": 1, "distance/swd": 9}], records)
    (chart,) = group.charts
    for name in ("this run", *names[:2], names[2][: MAX_LABEL - 1] + "…"):
        assert f">{name}</text>" in chart
