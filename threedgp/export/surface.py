"""Samples of the visible surface of a scene, from depth maps of several views."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import FOV, axis_cosines, cam2world, rays
from threedgp.visual.views import Views

MIN_COSINE = 0.3
"""Pixels whose surface is seen at a smaller cosine are left out: at a step in depth, the rendered depth is a mean of
both sides, and no surface."""
TOLERANCE, MAX_CONTRADICTED = 0.03, 0.5
"""A sample is left out if more than this share of the views see through it: their depth is larger by more than this
share of the ray. Where density is thin, the rendered depth lies between surfaces."""
EMPTY_SHARE = 0.02
"""Share of the ray at its end. Rays that reach it have passed through empty space."""


class SurfaceSamples(NamedTuple):
    """N points of a surface, each from one pixel."""

    points: np.ndarray
    """float64 `[N, 3]`, scene units."""
    normals: np.ndarray
    """float64 `[N, 3]`, unit vectors that point to the camera's side."""
    colors: np.ndarray
    """uint8 `[N, 3]`, sRGB."""
    spacing: np.ndarray
    """float64 `[N]`, distance between neighboring pixels at the depth of the point, perpendicular to the view."""
    cosines: np.ndarray
    """float64 `[N]`, between normal and direction to the camera."""
    view: np.ndarray
    """int64 `[N]`, number of the view."""
    pixel: np.ndarray
    """int64 `[N, 2]`, column and row."""

    def chosen(self, index: np.ndarray) -> SurfaceSamples:
        """The samples of an index or a mask."""
        return SurfaceSamples(*(column[index] for column in self))


def surface_samples(views: Views, cameras: Tensor, bounds: tuple[float, float]) -> SurfaceSamples:
    """The surface that views of one scene from cameras `[F, 8]` show, one sample per pixel, thinned out to one per cube
    of the size of a pixel. `bounds` are the first and the last distance along a ray."""
    cameras = cameras.double().cpu()
    images, depth = views.images[0], views.depth[0].astype(np.float64)  # [F, R, R, 3], [F, R, R]
    count, size = depth.shape[:2]
    origins, directions = (x.numpy().reshape(count, size, size, 3) for x in rays(cameras, size))
    axes = cam2world(cameras)[:, :3, :3].numpy()
    normals = np.einsum("fij,fyxj->fyxi", axes, views.normals[0])
    cosines = -(normals * directions).sum(axis=-1)
    along_axis = depth * axis_cosines(cameras, size).numpy().reshape(depth.shape)
    width = 2 * torch.tan(torch.deg2rad(cameras[:, FOV]) / 2).numpy()[:, None, None]
    max_depth = bounds[1] - EMPTY_SHARE * (bounds[1] - bounds[0])
    row, column = np.mgrid[:size, :size]
    samples = SurfaceSamples(
        points=(origins + directions * depth[..., None]).reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        colors=images.reshape(-1, 3),
        spacing=(along_axis * width / (size - 1)).reshape(-1),
        cosines=cosines.reshape(-1),
        view=np.arange(count).repeat(size * size),
        pixel=np.tile(np.stack([column, row], axis=-1).reshape(-1, 2), (count, 1)),
    )
    samples = samples.chosen((samples.cosines >= MIN_COSINE) & (depth.reshape(-1) < max_depth))
    tolerance = TOLERANCE * (bounds[1] - bounds[0])
    return _thinned(samples.chosen(_contradicted(samples.points, depth, cameras, tolerance) <= MAX_CONTRADICTED))


def _contradicted(points: np.ndarray, depth: np.ndarray, cameras: Tensor, tolerance: float) -> np.ndarray:
    """Share of the views that see through each of the points `[N, 3]`, among those that it is in: their depth maps
    `[F, R, R]` have something behind it, by more than `tolerance`."""
    size = depth.shape[1]
    inside, through = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
    for pose, camera, values in zip(cam2world(cameras).numpy(), cameras, depth, strict=True):
        x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T  # right, up, backward
        reach = -z * math.tan(math.radians(camera[FOV].item()) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            column, row = (np.rint((ratio + 1) * (size - 1) / 2) for ratio in (x / reach, -y / reach))
        seen = (z < 0) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
        shown = values[row[seen].astype(np.int64), column[seen].astype(np.int64)]
        inside += seen
        through[seen] += np.linalg.norm(points[seen] - pose[:3, 3], axis=1) < shown - tolerance
    return through / np.maximum(inside, 1)


def _thinned(samples: SurfaceSamples) -> SurfaceSamples:
    """One sample of each occupied cube: the one that faces its camera most."""
    if not len(samples.points):
        return samples
    cells = np.floor(samples.points / np.median(samples.spacing)).astype(np.int64)
    by_cosine = np.argsort(-samples.cosines, kind="stable")
    _, first = np.unique(cells[by_cosine], axis=0, return_index=True)
    return samples.chosen(np.sort(by_cosine[first]))
