"""Features of whole sets of pictures, a file for each part, so that a stopped evaluation goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import torch

from threedgp.data.parallel import ordered_map
from threedgp.data.shards import ShardFolder
from threedgp.evaluation.reals import take_rows
from threedgp.features.extraction import one_thread_each
from threedgp.features.extractor import FeatureExtractor, Features
from threedgp.features.moments import Moments
from threedgp.features.statistics import read_vectors
from threedgp.metrics.streams import Stream
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.processes import ALONE, Team
from threedgp.runtime.progress import Silent, progress


class SetFeatures:
    """What a network says about the pictures of a set, in the files of a folder."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    @classmethod
    def of(cls, pictures: Stream, folder: Path) -> SetFeatures:
        """Features that `extract_features` has left in `folder`."""
        return cls(_files(pictures, folder))

    def column(self, name: str) -> np.ndarray:
        """`pooled` `[N, D]` or `logits` `[N, K]` of all pictures, float32."""
        parts = []
        for file in self._files:
            with np.load(file) as columns:
                parts.append(columns[name])
        return np.concatenate(parts)

    def moments(self) -> Moments:
        """Of the pooled features, streamed."""
        return reduce(add, (Moments.of(SetFeatures([file]).column("pooled")) for file in self._files))


class StoredFeatures:
    """Some rows of what stage `features` left."""

    def __init__(self, shards: ShardFolder, rows: np.ndarray) -> None:
        self._shards, self._rows = shards, rows

    def batches(self) -> Iterator[np.ndarray]:
        """`[n, D]`, float32."""
        return (read_vectors(table["feature"]) for table in take_rows(self._shards, self._rows, ["feature"]))

    def column(self, name: str) -> np.ndarray:
        """`pooled` `[N, D]`; there are no others."""
        if name != "pooled":
            raise KeyError(name)
        return np.concatenate(list(self.batches()))

    def moments(self) -> Moments:
        """Of the pooled features, streamed."""
        return reduce(add, map(Moments.of, self.batches()))


def _files(pictures: Stream, folder: Path) -> list[Path]:
    return [folder / f"{index:06d}.npz" for index in range(len(pictures.parts))]


def extract_features(
    pictures: Stream,
    extractor: FeatureExtractor,
    *,
    batch_size: int,
    folder: Path,
    label: str,
    workers: int = 1,
    team: Team = ALONE,
) -> SetFeatures:
    """Show every picture to the network.

    Args:
        pictures: uint8 batches `[n, 3, R, R]`.
        extractor: the network.
        batch_size: pictures that go through it at once.
        folder: for the files; those that an earlier run finished are kept.
        label: of the progress bar.
        workers: threads that take a batch each; for networks on a CPU.
        team: processes that share the work; all files are there once each of them has returned.
    """
    files = _files(pictures, folder)
    mine = list(zip(files, pictures.parts, strict=True))[team.rank :: team.size]
    missing = [(file, part) for file, part in mine if not file.is_file()]

    def see(batch: torch.Tensor) -> Features:
        return extractor(batch)

    shown = progress(label, len(mine), "parts", len(mine) - len(missing)) if team.leads else nullcontext(Silent())
    with shown as bar, one_thread_each():
        for file, part in missing:
            batches = torch.from_numpy(np.ascontiguousarray(part())).split(batch_size)
            seen = list(ordered_map(see, batches, workers))
            columns = {name: torch.cat([getattr(one, name) for one in seen]).numpy() for name in ("pooled", "logits")}
            with atomic_path(file) as temporary:
                np.savez(temporary, **columns)
            bar.advance()
    return SetFeatures(files)
