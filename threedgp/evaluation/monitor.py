"""Measurements of a generator during training: its Frechet distance from the real set, the sliced Wasserstein distance
where asked for, and the diversity within a class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from threedgp.config import Config
from threedgp.data.shards import ShardFolder
from threedgp.evaluation.streams import stored, stored_images
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, configured_extractor
from threedgp.features.statistics import STATISTICS, read_vectors, statistics_key
from threedgp.metrics import frechet
from threedgp.metrics.class_diversity import pooled_diversity
from threedgp.metrics.swd import sliced_wasserstein
from threedgp.models.generator import Generator, Scenes
from threedgp.models.sampler import draw_scenes, render_scenes
from threedgp.runtime.errors import UserError
from threedgp.runtime.precision import exact_convolutions, restored_precision

FRECHET, SWD = "frechet", "swd"
DIVERSITIES = ("in_class", "lowest_class")
MAX_BATCH = 32


class Group(Protocol):
    """The processes that train together, as seen by one of them."""

    rank: int
    size: int

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        ...


@dataclass
class Monitor:
    """Compares generated images with real ones.

    Scene i is the same at every measurement and in every process. Stage `evaluate` measures other scenes, since the
    best model is chosen by these.
    """

    extractor: FeatureExtractor
    """Network whose features are compared."""
    statistics: Moments
    """Moments of the features of the whole real set."""
    sample: tuple[np.ndarray, np.ndarray]
    """Features `[M, D]` and labels `[M]` of some real images, whose diversity is compared."""
    reals: np.ndarray | None
    """uint8 `[N, 3, R, R]` for the sliced Wasserstein distance; None = do not compute it."""
    count: int
    """Number of generated images; with `reals` at most N."""
    seed: int
    batch_size: int
    """Scenes per batch; bounds memory."""

    @torch.inference_mode()
    @exact_convolutions()
    def __call__(
        self, generator: Generator, resolution: int, group: Group, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Measure the distances `frechet` and, with real images, `swd`; and the diversities `in_class` and
        `lowest_class`, see `pooled_diversity`, without those that are NaN. All processes get the same numbers.

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
            generated = render_scenes(generator, self._scenes(generator, mine), resolution).images.cpu()
            features[mine] = self.extractor(generated).pooled
            if with_swd:
                images[mine] = generated
        group.sum([features])  # each process holds zeros outside of its share
        if with_swd:
            group.sum([images])
        # One process computes the distances: the processes share the cores, and all get the same bits.
        names = [*DIVERSITIES, FRECHET, *([SWD] if with_swd else [])]
        found = torch.zeros(len(names), dtype=torch.float64)
        if group.rank == 0:
            labels = self._scenes(generator, slice(0, self.count)).labels
            labels = None if labels is None else labels.cpu().numpy()
            found[0], found[1] = pooled_diversity(features.numpy(), labels, *self.sample)
            found[2] = frechet.frechet_distance(self.statistics, Moments.of(features.numpy()))
            if self.reals is not None:
                sets = {SWD: [images.numpy()]}
                found[3] = sliced_wasserstein([self.reals], sets, count=self.count, seed=self.seed)[SWD]
        group.sum([found])
        numbers = dict(zip(names, found.tolist(), strict=True))
        # A line of the curves with NaN counts as diverged.
        return {name: value for name, value in numbers.items() if name not in DIVERSITIES or not math.isnan(value)}

    def _scenes(self, generator: Generator, rows: slice) -> Scenes:
        return draw_scenes(
            generator, self.seed, "monitor", torch.arange(rows.start, rows.stop, device=generator.device)
        )


def first_images(shards: ShardFolder, count: int) -> np.ndarray:
    """The first training images, uint8 `[count, 3, R, R]`: a random sample, because shards are shuffled. Raises
    UserError if there are fewer images."""
    if shards.manifest.rows < count:
        rows = shards.manifest.rows
        raise UserError(f"train.metric_samples: {count} images are more than the {rows} of training; set it to {rows}.")
    return stored_images(shards, np.arange(count)).whole()


def feature_sample(features: ShardFolder, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features `[n, D]` and labels `[n]` of random images; n is `count`, or the number of images if that is less."""
    rows = np.sort(np.random.default_rng(seed).permutation(features.manifest.rows)[:count])
    decode = {"feature": read_vectors, "label": pa.ChunkedArray.to_numpy}
    return tuple(stored(features, rows, name, function).whole() for name, function in decode.items())


def open_monitor(
    config: Config, prepared: Path, features: Path, shards: Path, device: torch.device, scenes_at_once: int
) -> Monitor:
    """Open the monitor that section `train` configures, with the outputs of the stages before.

    A training step holds `scenes_at_once`; at most `MAX_BATCH` of them are rendered at once. Raises UserError if the
    statistics of the real set or the network's weights are missing, or there are too few images.
    """
    settings, count = config.train, config.train.metric_samples
    with restored_precision():  # networks of features switch TF32 off
        extractor = configured_extractor(config.features, device, config.machine.mirror)
    statistics = Moments.load(features / STATISTICS, statistics_key(ShardFolder(prepared), extractor.identity))
    sample = feature_sample(ShardFolder(features), count, settings.seed)
    reals = first_images(ShardFolder(shards), count) if settings.best_by == SWD else None
    at_once = min(scenes_at_once, MAX_BATCH)
    return Monitor(extractor, statistics, sample, reals, count=count, seed=settings.seed, batch_size=at_once)


def measured_name(measure: str, network: str, count: int) -> str:
    """Name of a measure of `Monitor` in the curves; that of the Frechet distance tells the network and the `count` of
    images."""
    if measure == FRECHET:
        measure = f"{frechet.METRIC.values[0].name(network, frechet.METRIC.role)}_{count}"
    return f"{'diversity' if measure in DIVERSITIES else 'distance'}/{measure}"
