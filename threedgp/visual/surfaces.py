"""Surfaces of density fields: which density is the surface, and marching cubes at this density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

from threedgp.camera.geometry import rays
from threedgp.runtime.progress import Progress

Field = Callable[[Tensor], Tensor]
"""From points `[N, 3]` in scene units to values `[N]` or `[N, 3]`."""

NUM_RAYS, NUM_SAMPLES, NUM_LEVELS = 16, 96, 48
"""For the choice of the level: rays along each side of an image, samples along a ray, levels that are tried."""
MIN_DEPTH_OF_LEVEL, MAX_DEPTH_OF_LEVEL = 0.1, 10.0
"""Optical depths. A level below the first along the whole ray is fog in any image; a level above the second between two
samples is opaque."""
MAX_TRANSMITTANCE = 0.5
"""Rays that keep more of their light do not count, since they cross no surface."""
MAX_POINTS = 1 << 18
"""Points that a field evaluates at once."""
OVERHANG = 1 / 32
"""Grid steps. A surface that leaves the cube is closed at most this far outside of it; on the sides of the cube itself,
vertices would coincide at the edges."""
MARGIN = 2.0**-12
"""Minimum distance of a grid value from the level, as a share of the range of values. A grid value at the level would
put several vertices into one point and leave triangles without area."""


def surface_level(density: Field, cameras: Tensor, near: float, far: float) -> float:
    """The density whose first crossing along rays agrees best with the rendered depth; 0 if all space is empty.

    Levels are tried at equal steps of their logarithm, from `MIN_DEPTH_OF_LEVEL` to `MAX_DEPTH_OF_LEVEL`. The level
    with the smallest mean distance between first crossing and rendered depth is returned. Cameras `[F, 8]` are on the
    device of `density`; `near` and `far` are in scene units.
    """
    origins, directions = (x.flatten(0, 1) for x in rays(cameras, NUM_RAYS))  # [F * NUM_RAYS^2, 3]
    step = (far - near) / NUM_SAMPLES
    distances = near + step * (torch.arange(NUM_SAMPLES, device=origins.device, dtype=origins.dtype) + 0.5)
    points = origins[:, None] + directions[:, None] * distances[:, None]
    sigma = torch.cat([density(part) for part in points.reshape(-1, 3).split(MAX_POINTS)]).view(points.shape[:2])
    max_sigma = sigma.max().item()
    if max_sigma <= 0:
        return 0.0
    behind = torch.exp(-step * sigma.cumsum(dim=1))  # transmittance behind each sample
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], dim=1)
    depth = ((before - behind) * distances).sum(dim=1) + behind[:, -1] * far
    solid = behind[:, -1] <= MAX_TRANSMITTANCE
    if not solid.any():
        solid = torch.ones_like(solid)
    max_level = min(MAX_DEPTH_OF_LEVEL / step, 0.95 * max_sigma)  # max_sigma is crossed in one point at most
    min_level = min(MIN_DEPTH_OF_LEVEL / (far - near), max_level / 10)
    levels = torch.logspace(math.log10(min_level), math.log10(max_level), NUM_LEVELS, dtype=torch.float64)

    def error(level: float) -> float:
        return (_first_crossing(sigma[solid], distances, level, far) - depth[solid]).abs().mean().item()

    return min(levels.tolist(), key=error)


def _first_crossing(sigma: Tensor, distances: Tensor, level: float, far: float) -> Tensor:
    """Distances `[R]` at which rays first cross `level`, interpolated as in `level_set`; `far` if they never do.
    `sigma` is `[R, S]`, at distances `[S]`."""
    share = sigma / (sigma + level)
    above = share > 0.5
    after = above.int().argmax(dim=1, keepdim=True)
    before = (after - 1).clamp(min=0)
    low, high = share.gather(1, before), share.gather(1, after)
    step = torch.where(after > before, (0.5 - low) / (high - low), 0.0)
    crossing = distances[before] + step * (distances[after] - distances[before])
    return torch.where(above.any(dim=1), crossing[:, 0], far)


def evaluate(field: Field, points: Tensor) -> np.ndarray:
    """Values of a field at points `[N, 3]`, evaluated in parts."""
    return np.concatenate([field(part).float().cpu().numpy() for part in points.split(MAX_POINTS)])


def level_set(
    density: Field, half_width: float, resolution: int, level: float, bar: Progress, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The surface where a density crosses `level` > 0 in the cube [-half_width, half_width]^3, closed at the cube's
    sides.

    Vertices are interpolated in `density / (density + level)`: densities span decades, and linear interpolation would
    put every vertex next to the thin end of its edge. The density, not negative, is evaluated at `resolution` grid
    points (at least 2) along each side, on `device`; `bar` advances by one for each plane of them.

    Returns:
        vertices, float64 `[V, 3]` in scene units, and faces, int64 `[F, 3]`, counter-clockwise as seen from outside.
    """
    values = np.zeros((resolution + 2,) * 3, np.float32)  # the border is empty, which closes the surface
    line = torch.linspace(-half_width, half_width, resolution, device=device)
    y, z = torch.meshgrid(line, line, indexing="ij")
    for x, plane in zip(line, values[1:-1, 1:-1, 1:-1], strict=True):
        points = torch.stack([x.expand_as(y), y, z], dim=-1).reshape(-1, 3)
        # In float32 a tiny level would be 0 and a huge one infinite.
        sigma = evaluate(density, points).reshape(resolution, resolution).astype(np.float64)
        share = sigma / (sigma + level)
        share[np.abs(share - 0.5) < MARGIN] = 0.5 + MARGIN
        plane[:] = share
        bar.advance()
    if values.max() < 0.5:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = marching_cubes(values, 0.5)
    steps = vertices.astype(np.float64) - 1
    inside = steps.clip(0, resolution - 1)
    steps = inside + (steps - inside) * OVERHANG
    # scikit-image winds faces so that normals point to larger values; here they point out of the solid.
    return steps * (2 * half_width / (resolution - 1)) - half_width, faces[:, ::-1].astype(np.int64)
