"""Speed and memory of training on this device, measured for a short time on noise."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from threedgp.config import Config
from threedgp.features.network import configured_extractor
from threedgp.models.initialization import initial_networks
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.training.counting import middle_of_run, noise_batch, of_one_process
from threedgp.training.step import Trainer

MIN_STEPS = 4
MAX_SAMPLES = 32
"""Scenes that are rendered at once."""


class Trial(NamedTuple):
    """What was measured, of one process."""

    step_seconds: float
    """Mean time of a training step, with its share of the lazy gradient penalty."""
    sample_seconds: float
    """Time to render an image as measurements during training do, and to compute its features if `with_features`."""
    with_features: bool
    peak_bytes: int
    """Memory of the process: of the GPU, or in all on a CPU."""


def run_trial(config: Config, device: torch.device, seconds: float, num_classes: int, num_features: int) -> Trial:
    """Train for about `seconds`, without data and without saving anything.

    Raises:
        UserError: the batch cannot be divided among the processes.
    """
    config = of_one_process(config)
    networks = initial_networks(config, num_classes, [1 / num_classes] * num_classes, num_features)
    trainer = Trainer(config, networks, device)
    batch = noise_batch(config, num_features, device)
    trainer.step(batch)  # compiles kernels, and makes the moments of Adam
    trainer.images = middle_of_run(config)
    interval, times = config.train.r1_interval, ([], [])
    start = time.monotonic()
    while len(times[0]) + len(times[1]) < MIN_STEPS or time.monotonic() - start < seconds:
        usual = trainer.step_index % interval != 0
        times[usual].append(_timed(lambda: trainer.step(batch), device))
    with_penalty, usual = (sum(part) / len(part) if part else 0.0 for part in times)
    step = usual + (with_penalty - usual) / interval if times[1] else with_penalty

    count = min(trainer.piece, MAX_SAMPLES)
    local = config.features.network == "efficientnet_lite0"  # others may have to be downloaded
    extractor = configured_extractor(config.features, device, None) if local else None

    def sample() -> None:
        scenes = sample_scenes(trainer.average, count, 0)
        images = render_scenes(trainer.average, scenes, config.dataset.resolution).images.cpu()
        if extractor is not None:
            extractor(images)

    sample()
    rounds = [_timed(sample, device) for _ in range(MIN_STEPS)]
    return Trial(step, sum(rounds) / len(rounds) / count, local, _peak_bytes(device))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    start = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - start


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
