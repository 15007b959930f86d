"""Meshes of scenes: the surface where density crosses a level, with vertex colors.

A mesh keeps the units and the axes of the scene: right-handed, +y up, the frontal camera on +z. This is the convention
of glTF, where one scene unit is one meter. See docs/conventions.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from threedgp.camera.geometry import FOV, cam2world
from threedgp.models.generator import Content, Generator
from threedgp.runtime.atomic import write_bytes
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import Progress
from threedgp.visual.surfaces import Field, evaluate, level_set, surface_level

FORMATS = ("glb", "ply", "obj")
CAMERAS = 16
"""Cameras around a scene; a mesh shows what they see."""
LEVEL_STRIDE = 4
"""Every fourth camera is enough to choose the level of the surface."""


class NoSurface(UserError):
    """A scene has no surface, and so no mesh."""


def seen_points(cameras: Tensor, points: Tensor, near: float, far: float) -> Tensor:
    """Whether at least one of the cameras `[F, 8]` sees a point between `near` and `far`, and none has it in front of
    `near`: bool `[N]` for points `[N, 3]`.

    The rest of space was never seen in training. Matter in front of a camera's `near` is in none of its images; in a
    mesh it would stand between that camera and the object.
    """
    pose = cam2world(cameras)
    world2cam = pose[:, :3, :3].transpose(1, 2)  # [F, 3, 3]
    shift = -world2cam @ pose[:, :3, 3:]
    # One product for all cameras, axis by axis, since a mesh needs this for every point of its grid.
    x, y, z = (torch.addmm(shift[:, axis], world2cam[:, axis], points.t()) for axis in range(3))  # each [F, N]
    squared = x.square() + y.square() + z.square()
    reach = -z * torch.tan(torch.deg2rad(cameras[:, FOV, None]) / 2)
    inside = torch.maximum(x.abs_(), y.abs_()) <= reach
    seen = inside & (squared >= near**2) & (squared <= far**2)
    return seen.any(dim=0) & ~(inside & (squared < near**2)).any(dim=0)


def extract_mesh(
    density: Field, color: Field, half_width: float, resolution: int, level: float, bar: Progress, device: str = "cpu"
) -> trimesh.Trimesh:
    """The watertight surface of a density field in the cube [-half_width, half_width]^3, closed at the cube's sides.
    Arguments as in `level_set`; `color` maps vertices `[N, 3]` to `[N, 3]` in about [-1, 1]. Raises NoSurface if the
    density is below `level` everywhere."""
    vertices, faces = level_set(density, half_width, resolution, level, bar, device)
    if not len(faces):
        raise NoSurface(
            f"nothing in the scene is as dense as level {level:.4g} at any of the {resolution} grid points a side, so "
            "it has no surface; lower the level or use more grid points."
        )
    colors = evaluate(color, torch.as_tensor(vertices, dtype=torch.float32, device=device))
    colors = (colors * 127.5 + 127.5).round().clip(0, 255).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)


@torch.inference_mode()
def scene_mesh(
    generator: Generator,
    content: Content,
    cameras: Tensor,
    resolution: int,
    bar: Progress,
    *,
    level: float | None = None,
    whole_cube: bool = False,
) -> trimesh.Trimesh:
    """The mesh of a scene, given its content.

    Args:
        cameras: `[F, 8]`; the level is chosen by what they see, and what no camera sees is left out.
        resolution: grid points along each side of the cube; `bar` advances by one for each plane of them.
        level: density of the surface; None = `surface_level`.
        whole_cube: keep what no camera sees.

    Raises:
        NoSurface: the density is below the level everywhere, or the scene is empty.
    """
    camera, cameras = generator.camera_config, cameras.to(generator.device)
    near, far, half_width = camera.ray_start, camera.ray_end, generator.model_config.generator.cube_half_width

    def everywhere(points: Tensor) -> Tensor:
        return generator.density(content, points[None])[0]

    def density(points: Tensor) -> Tensor:
        seen = seen_points(cameras, points, near, far)
        values = torch.zeros(len(points), dtype=points.dtype, device=points.device)
        if seen.any():
            values[seen] = everywhere(points[seen])
        return values

    def color(points: Tensor) -> Tensor:
        return generator.color(content, points[None])[0]

    if level is None:
        level = surface_level(everywhere, cameras[::LEVEL_STRIDE], near, far)
        if level == 0:
            bar.advance(resolution)
            raise NoSurface("the scene is empty, so it has no surface.")
    chosen = everywhere if whole_cube else density
    return extract_mesh(chosen, color, half_width, resolution, level, bar, device=str(generator.device))


def write_mesh(target: Path, mesh: trimesh.Trimesh) -> None:
    """Write a mesh in the format of the suffix of `target` (.glb, .ply or .obj), atomically."""
    if target.suffix == ".glb":
        colors, mesh = linear_colors(mesh.visual.vertex_colors), mesh.copy()
        # The default material of glTF is metal.
        material = trimesh.visual.material.PBRMaterial(metallicFactor=0.0, roughnessFactor=1.0)
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        mesh.visual.vertex_attributes["color"] = colors
    data = mesh.export(file_type=target.suffix[1:])
    write_bytes(target, data.encode() if isinstance(data, str) else data)


def linear_colors(colors: np.ndarray) -> np.ndarray:
    """uint8 colors `[N, 4]`, converted from sRGB to linear light, which glTF expects (IEC 61966-2-1)."""
    encoded = colors[:, :3] / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.concatenate([(linear * 255).round().astype(np.uint8), colors[:, 3:]], axis=1)
