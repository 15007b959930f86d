"""Speed and memory of training on this device, measured for a short time on noise."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.commands.requirements import DEFAULT_FEATURE_DIM
from threedgp.config import Config
from threedgp.evaluation.monitor import SWD
from threedgp.features.moments import Moments
from threedgp.features.network import configured_extractor
from threedgp.metrics import frechet
from threedgp.metrics.swd import sliced_wasserstein
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
    """Time to render an image."""
    measurement_seconds: float
    """Time of a measurement during training: its images, their features if `with_features`, and the distances."""
    with_features: bool
    peak_bytes: int
    """Memory of the process: of the GPU, or in all on a CPU."""


def run_trial(config: Config, device: torch.device, seconds: float, num_classes: int, num_features: int) -> Trial:
    """Train for about `seconds`, without data and without saving anything.

    Raises:
        UserError: the batch cannot be divided among the processes.
    """
    config = of_one_process(config)
    fov_quantiles = [config.camera.fov] * (1 + num_classes)
    networks = initial_networks(config, num_classes, [1 / num_classes] * num_classes, num_features, fov_quantiles)
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

    def render() -> Tensor:
        scenes = sample_scenes(trainer.average, count, 0)
        return render_scenes(trainer.average, scenes, config.dataset.resolution).images.cpu()

    render()
    render_seconds = sum(_timed(render, device) for _ in range(MIN_STEPS)) / MIN_STEPS / count
    images, feature_seconds = render(), 0.0
    if extractor is not None:
        extractor(images)
        feature_seconds = _timed(lambda: extractor(images), device) / count
    samples = config.train.metric_samples
    dim = extractor.feature_dim if extractor else DEFAULT_FEATURE_DIM
    measurement = samples * (render_seconds + feature_seconds) + _distance_seconds(config, dim)
    return Trial(step, render_seconds, measurement, local, _peak_bytes(device))


def _distance_seconds(config: Config, dim: int) -> float:
    """Time to compute the distances of a measurement from features of width `dim`."""
    samples, size = config.train.metric_samples, config.dataset.resolution
    random = np.random.default_rng(0)
    features = random.standard_normal((samples, dim), np.float32)
    reals = Moments.of(random.standard_normal((samples, dim), np.float32))
    start = time.monotonic()
    frechet.frechet_distance(reals, Moments.of(features))
    if config.train.best_by == SWD:
        images = random.integers(0, 256, (samples, 3, size, size), np.uint8)
        sliced_wasserstein([images], {SWD: [images]}, count=samples, seed=0)
    return time.monotonic() - start


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
