"""Which density is the surface: the level whose surface lies where the rendered depth says that it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from threedgp.camera.geometry import rays

Field = Callable[[Tensor], Tensor]
"""From points `[N, 3]` in scene units to values `[N]` or `[N, 3]`."""

RAYS, SAMPLES, LEVELS = 16, 96, 48
"""Rays along each side of a picture, samples along a ray, levels that are tried."""
FOG, WALL = 0.1, 10.0
"""Optical depths: thinner matter than makes up the first along a whole ray is fog in any picture; denser matter than
makes up the second between two samples is a wall, however dense."""
SOLID = 0.5
"""Share of its light that a ray must lose to count: what shines through everything has no surface."""


def surface_level(density: Field, cameras: Tensor, near: float, far: float) -> float:
    """The density whose first crossing along the rays of some cameras lies closest to the rendered depth.

    Levels from fog to wall are tried, evenly in logarithm, as far as something seen is denser; the one with the
    smallest mean distance between crossing and rendered depth wins.

    Args:
        density: of points `[N, 3]`, `[N]`.
        cameras: `[F, 8]`, on the device where `density` wants its points.
        near, far: bounds of the rays, scene units.

    Returns:
        the level; 0 where all space is empty.
    """
    origins, directions = (x.flatten(0, 1) for x in rays(cameras, RAYS))  # [F * RAYS^2, 3]
    step = (far - near) / SAMPLES
    distances = near + step * (torch.arange(SAMPLES, device=origins.device, dtype=origins.dtype) + 0.5)
    points = origins[:, None] + directions[:, None] * distances[:, None]
    sigma = torch.cat([density(part) for part in points.reshape(-1, 3).split(1 << 18)]).view(len(origins), SAMPLES)
    largest = sigma.max().item()
    if largest <= 0:
        return 0.0
    behind = torch.exp(-step * sigma.cumsum(dim=1))  # light that gets past each sample
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], dim=1)
    depth = ((before - behind) * distances).sum(dim=1) + behind[:, -1] * far
    solid = behind[:, -1] <= SOLID
    if not solid.any():
        solid = torch.ones_like(solid)
    highest = min(WALL / step, 0.95 * largest)  # the largest itself is crossed in a single point, if at all
    lowest = min(FOG / (far - near), highest / 10)
    levels = torch.logspace(math.log10(lowest), math.log10(highest), LEVELS, dtype=torch.float64)
    errors = []
    for level in levels.tolist():
        crossing = _first_crossing(sigma[solid], distances, level, far)
        errors.append((crossing - depth[solid]).abs().mean().item())
    return float(levels[min(range(len(errors)), key=errors.__getitem__)])


def _first_crossing(sigma: Tensor, distances: Tensor, level: float, far: float) -> Tensor:
    """Where rays first meet `level`, `[R]`: between samples as `level_set` interpolates; `far` where they never do.

    Args:
        sigma: `[R, S]`, at distances `[S]`.
    """
    share = sigma / (sigma + level)
    above = share > 0.5
    after = above.int().argmax(dim=1, keepdim=True)
    before = (after - 1).clamp(min=0)
    low, high = share.gather(1, before), share.gather(1, after)
    step = torch.where(after > before, (0.5 - low) / (high - low), 0.0)
    crossing = distances[before] + step * (distances[after] - distances[before])
    return torch.where(above.any(dim=1), crossing[:, 0], far)
