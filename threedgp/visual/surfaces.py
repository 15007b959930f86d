"""Marching cubes over fields that are evaluated slab by slab, so that memory grows with the surface, not the volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

from threedgp.runtime.progress import Progress
from threedgp.visual.levels import Field

POINTS_AT_ONCE = 1 << 18
SLAB_POINTS = 1 << 24
"""Values in memory at once; 64 MB."""
OVERHANG = 1 / 32
"""Of a grid step. What crosses the level beyond the outermost grid points lies on the sides of the cube, and so far
out at most: all the way on the sides, vertices would fall together at the cube's edges."""
MARGIN = 2.0**-12
"""A grid value on the very level would put several vertices into one point, and leave triangles without area; it is
moved off, by so much of the range of values that the vertices differ in float32."""


class Surface(NamedTuple):
    """Triangles between shared vertices."""

    vertices: np.ndarray
    """float64 `[V, 3]`, scene units."""
    faces: np.ndarray
    """int64 `[F, 3]`, counter-clockwise as seen from outside."""


def evaluate(field: Field, points: Tensor) -> np.ndarray:
    """Values of a field at points `[N, 3]`, in pieces."""
    return np.concatenate([field(part).float().cpu().numpy() for part in points.split(POINTS_AT_ONCE)])


def slabs_of(resolution: int) -> list[tuple[int, int]]:
    """First and last plane of each slab of the padded grid; neighbors share a plane."""
    planes, thickness = resolution + 2, max(SLAB_POINTS // (resolution + 2) ** 2, 2)
    return [(start, min(start + thickness, planes - 1)) for start in range(0, planes - 1, thickness)]


def level_set(
    density: Field, half_width: float, resolution: int, level: float, bar: Progress, device: str = "cpu"
) -> Surface:
    """The surface where a density crosses `level` in the cube [-half_width, half_width]^3, closed at the cube's sides.

    Vertices are interpolated in `density / (density + level)`, which treats many times and a fraction of the level
    alike: densities span decades, and a straight line between them would put every vertex beside the thin end.

    Args:
        density: of points `[N, 3]`, `[N]`, not negative.
        half_width: of the cube, scene units.
        resolution: grid points along each side, at least 2.
        level: above 0.
        bar: advances by one for each of `slabs_of`.
        device: where the field wants its points.
    """
    vertices, faces, count = [], [], 0
    shared: dict[tuple[float, float], int] = {}  # vertices of the last plane, by their place in it
    last: np.ndarray | None = None
    for first, final in slabs_of(resolution):
        part = _slab(density, half_width, resolution, level, (first, final), last, device)
        last = part[-1].copy()
        local, triangles = _march(part)
        numbers = np.arange(count, count + len(local))
        fresh = np.ones(len(local), bool)
        for index in np.flatnonzero(local[:, 0] == 0) if first else ():
            numbers[index], fresh[index] = shared[local[index, 1], local[index, 2]], False
        numbers[fresh] = np.arange(count, count + fresh.sum())
        shared = {
            (local[index, 1], local[index, 2]): numbers[index] for index in np.flatnonzero(local[:, 0] == final - first)
        }
        vertices.append(local[fresh] + (first, 0.0, 0.0))
        faces.append(numbers[triangles])
        count += int(fresh.sum())
        bar.advance()
    steps = np.concatenate(vertices) - 1
    inside = steps.clip(0, resolution - 1)
    steps = inside + (steps - inside) * OVERHANG
    return Surface(steps * (2 * half_width / (resolution - 1)) - half_width, np.concatenate(faces))


def _slab(
    density: Field,
    half_width: float,
    resolution: int,
    level: float,
    bounds: tuple[int, int],
    known: np.ndarray | None,
    device: str,
) -> np.ndarray:
    """Planes of the grid from the first to the last of `bounds`, as shares in [0, 1] with the level at 1/2.

    A border of empty space, the outermost planes, closes the surface at the sides of the cube. `known` is the first
    plane, where the slab before had it as its last.
    """
    planes = resolution + 2
    values = np.zeros((bounds[1] - bounds[0] + 1, planes, planes), np.float32)
    line = torch.linspace(-half_width, half_width, resolution, device=device)
    y, z = torch.meshgrid(line, line, indexing="ij")
    for plane in range(bounds[0], bounds[1] + 1):
        if plane == bounds[0] and known is not None:
            values[0] = known
        elif 0 < plane < planes - 1:
            points = torch.stack([line[plane - 1].expand_as(y), y, z], dim=-1).reshape(-1, 3)
            # Double precision, for in float32 a tiny level would be 0 and a huge one infinite.
            sigma = evaluate(density, points).reshape(resolution, resolution).astype(np.float64)
            share = sigma / (sigma + level)
            share[np.abs(share - 0.5) < MARGIN] = 0.5 + MARGIN
            values[plane - bounds[0], 1:-1, 1:-1] = share
    return values


def _march(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 `[V, 3]` in grid steps, and faces; none where nothing crosses the level."""
    if not values.min() < 0.5 < values.max():
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = marching_cubes(values, 0.5)
    # scikit-image winds faces so that normals point to larger values; those of a surface point out of the solid.
    return vertices.astype(np.float64), faces[:, ::-1].astype(np.int64)
