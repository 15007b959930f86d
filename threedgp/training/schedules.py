"""Values that change while training, as functions of the images shown so far."""

from __future__ import annotations

from threedgp.config.fields import Duration, duration_kimg
from threedgp.config.train import ScheduleConfig


def ramp(kimg: float, over_kimg: float) -> float:
    """0 at the start, linearly to 1 after `over_kimg` thousand images, then 1 (at once where `over_kimg` is 0)."""
    return 1.0 if over_kimg <= 0 else min(kimg / over_kimg, 1.0)


def scheduled(schedule: ScheduleConfig, kimg: float, total_kimg: float) -> float:
    """Value of a schedule after `kimg` thousand images of a run of `total_kimg`."""
    share = ramp(kimg, duration_kimg(schedule.over, total_kimg))
    return schedule.start + (schedule.end - schedule.start) * share


def ema_decay(images: int, batch_size: int, half_life: Duration, ramp_up: float, total_kimg: float) -> float:
    """Decay of the averaged weights in one step (Karras et al. 2020, appendix B; half-life in images).

    Args:
        images: shown so far.
        batch_size: images a step.
        half_life: of the average.
        ramp_up: the half-life is at most this share of the images shown so far; 0 = no limit.
        total_kimg: length of the run, in thousands of images.
    """
    half_life_images = duration_kimg(half_life, total_kimg) * 1000
    if ramp_up > 0:
        half_life_images = min(half_life_images, images * ramp_up)
    return 0.5 ** (batch_size / max(half_life_images, 1e-8))
