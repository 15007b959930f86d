"""Rendered views with their cameras, as nerfstudio (``transforms.json``) and COLMAP read them.

Both place the center of the first pixel at (0.5, 0.5), so that the principal point is the middle of the image. Poses
are in scene units; the world axes stay ours (+y up).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from threedgp.camera.geometry import FOV, axis_cosines, cam2world
from threedgp.export.ply import write_points
from threedgp.export.surface import SurfaceSamples
from threedgp.runtime.atomic import write_bytes, write_json
from threedgp.visual.grids import write_png
from threedgp.visual.views import Views

TO_OPENCV = np.diag([1.0, -1.0, -1.0])
"""From camera axes (right, up, backward) to those of OpenCV and COLMAP (right, down, forward)."""
DEPTH_UNIT = 1e-3
"""Scene units per step of a depth PNG; nerfstudio's default of `depth_unit_scale_factor`."""


def focal_length(fov: float, size: int) -> float:
    """Focal length in pixels of an image with `size` pixels a side. The field of view ends at the centers of the
    outermost pixels."""
    return (size - 1) / 2 / math.tan(math.radians(fov) / 2)


def _write_images(folder: Path, views: Views) -> list[str]:
    """Write the views of one scene; their names relative to `folder`."""
    names = [f"images/{index:04d}.png" for index in range(views.images.shape[1])]
    for name, image in zip(names, views.images[0], strict=True):
        write_png(folder / name, image)
    return names


def write_transforms(folder: Path, views: Views, cameras: Tensor, samples: SurfaceSamples) -> None:
    """Write the views of one scene from cameras `[F, 8]` with `transforms.json`, which nerfstudio trains on, depth
    along the optical axis, and the samples as points for its initialization."""
    size = views.images.shape[2]
    cosines = axis_cosines(cameras.double().cpu(), size).numpy().reshape(views.depth[0].shape)
    frames: list[dict[str, Any]] = []
    poses = cam2world(cameras.double().cpu()).tolist()
    for name, pose, camera, depth in zip(
        _write_images(folder, views), poses, cameras.tolist(), views.depth[0] * cosines, strict=True
    ):
        depth_name = name.replace("images", "depth")
        levels = (depth / DEPTH_UNIT).round().clip(0, 65535).astype(np.uint16)
        write_bytes(folder / depth_name, cv2.imencode(".png", levels)[1].tobytes())
        focal = focal_length(camera[FOV], size)
        frame = {"file_path": name, "depth_file_path": depth_name, "fl_x": focal, "fl_y": focal}
        frames.append(frame | {"transform_matrix": pose})
    write_points(folder / "points.ply", samples)
    about = {"camera_model": "PINHOLE", "w": size, "h": size, "cx": size / 2, "cy": size / 2}
    write_json(folder / "transforms.json", about | {"ply_file_path": "points.ply", "frames": frames})


def write_colmap(folder: Path, views: Views, cameras: Tensor, samples: SurfaceSamples) -> None:
    """Write the views of one scene from cameras `[F, 8]` with a model in COLMAP's text format in `sparse/0`: one camera
    per image, and the samples as points."""
    size = views.images.shape[2]
    poses = cam2world(cameras.double().cpu()).numpy()
    rotations = TO_OPENCV @ poses[:, :3, :3].transpose(0, 2, 1)  # world to camera
    shifts = -(rotations @ poses[:, :3, 3:])[..., 0]
    quaternions = Rotation.from_matrix(rotations).as_quat()[:, [3, 0, 1, 2]]
    point_ids = np.arange(1, len(samples.points) + 1)
    camera_lines, image_lines, slots = [], [], np.zeros(len(point_ids), np.int64)
    for index, (camera, name) in enumerate(zip(cameras.tolist(), _write_images(folder, views), strict=True)):
        focal = focal_length(camera[FOV], size)
        camera_lines.append(f"{index + 1} PINHOLE {size} {size} {focal!r} {focal!r} {size / 2} {size / 2}")
        pose = " ".join(f"{value:.17g}" for value in (*quaternions[index], *shifts[index]))
        inside = np.flatnonzero(samples.view == index)
        slots[inside] = np.arange(len(inside))
        seen = zip((samples.pixel[inside] + 0.5).tolist(), point_ids[inside].tolist(), strict=True)
        image_lines.append(f"{index + 1} {pose} {index + 1} {name.removeprefix('images/')}")
        image_lines.append(" ".join(f"{x} {y} {number}" for (x, y), number in seen))
    point_lines = [
        f"{number} {x:.9g} {y:.9g} {z:.9g} {r} {g} {b} 0 {view + 1} {slot}"
        for number, (x, y, z), (r, g, b), view, slot in zip(
            point_ids.tolist(), samples.points.tolist(), samples.colors.tolist(), samples.view.tolist(), slots.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    place = folder / "sparse" / "0"
    for name, lines in (("points3D", point_lines), ("images", image_lines), ("cameras", camera_lines)):
        write_bytes(place / f"{name}.txt", "".join(f"{line}\n" for line in lines).encode())
