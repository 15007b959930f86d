"""Schedules in closed form."""

from __future__ import annotations

import pytest

from threedgp.config.train import ScheduleConfig, TrainConfig
from threedgp.training.schedules import duration_kimg, ema_decay, ramp, scheduled


@pytest.mark.parametrize(("text", "kimg"), [("5000", 5000), ("20%", 3.2), ("0", 0), ("2.5", 2.5), ("100%", 16)])
def test_durations_are_kimg_or_a_share_of_the_run(text: str, kimg: float) -> None:
    assert duration_kimg(text, 16) == pytest.approx(kimg)


def test_a_schedule_is_linear_and_then_stays() -> None:
    schedule = ScheduleConfig(start=10, end=2, over="50%")
    values = [scheduled(schedule, kimg, 8) for kimg in (0, 1, 2, 4, 8)]
    assert values == pytest.approx([10, 8, 6, 2, 2])


def test_a_schedule_over_nothing_is_at_its_end() -> None:
    assert scheduled(ScheduleConfig(start=1, end=0, over="0"), 0, 10) == 0
    assert ramp(0, 0) == 1


def test_published_schedules() -> None:
    train = TrainConfig()
    at = {kimg: lambda s, kimg=kimg: scheduled(s, kimg, train.kimg) for kimg in (0, 100, 2500, 10_000, 25_000)}
    assert [at[k](train.density_noise) for k in at] == pytest.approx([1, 0.98, 0.5, 0, 0])
    assert [at[k](train.blur_sigma) for k in at] == pytest.approx([10, 5, 0, 0, 0])
    assert [at[k](train.raw_depth_probability) for k in at] == pytest.approx([0.25, 0.2485, 0.2125, 0.1, 0.1])
    assert [at[k](train.patch_scale_beta) for k in at] == pytest.approx([0.001, 0.00899, 0.20075, 0.8, 0.8])
    assert [at[k](train.distillation.weight) for k in at] == pytest.approx([1, 0.999, 0.975, 0.9, 0.75])


def test_average_halves_a_difference_over_its_half_life() -> None:
    decay = ema_decay(10**9, 64, "20", 0.05, 25_000)
    assert decay ** (20_000 / 64) == pytest.approx(0.5)


def test_average_ramps_up_with_the_images_shown() -> None:
    # After 100,000 images the half-life is 5 % of them.
    assert ema_decay(100_000, 64, "20", 0.05, 25_000) ** (5000 / 64) == pytest.approx(0.5)
    assert ema_decay(0, 64, "20", 0.05, 25_000) == 0
    assert ema_decay(100_000, 64, "20", 0.0, 25_000) ** (20_000 / 64) == pytest.approx(0.5)
