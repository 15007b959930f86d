"""Meshes with a texture: a UV atlas by xatlas, and colors of the field at the texels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from threedgp.models.generator import Content, Generator
from threedgp.runtime.atomic import write_bytes
from threedgp.runtime.errors import UserError
from threedgp.visual.surfaces import evaluate

PADDING = 2
"""Texels between two charts, so that filtering does not mix them."""
MAX_TEXELS = 1 << 20
"""Candidates of texels at once; limits the memory of `texel_points`."""


def require_xatlas() -> Any:
    """The module xatlas. Raises UserError if it is not installed."""
    try:
        import xatlas
    except ImportError:
        raise UserError(
            "--format: 'gltf' needs the package xatlas; run `pip install xatlas`, or use `threedgp mesh`, which writes "
            "vertex colors."
        ) from None
    return xatlas


@torch.inference_mode()
def write_textured(target: Path, mesh: trimesh.Trimesh, generator: Generator, content: Content, size: int) -> None:
    """Write the mesh of a scene as GLB, with a texture of about `size` texels a side in place of its vertex colors,
    atomically. `content` is that of the scene."""
    xatlas = require_xatlas()
    atlas, options = xatlas.Atlas(), xatlas.PackOptions()
    options.resolution, options.padding, options.bilinear = size, PADDING, True
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    atlas.generate(pack_options=options)
    origin, faces, uv = atlas[0]
    vertices = mesh.vertices[origin]
    rows, columns, points = texel_points(vertices, faces.astype(np.int64), uv, atlas.width, atlas.height)

    def color(part: Tensor) -> Tensor:
        return generator.color(content, part[None])[0]

    values = evaluate(color, torch.as_tensor(points, dtype=torch.float32, device=generator.device))
    image = np.zeros((atlas.height, atlas.width, 3), np.uint8)
    empty = np.ones(image.shape[:2], bool)
    image[rows, columns] = (values * 127.5 + 127.5).round().clip(0, 255)
    empty[rows, columns] = False
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(image[tuple(nearest)]), metallicFactor=0.0, roughnessFactor=1.0
    )
    # Rows of the image count from the top; trimesh has v = 0 at the bottom, as OBJ has, and turns it for glTF.
    visual = trimesh.visual.TextureVisuals(np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1), material=material)
    write_bytes(target, trimesh.Trimesh(vertices, faces, visual=visual, process=False).export(file_type="glb"))


def texel_points(
    vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows `[N]` and columns `[N]` of the texels whose centers lie in a triangle, and the points of the surface there,
    `[N, 3]`. Vertices are `[V, 3]`, faces `[F, 3]`, uv `[V, 2]` in [0, 1] from the top left."""
    corners = uv[faces].astype(np.float64) * (width, height) - 0.5  # [F, 3, 2], centers of texels are integers
    low = np.ceil(corners.min(axis=1)).astype(np.int64).clip(0)
    high = np.floor(corners.max(axis=1)).astype(np.int64).clip(max=(width - 1, height - 1))
    extent = (high - low + 1).clip(0)
    counts = extent.prod(axis=1)
    found = []
    start = 0
    while start < len(faces):
        stop = max(start + 1, start + int(np.searchsorted(counts[start:].cumsum(), MAX_TEXELS, side="right")))
        face = np.arange(start, stop).repeat(counts[start:stop])
        within = np.arange(len(face)) - (counts[start:stop].cumsum() - counts[start:stop]).repeat(counts[start:stop])
        texel = low[face] + np.stack([within % extent[face, 0], within // extent[face, 0]], axis=1)
        a, b, c = corners[face].transpose(1, 0, 2)
        area = _cross(b - a, c - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.stack([_cross(b - texel, c - texel), _cross(c - texel, a - texel)], axis=1) / area[:, None]
        weights = np.concatenate([weights, 1 - weights.sum(axis=1, keepdims=True)], axis=1)
        inside = (weights >= -1e-9).all(axis=1)  # false for triangles without area, whose weights are NaN
        points = np.einsum("nk,nkd->nd", weights[inside], vertices[faces[face[inside]]])
        found.append((texel[inside, 1], texel[inside, 0], points))
        start = stop
    rows, columns, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, points


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
