"""Images on their depth as layered scenes, seen from other cameras: "StyleGAN-XL + 3DPhoto" of 3DGP, table 1.

The front layer is the image on its depth. The back layer continues the background behind the edges of near objects, so
that a moving camera uncovers filled-in background (Shih et al. 2020, section 3, without its networks). Both layers are
height fields over the source image. A ray is followed in small steps until it hits one of them, which needs no
rasterizer.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from threedgp.camera.geometry import axis_cosines, project, rays

EDGE = 0.08
"""Minimum difference of depth across the edge of an object, as a fraction of the depth range."""
REACH = 0.08
"""Width of the filled-in background behind an edge, as a fraction of the image's side."""
INPAINTING_RADIUS = 3
STEPS = 128
"""Steps along a ray."""
THICKNESS = 1.5 * EDGE
"""Thickness of the front layer, as a fraction of the depth range. A thinner one has holes between the pixels of a
slope."""
BEYOND = 0.2
"""Rays are followed beyond both ends of the depth range by this fraction of it, since a turned camera sees depth at
other distances."""
RAY_CHUNK = 1 << 15
"""Rays at once, which limits memory."""


class Layers(NamedTuple):
    """A layered image."""

    color: Tensor
    """`[2, 3, R, R]`, front and back layer, 0 to 255."""
    depth: Tensor
    """`[2, R, R]`, distance along the optical axis of the source camera, in scene units."""
    camera: Tensor
    """`[8]`, the source camera."""
    near: float
    far: float


def split_layers(
    image: NDArray[np.uint8], depth: NDArray[np.float32], camera: Tensor, near: float, far: float
) -> Layers:
    """Layers of an image `[R, R, 3]` with depth `[R, R]` of any unit, larger = farther; a flat map gives a plane.

    Args:
        camera: `[8]`, from which the image is taken to be seen.
        near, far: distances along the optical axis that the nearest and the farthest pixel get.
    """
    low, high = float(depth.min()), float(depth.max())
    unit = ((depth - low) / (high - low) if high > low else np.full_like(depth, 0.5)).astype(np.float32)
    # The pixels on an edge have colors of both sides. They belong to the object, and move with it.
    nearest = cv2.erode(unit, np.ones((3, 3), np.uint8))
    unit = np.where(unit - nearest > EDGE, nearest, unit)
    reach = max(round(REACH * len(image)), 1)
    hidden = _near_sides(unit, reach)
    # The sources of the filling are twice as far from an edge on its near side. So every hidden pixel is closer to the
    # background than to what is left of the object.
    unknown = _near_sides(unit, 2 * reach).astype(np.uint8)
    back_color = np.where(hidden[..., None], cv2.inpaint(image, unknown, INPAINTING_RADIUS, cv2.INPAINT_TELEA), image)
    filled = cv2.inpaint(unit, unknown, INPAINTING_RADIUS, cv2.INPAINT_TELEA)
    back_depth = np.where(hidden, np.clip(filled, unit, 1), unit)
    color = torch.from_numpy(np.stack([image, back_color])).permute(0, 3, 1, 2).to(torch.float32)
    distances = near + torch.from_numpy(np.stack([unit, back_depth])).to(torch.float32) * (far - near)
    return Layers(color, distances, camera, near, far)


def _near_sides(unit: NDArray[np.float32], reach: int) -> NDArray[np.bool_]:
    """Pixels at most `reach` pixels from an edge, on its near side."""
    # The farthest pixel within 1 pixel tells an edge from a slope; its far side is then spread.
    small = cv2.dilate(unit, np.ones((3, 3), np.uint8))
    far_side = np.where(small - unit > EDGE, small, 0.0).astype(np.float32)
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach - 1, 2 * reach - 1))
    return cv2.dilate(far_side, window) - unit > EDGE


@torch.inference_mode()
def render_layers(layers: Layers, cameras: Tensor) -> NDArray[np.uint8]:
    """Images uint8 `[B, R, R, 3]` of a layered image from cameras `[B, 8]`. Pixels beyond the source image repeat its
    border."""
    size = layers.color.shape[-1]
    views = []
    for camera in cameras[:, None]:
        origins, directions = rays(camera, size)
        parts = zip(origins.split(RAY_CHUNK, 1), directions.split(RAY_CHUNK, 1), strict=True)
        views.append(torch.cat([_trace(layers, *part) for part in parts]).view(size, size, 3))
    return torch.stack(views).round().clamp(0, 255).to(torch.uint8).numpy()


def _trace(layers: Layers, origins: Tensor, directions: Tensor) -> Tensor:
    """Colors `[N, 3]` of rays `[1, N, 3]`."""
    margin = BEYOND * (layers.far - layers.near)
    # Distances of the ray are longer than those along the axis, by the cosine of the outermost ray at most.
    corner = axis_cosines(layers.camera[None], 2).min()
    distances = torch.linspace(layers.near - margin, (layers.far + margin) / corner, STEPS)
    points = origins[0, :, None] + directions[0, :, None] * distances[:, None]  # [N, S, 3]
    positions, along = project(points.flatten(0, 1)[None], layers.camera[None])
    positions, along = positions[0].view(*points.shape[:2], 2), along[0].view(points.shape[:2])
    behind = along - _look_up(layers.depth[:, None], positions, "nearest")[:, 0]  # [2, N, S]
    thickness = THICKNESS * (layers.far - layers.near)
    hits = torch.stack([(behind[0] >= 0) & (behind[0] <= thickness), behind[1] >= 0])
    first = hits.any(dim=0).to(torch.uint8).argmax(dim=1)
    first = torch.where(hits.any(dim=0).any(dim=1), first, STEPS - 1)[:, None]
    back = (~hits[0]).gather(1, first).long()[:, 0]  # the layer that is hit
    # The surface lies between the step of the hit and the one before.
    last = (first - 1).clamp(min=0)
    rows = torch.arange(len(back))
    after, before = behind[back, rows, first[:, 0]], behind[back, rows, last[:, 0]]
    share = torch.where(before < 0, before / (before - after).clamp(max=-1e-12), 1.0).clamp(0, 1)[:, None]
    ends = [positions.gather(1, step[..., None].expand(-1, -1, 2))[:, 0] for step in (last, first)]
    found = torch.lerp(*ends, share)[:, None]  # [N, 1, 2]
    colors = _look_up(layers.color, found, "bilinear")[..., 0]  # [2, 3, N]
    return torch.where(back[:, None] == 1, colors[1].T, colors[0].T)


def _look_up(images: Tensor, positions: Tensor, mode: str) -> Tensor:
    """Values `[L, C, N, S]` of images `[L, C, R, R]` at positions `[N, S, 2]` of the image plane."""
    grid = torch.stack([positions[..., 0], -positions[..., 1]], dim=-1)  # rows count from the top
    return F.grid_sample(
        images, grid.expand(len(images), *grid.shape), mode=mode, padding_mode="border", align_corners=True
    )
