"""Pictures, depth maps and cameras that a generator makes, kept in files so that a stopped evaluation goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from threedgp.camera.priors import frontal_cameras
from threedgp.data.parallel import ordered_map
from threedgp.features.extraction import one_thread_each
from threedgp.metrics.streams import Stream, chunks
from threedgp.models.generator import Generator
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.processes import ALONE, Team
from threedgp.runtime.progress import Silent, progress

CHUNK = 256
"""Scenes of one file. The same for every batch size, so that a run may continue with another one."""
BYTES_A_PIXEL = 7
"""Three of colour, four of depth."""


class Fakes:
    """Generated scenes in the files of a folder.

    Columns: `image` uint8 `[n, 3, R, R]`; `depth` float32 `[n, 1, R, R]`, along the ray in scene units; `prior`
    and `camera` float32 `[n, 8]`, before and after the camera generator; `label` int64 `[n]`, 0 without classes.
    """

    def __init__(self, folder: Path, count: int) -> None:
        """The `count` scenes that `generate` has left in `folder`."""
        self._files, self._count = _files(folder, count), count

    def __len__(self) -> int:
        return self._count

    def column(self, name: str) -> Stream:
        """One column, a batch for each file."""
        return Stream(self._count, [partial(_read, file, name) for file in self._files])

    def whole(self, name: str) -> np.ndarray:
        """All rows of a small column: `prior`, `camera` or `label`."""
        return np.concatenate(list(self.column(name)))


def _files(folder: Path, count: int) -> list[Path]:
    return [folder / f"{start:08d}.npz" for start, _ in chunks(count, CHUNK)]


def _read(file: Path, name: str) -> np.ndarray:
    with np.load(file) as columns:
        return columns[name]


def generate(
    generator: Generator,
    count: int,
    seed: int,
    resolution: int,
    *,
    batch_size: int,
    folder: Path,
    label: str,
    workers: int = 1,
    team: Team = ALONE,
) -> Fakes:
    """Make `count` scenes as the training sees them: labels by their frequency, prior cameras, posterior cameras.

    Args:
        generator: on its device, in evaluation mode.
        count: number of scenes.
        seed: scene i is a function of seed and i alone.
        resolution: R, pixels along each side.
        batch_size: scenes at once; bounds memory.
        folder: for the files; those that an earlier run finished are kept.
        label: of the progress bar.
        workers: threads that make a batch each; on a CPU faster than one batch on all cores. No part of the result.
        team: processes that share the work; all files are there once each of them has returned.

    Raises:
        UserError: too little space.
    """
    mine = list(zip(_files(folder, count), chunks(count, CHUNK), strict=True))[team.rank :: team.size]
    missing = [(file, piece) for file, piece in mine if not file.is_file()]
    total, left = (sum(end - start for _, (start, end) in some) for some in (mine, missing))
    require_free(folder, left * resolution**2 * BYTES_A_PIXEL)
    shown = progress(label, total, "scenes", total - left) if team.leads else nullcontext(Silent())
    with shown as bar, one_thread_each():
        for file, (start, end) in missing:
            parts = []
            for batch in batches(generator, range(start, end), seed, resolution, batch_size, workers):
                parts.append(batch)
                bar.advance(len(batch["image"]))
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            with atomic_path(file) as temporary:
                np.savez(temporary, **columns)
    return Fakes(folder, count)


def batches(
    generator: Generator, scenes: range, seed: int, resolution: int, batch_size: int, workers: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """The scenes of some numbers, in memory: the columns of `Fakes`, `batch_size` scenes at a time, in order."""

    def make(first: int) -> dict[str, np.ndarray]:
        return _batch(generator, min(batch_size, scenes.stop - first), seed, first, resolution)

    return ordered_map(make, range(scenes.start, scenes.stop, batch_size), workers)


def _batch(generator: Generator, count: int, seed: int, start: int, resolution: int) -> dict[str, np.ndarray]:
    scenes = sample_scenes(generator, count, seed, start=start)
    samples = render_scenes(generator, scenes, resolution)
    labels = np.zeros(count, np.int64) if scenes.labels is None else scenes.labels.cpu().numpy()
    return {
        "image": samples.images.cpu().numpy(),
        "depth": samples.depth.cpu().numpy(),
        "prior": scenes.prior_cameras.cpu().numpy(),
        "camera": samples.cameras.cpu().numpy(),
        "label": labels,
    }


def frontal_depth(generator: Generator, count: int, seed: int, resolution: int, batch_size: int) -> np.ndarray:
    """Depth maps for the non-flatness score: `[count, R, R]` in scene units.

    The frontal prior camera passes through the camera generator; densities under their median count as empty, so that
    thin fog does not pass for shape.
    """
    depth = []
    for start, end in chunks(count, batch_size):
        scenes = sample_scenes(generator, end - start, seed, start=start)
        frontal = frontal_cameras(generator.camera_config, len(scenes.z), device=scenes.z.device)
        samples = render_scenes(generator, scenes._replace(prior_cameras=frontal), resolution, cut_quantile=0.5)
        depth.append(samples.depth[:, 0].cpu().numpy())
    return np.concatenate(depth)
