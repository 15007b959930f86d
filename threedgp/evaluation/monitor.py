"""Distances of a generator from the real set during training: Frechet, and sliced Wasserstein where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from threedgp.config import Config
from threedgp.data.shards import ShardFolder
from threedgp.evaluation.streams import stored_images
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, configured_extractor
from threedgp.features.statistics import STATISTICS, statistics_key
from threedgp.metrics import frechet
from threedgp.metrics.swd import sliced_wasserstein
from threedgp.models.generator import Generator
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.runtime.errors import UserError
from threedgp.training.distributed import TrainingGroup

FRECHET, SWD = "frechet", "swd"
MAX_BATCH = 32


@dataclass
class Monitor:
    """Compares generated images with real ones. Scene i is the same at every measurement and in every process."""

    extractor: FeatureExtractor
    """Network whose features are compared."""
    statistics: Moments
    """Moments of the features of the whole real set."""
    reals: np.ndarray | None
    """uint8 `[N, 3, R, R]` for the sliced Wasserstein distance; None = do not compute it."""
    count: int
    """Number of generated images; with `reals` at most N."""
    seed: int
    batch_size: int
    """Scenes per batch; bounds memory."""

    @torch.inference_mode()
    def __call__(
        self, generator: Generator, resolution: int, group: TrainingGroup, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Measure the distances `frechet` and, with real images, `swd`: the same numbers in every process.

        Each process of `group` calls this and generates its share of the images. `meanwhile` is called before every
        batch, equally often in every process; it may raise to interrupt.
        """
        with_swd = self.reals is not None
        images = torch.zeros(self.count if with_swd else 0, 3, resolution, resolution, dtype=torch.uint8)
        features = torch.zeros(self.count, self.extractor.feature_dim)
        first, end = (self.count * rank // group.size for rank in (group.rank, group.rank + 1))
        max_share = math.ceil(self.count / group.size)
        for done in range(0, max_share, self.batch_size):
            meanwhile()
            mine = slice(first + done, min(first + done + self.batch_size, end))
            if mine.start >= end:  # shares differ by one image, so one may have a batch less
                continue
            scenes = sample_scenes(generator, mine.stop - mine.start, self.seed, start=mine.start)
            generated = render_scenes(generator, scenes, resolution).images.cpu()
            features[mine] = self.extractor(generated).pooled
            if with_swd:
                images[mine] = generated
        group.sum([features])  # each process holds zeros outside of its share
        if with_swd:
            group.sum([images])
        # One process computes the distances: the processes share the cores, and all get the same bits.
        distances = torch.zeros(1 + with_swd, dtype=torch.float64)
        if group.rank == 0:
            distances[0] = frechet.frechet_distance(self.statistics, Moments.of(features.numpy()))
            if self.reals is not None:
                sets = {SWD: [images.numpy()]}
                distances[1] = sliced_wasserstein([self.reals], sets, count=self.count, seed=self.seed)[SWD]
        group.sum([distances])
        return dict(zip((FRECHET, SWD), distances.tolist(), strict=False))


def first_images(shards: ShardFolder, count: int) -> np.ndarray:
    """The first training images, uint8 `[count, 3, R, R]`: a random sample, because shards are shuffled. Raises
    UserError if there are fewer images."""
    if shards.manifest.rows < count:
        raise UserError(f"train.metric_samples: {count} images are more than the {shards.manifest.rows} of training.")
    return stored_images(shards, np.arange(count)).whole()


def open_monitor(
    config: Config, prepared: Path, features: Path, shards: Path, device: torch.device, scenes_at_once: int
) -> Monitor:
    """Open the monitor that section `train` configures, with the outputs of the stages before.

    A training step holds `scenes_at_once`; at most `MAX_BATCH` of them are rendered at once. Raises UserError if the
    statistics of the real set or the network's weights are missing, or there are too few images.
    """
    settings = config.train
    extractor = configured_extractor(config.features, device, config.machine.mirror)
    statistics = Moments.load(features / STATISTICS, statistics_key(ShardFolder(prepared), extractor.identity))
    reals = first_images(ShardFolder(shards), settings.metric_samples) if settings.best_by == SWD else None
    at_once = min(scenes_at_once, MAX_BATCH)
    return Monitor(extractor, statistics, reals, count=settings.metric_samples, seed=settings.seed, batch_size=at_once)


def measured_name(distance: str, network: str, count: int) -> str:
    """Name of a distance in the curves: that of the metric, for `count` images."""
    if distance != FRECHET:
        return distance
    return f"{frechet.METRIC.values[0].name(network, frechet.METRIC.role)}_{count}"
