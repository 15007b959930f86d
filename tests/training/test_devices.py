"""Time and memory on cards that are not at hand, against arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from threedgp.commands.preset import preset_values
from threedgp.config import parse_config
from threedgp.training.counting import Operation, StepCount, count_step
from threedgp.training.devices import (
    ALLOCATOR_SHARE,
    BANDWIDTH_SHARE,
    CARDS,
    COMPUTE_SHARE,
    CONTEXT_BYTES,
    LAUNCH_SECONDS,
    fitting_piece,
    needed_bytes,
    pieces_needed,
    step_seconds,
)


def test_each_operator_is_bound_by_arithmetic_or_traffic() -> None:
    card = CARDS["h100"]
    arithmetic = Operation("bf16", int(card.bf16 * 1e12), 0)  # a second at the peak
    traffic = Operation("fp32", 1, int(card.bandwidth * 1e9))
    count = StepCount(0, 0, [arithmetic, arithmetic, traffic], [arithmetic, traffic])
    usual = 1 / COMPUTE_SHARE + 1 / BANDWIDTH_SHARE
    assert step_seconds(count, card, 16) == pytest.approx(usual + 1 / COMPUTE_SHARE / 16)
    tiny = StepCount(0, 0, [Operation("fp32", 0, 4)] * 1000, [Operation("fp32", 0, 4)] * 1000)
    assert step_seconds(tiny, card, 16) == pytest.approx(1000 * LAUNCH_SECONDS), "bound by the host"


def test_the_piece_that_fits_is_the_one_that_the_counts_say(root: Path) -> None:
    values = preset_values("smoke", root / "presets")

    def needed(batch: int) -> float:
        values["train"]["batch_size"] = batch
        return needed_bytes(count_step(parse_config(values), num_classes=4, num_features=8))

    memory = needed(32)
    values["train"]["batch_size"] = 8
    count = count_step(parse_config(values), num_classes=4, num_features=8)
    assert 28 <= fitting_piece(count, memory, 8, 4) <= 36
    assert fitting_piece(count, CONTEXT_BYTES + (1 + ALLOCATOR_SHARE) * count.state_bytes, 8, 4) == 0


def test_pieces_are_equal_and_whole_groups() -> None:
    assert pieces_needed(32, 40, 4) == 1
    assert pieces_needed(32, 31, 4) == 2
    assert pieces_needed(24, 9, 4) == 3, "4 pieces of 6 would split groups, and 3 of 8 fit"
    assert pieces_needed(32, 3, 4) is None
