"""Features of whole sets of images, a file per batch, so that a stopped evaluation resumes."""

from __future__ import annotations

from functools import partial, reduce
from operator import add
from pathlib import Path

import numpy as np
import torch

from threedgp.evaluation.streams import Stream, read_column
from threedgp.features.extraction import one_thread_each
from threedgp.features.moments import Moments
from threedgp.features.network import FeatureExtractor, Features
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup
from threedgp.runtime.progress import progress


def extracted(images: Stream, folder: Path, column: str = "pooled") -> Stream:
    """Features that `extract_features` has written to `folder`: `pooled` `[n, D]`, `logits` `[n, K]`, or `spatial`
    `[n, S]` if the network has them, float32."""
    files = [folder / f"{index:06d}.npz" for index in range(len(images.parts))]
    return Stream(len(images), [partial(read_column, file, column) for file in files])


def moments(features: Stream) -> Moments:
    """Moments of features, without holding all of them in memory."""
    return reduce(add, map(Moments.of, features))


def extract_features(
    images: Stream,
    extractor: FeatureExtractor,
    *,
    batch_size: int,
    folder: Path,
    label: str,
    workers: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Compute the features of every image, uint8 batches `[n, 3, R, R]`, as one of the processes of `group`; see
    `extracted`.

    Files in `folder` that an earlier run finished are kept; all exist once each process has returned. For networks on a
    CPU, `workers` threads take a batch of `batch_size` images each. `label` is that of the progress bar.
    """
    mine = [(folder / f"{index:06d}.npz", part) for index, part in enumerate(images.parts)][group.rank :: group.size]
    missing = [(file, part) for file, part in mine if not file.is_file()]

    def extract(batch: torch.Tensor) -> Features:
        return extractor(batch)

    done = len(mine) - len(missing)
    with progress(label, len(mine), "parts", done, visible=group.is_main) as bar, one_thread_each():
        for file, part in missing:
            batches = torch.from_numpy(np.ascontiguousarray(part())).split(batch_size)
            columns = zip(*ordered_map(extract, batches, workers), strict=True)
            found = {name: parts for name, parts in zip(Features._fields, columns, strict=True) if parts[0] is not None}
            with atomic_path(file) as temporary:
                np.savez(temporary, **{name: torch.cat(parts).numpy() for name, parts in found.items()})
            bar.advance()
