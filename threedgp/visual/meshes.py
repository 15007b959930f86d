"""Meshes of scenes: the surface where density crosses a level, with vertex colours.

A mesh keeps the units and the axes of the scene: right-handed, +y up (as glTF has it), the frontal camera on +z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from threedgp.atomic import write_bytes
from threedgp.camera.geometry import FOV, cam2world
from threedgp.models.generator import Generator

POINTS_AT_ONCE = 1 << 18

Field = Callable[[Tensor], Tensor]
"""From points `[N, 3]` in scene units to values `[N]` or `[N, 3]`."""


def opaque_density(half_width: float) -> float:
    """The default level: a sixteenth of the cube at this density absorbs half of the light (11 for a unit cube)."""
    return math.log(2) / (2 * half_width / 16)


def seen_points(cameras: Tensor, points: Tensor, near: float, far: float) -> Tensor:
    """Which of the points `[N, 3]` at least one of the cameras `[F, 8]` sees between `near` and `far`: bool `[N]`.

    Nothing ever told the model what the rest of space looks like.
    """
    seen = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for camera, pose in zip(cameras, cam2world(cameras), strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        distance = local.norm(dim=1)
        reach = torch.tan(torch.deg2rad(camera[FOV]) / 2) * -local[:, 2]
        seen |= (local[:, :2].abs().amax(dim=1) <= reach) & (near <= distance) & (distance <= far)
    return seen


def _evaluate(field: Field, points: Tensor) -> np.ndarray:
    return np.concatenate([field(part).float().cpu().numpy() for part in points.split(POINTS_AT_ONCE)])


def extract_mesh(
    density: Field, color: Field, half_width: float, resolution: int, level: float | None = None, device: str = "cpu"
) -> trimesh.Trimesh:
    """The surface of a density field in the cube [-half_width, half_width]^3, closed at the cube's sides.

    Args:
        density: of points `[N, 3]`, `[N]`.
        color: of points `[N, 3]`, `[N, 3]` about [-1, 1].
        half_width: of the cube, scene units.
        resolution: grid points along each side.
        level: density of the surface; None = `opaque_density`, or half of the largest density where nothing is opaque.
        device: where the fields want their points.
    """
    line = torch.linspace(-half_width, half_width, resolution, device=device)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).reshape(-1, 3)
    values = _evaluate(density, points).reshape(resolution, resolution, resolution)
    if level is None:
        level = min(opaque_density(half_width), float(values.max()) / 2)
    spacing = 2 * half_width / (resolution - 1)
    # A border of empty space closes the surface; what crosses the level there lies on the sides of the cube.
    vertices, faces, _, _ = marching_cubes(np.pad(values, 1), level, spacing=(spacing,) * 3)
    vertices = (vertices - half_width - spacing).clip(-half_width, half_width)
    colors = _evaluate(color, torch.as_tensor(vertices, dtype=torch.float32, device=device))
    colors = (colors * 127.5 + 127.5).round().clip(0, 255).astype(np.uint8)
    # scikit-image winds faces so that normals point to larger values; those of a surface point out of the solid.
    return trimesh.Trimesh(vertices, faces[:, ::-1], vertex_colors=colors, process=False)


@torch.inference_mode()
def scene_mesh(generator: Generator, planes: Tensor, cameras: Tensor, resolution: int) -> trimesh.Trimesh:
    """Mesh of what some cameras see of a scene.

    Args:
        generator: in evaluation mode.
        planes: of one scene, `[1, 3, H, W, C]`.
        cameras: `[F, 8]`.
        resolution: grid points along each side of the cube.
    """
    bounds, cameras = generator.ray_settings, cameras.to(planes.device)

    def density(points: Tensor) -> Tensor:
        seen = seen_points(cameras, points, bounds.near, bounds.far)
        return generator.density(planes, points[None])[0] * seen

    def color(points: Tensor) -> Tensor:
        return generator.color(planes, points[None])[0]

    return extract_mesh(density, color, bounds.half_width, resolution, device=str(planes.device))


def write_mesh(target: Path, mesh: trimesh.Trimesh) -> None:
    """Write as the suffix of `target` says (.glb or .ply), all or nothing."""
    write_bytes(target, mesh.export(file_type=target.suffix[1:]))
