"""Values that change during training, as functions of the images shown so far, and the average of the weights."""

from __future__ import annotations

import torch
from torch import nn

from threedgp.config.fields import Duration
from threedgp.config.train import ScheduleConfig


def duration_kimg(duration: str, total_kimg: float) -> float:
    """Length of `duration` in thousands of images, for a run of `total_kimg`."""
    if duration.endswith("%"):
        return float(duration[:-1]) / 100 * total_kimg
    return float(duration)


def ramp(kimg: float, over_kimg: float) -> float:
    """0 at the start, linearly to 1 after `over_kimg` thousand images, then 1 (at once where `over_kimg` is 0)."""
    return 1.0 if over_kimg <= 0 else min(kimg / over_kimg, 1.0)


def scheduled(schedule: ScheduleConfig, kimg: float, total_kimg: float) -> float:
    """Value of a schedule after `kimg` thousand images of a run of `total_kimg` thousand."""
    share = ramp(kimg, duration_kimg(schedule.over, total_kimg))
    return schedule.start + (schedule.end - schedule.start) * share


def ema_decay(images: int, batch_size: int, half_life: Duration, ramp_up: float, total_kimg: float) -> float:
    """Decay of the averaged weights in one step (Karras et al. 2020, appendix B), after `images` images.

    The half-life is at most `ramp_up` times the images shown so far; 0 = no limit.
    """
    half_life_images = duration_kimg(half_life, total_kimg) * 1000
    if ramp_up > 0:
        half_life_images = min(half_life_images, images * ramp_up)
    return 0.5 ** (batch_size / max(half_life_images, 1e-8))


class MovingAverage:
    """Updates `average` towards `network`.

    Tensors are collected once, because visiting the modules takes longer than the update.
    """

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        self._parameters = list(average.parameters()), list(network.parameters())
        self._buffers = list(average.buffers()), list(network.buffers())

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move parameters towards those of the network by `1 - decay`; copy buffers (averages, constants)."""
        torch._foreach_lerp_(*self._parameters, 1 - decay)
        torch._foreach_copy_(*self._buffers)
