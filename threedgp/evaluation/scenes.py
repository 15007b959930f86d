"""Generated scenes, kept in files so that a stopped evaluation resumes, and renderings of them for single metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import FOV, ROLL, YAW, axis_cosines
from threedgp.camera.normals import depth_normals
from threedgp.camera.priors import frontal_cameras
from threedgp.data.prepare import resize_depth
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, Estimate, Rejected
from threedgp.evaluation.streams import Stream, chunks, read_column
from threedgp.features.extraction import one_thread_each
from threedgp.models.generator import Generator, RenderOptions
from threedgp.models.novel_views import outer_cameras
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.counter_rng import NumberStream
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup
from threedgp.runtime.progress import progress

CHUNK = 256
"""Scenes of one file. It does not depend on the batch size, so that a run can resume with another one."""
BYTES_PER_PIXEL = 7
"""Three of color, four of depth."""
NFS_BATCH = 4
"""Scenes whose densities have one quantile, as published; `evaluate.batch_size` does not change the score."""
VIEW_ANGLE = 0.2
"""Radians of yaw between two compared views, 11 degrees: most of one view is visible in the other."""


class StoredScenes:
    """Generated scenes in the files of a folder.

    Columns: `image` uint8 `[n, 3, R, R]`; `label` int64 `[n]`, 0 without classes; and of scenes with a density, `depth`
    float32 `[n, 1, R, R]`, along the ray in scene units; `prior` and `camera` float32 `[n, 8]`, before and after the
    camera generator.
    """

    def __init__(self, folder: Path, count: int) -> None:
        """The `count` scenes that `generate` has written to `folder`."""
        self._files, self._count = _files(folder, count), count

    def __len__(self) -> int:
        return self._count

    def column(self, name: str) -> Stream:
        """One column, a batch per file."""
        return Stream(self._count, [partial(read_column, file, name) for file in self._files])

    def whole(self, name: str) -> np.ndarray:
        """All rows of a small column: `prior`, `camera` or `label`."""
        return self.column(name).whole()

    def normals(self) -> Stream:
        """Normals of the rendered depth in the space of its camera: float32 batches `[n, 3, R, R]`."""

        def part(file: Path) -> np.ndarray:
            normals = depth_normals(read_column(file, "depth")[:, 0], read_column(file, "camera")[:, FOV])
            return np.ascontiguousarray(normals.transpose(0, 3, 1, 2), dtype=np.float32)

        return Stream(self._count, [partial(part, file) for file in self._files])

    def axis_depth(self, count: int) -> Iterator[np.ndarray]:
        """Depth along the optical axis, as estimators give it, of the first scenes: float32 batches `[n, R, R]`."""
        for depth, cameras in zip(self.column("depth").first(count), self.column("camera").first(count), strict=True):
            cosines = axis_cosines(torch.from_numpy(cameras), depth.shape[-1]).numpy()
            yield depth[:, 0] * cosines.reshape(depth[:, 0].shape)


def _files(folder: Path, count: int) -> list[Path]:
    return [folder / f"{start:08d}.npz" for start, _ in chunks(count, CHUNK)]


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
    group: ProcessGroup = SINGLE_PROCESS,
) -> StoredScenes:
    """Generate scenes as in training: classes with the frequencies of the data, prior and posterior cameras.

    Args:
        generator: on its device, in evaluation mode.
        count: number of scenes.
        seed: scene i is a function of seed and i alone.
        resolution: R, pixels along each side.
        batch_size: scenes per batch; bounds memory.
        folder: of the files; those that an earlier run finished are kept.
        label: of the progress bar.
        workers: threads that make a batch each, which is faster on a CPU than one batch on all cores. The result does
            not depend on it.
        group: processes that share the work; all files exist once each of them has returned.

    Raises:
        UserError: too little disk space.
    """
    mine = list(zip(_files(folder, count), chunks(count, CHUNK), strict=True))[group.rank :: group.size]
    missing = [(file, piece) for file, piece in mine if not file.is_file()]
    total, left = (sum(end - start for _, (start, end) in pieces) for pieces in (mine, missing))
    require_free(folder, left * resolution**2 * BYTES_PER_PIXEL)

    def render(piece: tuple[int, int]) -> dict[str, np.ndarray]:
        start, end = piece
        scenes = sample_scenes(generator, end - start, seed, start=start)
        samples = render_scenes(generator, scenes, resolution)
        labels = torch.zeros(len(scenes.z), dtype=torch.int64) if scenes.labels is None else scenes.labels
        columns = {"image": samples.images, "label": labels}
        if generator.has_density:
            columns |= {"depth": samples.depth, "prior": scenes.prior_cameras, "camera": samples.cameras}
        return {name: column.cpu().numpy() for name, column in columns.items()}

    with progress(label, total, "scenes", total - left, visible=group.is_main) as bar, one_thread_each():
        for file, (start, end) in missing:
            parts = []
            batches = [(start + low, start + high) for low, high in chunks(end - start, batch_size)]
            for batch in ordered_map(render, batches, workers):
                parts.append(batch)
                bar.advance(len(batch["image"]))
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            with atomic_path(file) as temporary:
                np.savez(temporary, **columns)
    return StoredScenes(folder, count)


def frontal_depth(
    generator: Generator, count: int, seed: int, resolution: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Depth maps of frontal views: batches `[n, R, R]` in scene units.

    The frontal prior camera passes through the camera generator. Densities below their median count as empty, so that
    thin fog does not pass for shape (Skorokhodov et al. 2023 (3DGP), sec. 4).
    """
    for start, end in chunks(count, batch_size):
        scenes = sample_scenes(generator, end - start, seed, start=start)
        frontal = frontal_cameras(generator.camera_config, len(scenes.z), device=scenes.z.device)
        scenes = scenes._replace(prior_cameras=frontal)
        samples = render_scenes(generator, scenes, resolution, RenderOptions(cut_quantile=0.5))
        yield samples.depth[:, 0].cpu().numpy()


def nfs_depth(generator: Generator, count: int, seed: int, resolution: int) -> Iterator[np.ndarray]:
    """Depth maps of the published non-flatness score: batches `[n, R, R]` in scene units.

    Prior cameras with frontal angles, but random fields of view and look-at points, pass through the camera generator.
    Rays are jittered, and densities below their median over a batch of four scenes count as empty.
    """
    for start, end in chunks(count, NFS_BATCH):
        scenes = sample_scenes(generator, end - start, seed, start=start)
        scenes.prior_cameras[:, YAW : ROLL + 1] = scenes.prior_cameras.new_tensor([0, math.pi / 2, 0])
        jitter = NumberStream(seed, "nfs", torch.arange(start, end, device=generator.device), generator.dtype)
        options = RenderOptions(cut_quantile=0.5, cut_batch=True, random=jitter)
        samples = render_scenes(generator, scenes, resolution, options)
        yield samples.depth[:, 0].cpu().numpy()


@torch.inference_mode()
def view_pairs(
    generator: Generator, count: int, seed: int, resolution: int, batch_size: int, *, outer: bool = False
) -> Iterator[tuple[Tensor, ...]]:
    """Two views of each scene: its posterior camera, and the same turned alternately to the left and to the right; or
    one from outside of the prior, and one from its edge.

    Args:
        generator: in evaluation mode.
        count: number of scenes; scene i is that of `generate` with the same seed.
        seed: of the scenes.
        resolution: R.
        batch_size: scenes per batch.
        outer: whether the cameras are those of `outer_cameras`, the one outside of the prior first.

    Yields:
        colors `[B, 3, R, R]` in [-1, 1], depth `[B, 1, R, R]` and camera `[B, 8]` of the first and the second view.
    """
    with progress("evaluate: views", count, unit="scenes") as bar:
        for start, end in chunks(count, batch_size):
            scenes = sample_scenes(generator, end - start, seed, start=start)
            first = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
            if outer:
                second, first = outer_cameras(generator.camera_config, first, first.new_full((len(first),), 0.5))
            else:
                second = first.clone()
                second[:, YAW] += VIEW_ANGLE * (1 - 2 * (torch.arange(start, end, device=first.device) % 2))
            content = generator.make_content(generator.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras))
            views = [generator.render(content, cameras, resolution) for cameras in (first, second)]
            yield views[0].rgb, views[0].depth, first, views[1].rgb, views[1].depth, second
            bar.advance(end - start)


def estimated_depth(images: Stream, count: int, estimator: DepthEstimator, label: str) -> Iterator[np.ndarray]:
    """Depth that an estimator finds in the first images: float32 batches `[n, R, R]`, flat where it finds none.

    Args:
        images: uint8 batches `[n, 3, R, R]`.
        count: number of images.
        estimator: one that looks at pixels.
        label: of the progress bar.
    """
    first = 0
    with progress(label, min(count, len(images))) as bar:
        for batch in images.first(count):
            yield estimated_maps(estimator, batch, first)
            first += len(batch)
            bar.advance(len(batch))


def estimated_maps(estimator: DepthEstimator, images: np.ndarray, first: int = 0) -> np.ndarray:
    """Depth of images uint8 `[n, 3, R, R]`, the first of which has number `first`: float32 `[n, R, R]`, flat where the
    estimator finds none."""
    raw = [
        RawPicture(id=f"{first + number:08d}", label=0, rgb=np.ascontiguousarray(image.transpose(1, 2, 0)))
        for number, image in enumerate(images)
    ]
    return np.stack([_usable(found, images.shape[-1]) for found in estimator.estimate(raw)])


def _usable(found: Estimate | Rejected, resolution: int) -> np.ndarray:
    """The map at the images' resolution; a flat one where there is none."""
    if isinstance(found, Rejected) or not found.depth.size or not np.isfinite(found.depth).all():
        return np.zeros((resolution, resolution), np.float32)
    return resize_depth(found.depth, resolution)
