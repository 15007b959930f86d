"""Features of whole sets of images, a file per batch, so that a stopped evaluation resumes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import torch

from threedgp.data.shards import ShardFolder
from threedgp.evaluation.real_images import take_rows
from threedgp.evaluation.streams import Stream
from threedgp.features.extraction import one_thread_each
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, Features
from threedgp.features.statistics import read_vectors
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup
from threedgp.runtime.progress import progress


class ExtractedFeatures:
    """Features of a stream of images, in the files of a folder that `extract_features` has written."""

    def __init__(self, images: Stream, folder: Path) -> None:
        self.files = [folder / f"{index:06d}.npz" for index in range(len(images.parts))]

    def column(self, name: str) -> np.ndarray:
        """`pooled` `[N, D]` or `logits` `[N, K]` of all images, float32."""
        return np.concatenate([_read(file, name) for file in self.files])

    def moments(self) -> Moments:
        """Moments of the pooled features, without holding all of them in memory."""
        return reduce(add, (Moments.of(_read(file, "pooled")) for file in self.files))


def _read(file: Path, name: str) -> np.ndarray:
    with np.load(file) as columns:
        return columns[name]


class StoredFeatures:
    """Features of some prepared images, from the output of stage `features`."""

    def __init__(self, shards: ShardFolder, rows: np.ndarray) -> None:
        self._shards, self._rows = shards, rows

    def batches(self) -> Iterator[np.ndarray]:
        """Pooled features `[n, D]`, float32."""
        return (read_vectors(table["feature"]) for table in take_rows(self._shards, self._rows, ["feature"]))

    def column(self, name: str) -> np.ndarray:
        """`pooled` `[N, D]`; logits are not stored."""
        if name != "pooled":
            raise KeyError(name)
        return np.concatenate(list(self.batches()))

    def moments(self) -> Moments:
        """Moments of the pooled features, without holding all of them in memory."""
        return reduce(add, map(Moments.of, self.batches()))


def extract_features(
    images: Stream,
    extractor: FeatureExtractor,
    *,
    batch_size: int,
    folder: Path,
    label: str,
    workers: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> ExtractedFeatures:
    """Compute the features of every image.

    Args:
        images: uint8 batches `[n, 3, R, R]`.
        extractor: the network.
        batch_size: images per forward pass.
        folder: of the files; those that an earlier run finished are kept.
        label: of the progress bar.
        workers: threads that take a batch each; for networks on a CPU.
        group: processes that share the work; all files exist once each of them has returned.
    """
    found = ExtractedFeatures(images, folder)
    mine = list(zip(found.files, images.parts, strict=True))[group.rank :: group.size]
    missing = [(file, part) for file, part in mine if not file.is_file()]

    def extract(batch: torch.Tensor) -> Features:
        return extractor(batch)

    done = len(mine) - len(missing)
    with progress(label, len(mine), "parts", done, visible=group.is_main) as bar, one_thread_each():
        for file, part in missing:
            batches = torch.from_numpy(np.ascontiguousarray(part())).split(batch_size)
            features = list(ordered_map(extract, batches, workers))
            columns = {name: torch.cat([getattr(f, name) for f in features]).numpy() for name in ("pooled", "logits")}
            with atomic_path(file) as temporary:
                np.savez(temporary, **columns)
            bar.advance()
    return found
