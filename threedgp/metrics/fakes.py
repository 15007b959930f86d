"""Pictures, depth maps and cameras that a generator makes, kept in files so that a stopped evaluation goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from threedgp.atomic import atomic_path
from threedgp.camera.priors import frontal_cameras
from threedgp.metrics.streams import Stream
from threedgp.models.generator import Generator
from threedgp.models.scenes import sample_scenes
from threedgp.progress import progress

CHUNK = 256
"""Scenes of one file. The same for every batch size, so that a run may continue with another one."""


class Fakes:
    """Generated scenes in the files of a folder.

    Columns: `image` uint8 `[n, 3, R, R]`; `depth` float32 `[n, 1, R, R]`, along the ray in scene units; `prior`
    and `camera` float32 `[n, 8]`, before and after the camera generator.
    """

    def __init__(self, files: list[Path], count: int) -> None:
        self._files, self._count = files, count

    def column(self, name: str) -> Stream:
        """One column, a batch for each file."""

        def batches() -> Iterator[np.ndarray]:
            for file in self._files:
                with np.load(file) as columns:
                    yield columns[name]

        return Stream(self._count, batches)

    def cameras(self, name: str) -> np.ndarray:
        """All rows of `prior` or `camera`."""
        return np.concatenate(list(self.column(name)))


def generate(
    generator: Generator, count: int, seed: int, resolution: int, *, batch_size: int, folder: Path, label: str
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
    """
    starts = range(0, count, CHUNK)
    files = {start: folder / f"{start:08d}.npz" for start in starts}
    missing = [start for start in starts if not files[start].is_file()]
    left = sum(min(CHUNK, count - start) for start in missing)
    with progress(label, count, unit="scenes", done=count - left) as bar:
        for start in missing:
            parts = []
            end = min(start + CHUNK, count)
            for first in range(start, end, batch_size):
                parts.append(_batch(generator, min(batch_size, end - first), seed, first, resolution))
                bar.advance(len(parts[-1]["image"]))
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            with atomic_path(files[start]) as temporary:
                np.savez(temporary, **columns)
    return Fakes(list(files.values()), count)


@torch.inference_mode()
def _batch(generator: Generator, count: int, seed: int, start: int, resolution: int) -> dict[str, np.ndarray]:
    scenes = sample_scenes(generator, count, seed, start=start)
    cameras = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    planes = generator.make_planes(generator.map(scenes.z, scenes.labels))
    seen = generator.render(planes, cameras, resolution)
    return {
        "image": (seen.rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy(),
        "depth": seen.depth.cpu().numpy(),
        "prior": scenes.prior_cameras.cpu().numpy(),
        "camera": cameras.cpu().numpy(),
    }


@torch.inference_mode()
def frontal_depth(generator: Generator, count: int, seed: int, resolution: int, batch_size: int) -> np.ndarray:
    """Depth maps for the non-flatness score: `[count, R, R]` in scene units.

    The frontal prior camera passes through the camera generator; densities under their median count as empty, so that
    thin fog does not pass for shape.
    """
    depth = []
    for start in range(0, count, batch_size):
        scenes = sample_scenes(generator, min(batch_size, count - start), seed, start=start)
        frontal = frontal_cameras(generator.camera_config, len(scenes.z), device=scenes.z.device)
        cameras = generator.posterior(frontal, scenes.z, scenes.labels)
        planes = generator.make_planes(generator.map(scenes.z, scenes.labels))
        depth.append(generator.render(planes, cameras, resolution, cut_quantile=0.5).depth[:, 0].cpu().numpy())
    return np.concatenate(depth)
