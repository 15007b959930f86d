"""Every metric of a model, beside the controls that give it a meaning.

The reference of all sliced Wasserstein distances is one random half of the real set. The other half is a control, and
the material of the controls `blurred` and `background`, so that no control shares a picture with the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch

from threedgp.data.shards import ShardFolder
from threedgp.features.extraction import read_vectors
from threedgp.features.extractor import FeatureExtractor
from threedgp.features.moments import Moments
from threedgp.metrics import swd
from threedgp.metrics.fakes import Fakes
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.reals import RealSet, blurred, take_rows
from threedgp.metrics.streams import Stream
from threedgp.progress import progress

MODEL, UNTRAINED = "model", "untrained"
SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Contest:
    """Sets that are compared with one reference."""

    reference: Stream
    contestants: dict[str, Stream]
    count: int
    """Pictures of each set that the sliced Wasserstein distance takes."""


def picture_contest(reference: RealSet, other: RealSet, fakes: dict[str, Fakes], scratch: Path) -> Contest:
    """Pictures of the generators and of the controls against real ones.

    Args:
        reference, other: disjoint sets of real pictures.
        fakes: scenes of each generator, at least as many as real pictures.
        scratch: folder for pictures that are dear to make.
    """
    contestants = {name: scenes.column("image") for name, scenes in fakes.items()}
    contestants |= {"other_half": other.pictures(), "blurred": other.pictures().map(blurred)}
    if other.source.name == "procedural":
        contestants["background"] = other.backgrounds(scratch / "backgrounds.npy")
    return Contest(reference.pictures(), contestants, len(reference.rows))


def depth_contest(reference: RealSet, other: RealSet, fakes: dict[str, Fakes]) -> Contest:
    """Rendered depth maps and those of the controls against true ones, all in scene units."""
    contestants = {name: scenes.column("depth") for name, scenes in fakes.items()}
    shape = (len(other.rows), 1, other.resolution, other.resolution)
    flat = np.broadcast_to(np.float32(1), shape)
    contestants |= {"other_half": other.true_depth(), "flat": Stream(len(flat), lambda: [flat])}
    return Contest(reference.true_depth(), contestants, len(reference.rows))


def named(metric: str, values: dict[str, float]) -> dict[str, float]:
    """The model's value under the metric's name, those of controls under both names: swd, swd_untrained."""
    return {metric if name == MODEL else f"{metric}_{name}": value for name, value in values.items()}


def swd_metrics(metric: str, contest: Contest, seed: int) -> dict[str, float]:
    """Sliced Wasserstein distance of every contestant."""
    resolution = next(iter(contest.reference)).shape[-1]
    total = swd.work(resolution, len(contest.contestants), contest.count)
    with progress(f"evaluate: {metric}", total) as bar:
        values = swd.sliced_wasserstein(
            contest.reference, contest.contestants, count=contest.count, seed=seed, advance=bar.advance
        )
    return named(metric, values)


def frechet_metrics(
    contest: Contest,
    extractor: FeatureExtractor,
    statistics: Moments,
    features: ShardFolder,
    other: RealSet,
    *,
    batch_size: int,
    scratch: Path,
) -> dict[str, float]:
    """Frechet distance of every contestant, all its pictures, from the whole real set.

    The control "other half" is the distance of those real pictures from all *other* real ones, from the features that
    the stage of that name computed.

    Args:
        contest: of pictures.
        extractor: the network of `statistics` and `features`.
        statistics: moments of the whole real set.
        features: of every prepared picture.
        other: the other half.
        batch_size: pictures that go through the network at once.
        scratch: folder for moments that are done.
    """
    values = {}
    for name, pictures in contest.contestants.items():
        if name == "other_half":
            everyone = np.arange(features.manifest.rows)
            halves = (_stored_moments(features, rows) for rows in (other.rows, np.delete(everyone, other.rows)))
            values[name] = frechet_distance(*halves)
            continue
        kept = scratch / f"moments-{name}.npz"
        if not kept.is_file():
            _moments(pictures, extractor, batch_size, f"evaluate: features, {name}").save(kept, extractor.identity)
        values[name] = frechet_distance(Moments.load(kept, extractor.identity), statistics)
    return named(f"fd_{extractor.name}", values)


def _stored_moments(features: ShardFolder, rows: np.ndarray) -> Moments:
    tables = take_rows(features, rows, ["feature"])
    return reduce(add, (Moments.of(read_vectors(table["feature"])) for table in tables))


def _moments(pictures: Stream, extractor: FeatureExtractor, batch_size: int, label: str) -> Moments:
    def parts() -> Iterator[Moments]:
        for batch in pictures.in_batches(batch_size):
            yield Moments.of(extractor(torch.from_numpy(np.array(batch))).pooled.numpy())
            bar.advance(len(batch))

    with progress(label, len(pictures)) as bar:
        return reduce(add, parts())


def rounded(value: Any) -> Any:
    """Floats in nested dictionaries to 6 significant digits, keys sorted."""
    if isinstance(value, dict):
        return {key: rounded(value[key]) for key in sorted(value)}
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value
