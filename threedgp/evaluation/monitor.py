"""Distances of a generator from the real set during training: Frechet, and sliced Wasserstein where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from threedgp.config import Config
from threedgp.data.images import decode_images
from threedgp.data.shards import ShardFolder
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, build_extractor
from threedgp.features.statistics import STATISTICS, statistics_key
from threedgp.metrics import frechet
from threedgp.metrics.swd import sliced_wasserstein
from threedgp.models.generator import Generator
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.runtime.errors import UserError

FRECHET, SWD = "frechet", "swd"
SCENES_AT_ONCE = 32


class Group(Protocol):
    """The processes that train together, of which this is one."""

    rank: int
    size: int

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all of them."""
        ...


class Monitor:
    """Compares generated pictures with real ones. Scene i is the same at every measurement, in whatever process.

    Args:
        extractor: its features are compared.
        statistics: of the features of the whole real set.
        reals: uint8 `[N, 3, R, R]` for the sliced Wasserstein distance; None = without it.
        count: generated pictures; with `reals` at most N.
        seed: of the scenes.
        batch_size: scenes and pictures at once; bounds memory.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        statistics: Moments,
        reals: np.ndarray | None,
        *,
        count: int,
        seed: int,
        batch_size: int,
    ) -> None:
        self._extractor, self._statistics, self._reals = extractor, statistics, reals
        self._seed, self._batch_size = seed, batch_size
        self.count, self.network = count, extractor.name

    @torch.inference_mode()
    def __call__(
        self, generator: Generator, resolution: int, group: Group, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Distances `frechet` and, with real pictures, `swd`: the same numbers in every process.

        Args:
            generator: in evaluation mode.
            resolution: R.
            group: every one of its processes calls this; each makes its share of the pictures.
            meanwhile: called before every batch, equally often in every process; may raise to cut this off.
        """
        compared = self._reals is not None
        pictures = torch.zeros(self.count if compared else 0, 3, resolution, resolution, dtype=torch.uint8)
        features = torch.zeros(self.count, self._extractor.feature_dim)
        first, end = (self.count * rank // group.size for rank in (group.rank, group.rank + 1))
        largest_share = math.ceil(self.count / group.size)
        for done in range(0, largest_share, self._batch_size):
            meanwhile()
            mine = slice(first + done, min(first + done + self._batch_size, end))
            if mine.start >= end:  # a share that is one smaller than another may be a batch shorter
                continue
            made = self._pictures(generator, mine, resolution)
            features[mine] = self._extractor(made).pooled
            if compared:
                pictures[mine] = made
        group.sum([features])  # zeros but for one process's share, so this puts the shares together
        if compared:
            group.sum([pictures])
        # One process computes them, for the sake of the cores that all share and of equality to the last bit.
        found = torch.zeros(1 + compared, dtype=torch.float64)
        if group.rank == 0:
            found[0] = frechet.frechet_distance(self._statistics, Moments.of(features.numpy()))
            if self._reals is not None:
                contest = {SWD: [pictures.numpy()]}
                found[1] = sliced_wasserstein([self._reals], contest, count=self.count, seed=self._seed)[SWD]
        group.sum([found])
        return dict(zip((FRECHET, SWD), found.tolist(), strict=False))

    def _pictures(self, generator: Generator, rows: slice, resolution: int) -> Tensor:
        scenes = sample_scenes(generator, rows.stop - rows.start, self._seed, start=rows.start)
        return render_scenes(generator, scenes, resolution).images.cpu()


def first_pictures(shards: ShardFolder, count: int) -> np.ndarray:
    """The first training pictures, uint8 `[count, 3, R, R]`; shards are shuffled, so these are a random sample.

    Raises:
        UserError: there are not so many.
    """
    if shards.manifest.rows < count:
        raise UserError(f"train.metric_samples: {count} pictures are more than the {shards.manifest.rows} of training.")
    pictures: list[np.ndarray] = []
    for table in shards.iterate(["image"]):
        pictures += [*decode_images(table["image"][: count - len(pictures)])]
        if len(pictures) == count:
            break
    return np.stack(pictures).transpose(0, 3, 1, 2)


def open_monitor(
    config: Config, prepared: Path, features: Path, shards: Path, device: torch.device, scenes_at_once: int
) -> Monitor:
    """The monitor that section `train` asks for.

    Args:
        config: sections `features`, `train` and `machine`.
        prepared, features, shards: folders of those stages.
        device: where the network runs.
        scenes_at_once: as many as a training step holds, which fits into memory; no more than 32 are taken.

    Raises:
        UserError: the statistics of the real set or the network's weights are missing, or there are too few pictures.
    """
    settings = config.train
    extractor = build_extractor(
        config.features.network,
        input_size=config.features.input_size,
        weights=config.features.weights,
        device=device,
        mirror=config.machine.mirror,
    )
    statistics = Moments.load(features / STATISTICS, statistics_key(ShardFolder(prepared), extractor.identity))
    reals = first_pictures(ShardFolder(shards), settings.metric_samples) if settings.best_by == SWD else None
    at_once = min(scenes_at_once, SCENES_AT_ONCE)
    return Monitor(extractor, statistics, reals, count=settings.metric_samples, seed=settings.seed, batch_size=at_once)


def measured_name(distance: str, network: str, count: int) -> str:
    """Name of a distance in the curves: that of the metric, for `count` images."""
    if distance != FRECHET:
        return distance
    return f"{frechet.METRIC.values[0].name(network, frechet.METRIC.role)}_{count}"
