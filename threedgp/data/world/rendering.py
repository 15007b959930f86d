"""Pictures and true depth of scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import camera_axes, image_plane, ray_directions
from threedgp.data.world.scenes import CLASS_NAMES, Background, Scene, Texture
from threedgp.data.world.shapes import SHAPES, transform

Array = NDArray[np.float64]

FAR = 1.25
"""Distance of the background along every ray, scene units: where the rays of the camera model end."""
AMBIENT = 0.45
SUBPIXELS = ((0, 0), (-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))
"""Offsets, in pixels, of the rays whose colours a pixel averages; the first is the one whose depth counts."""
BLOCK_RAYS = 4096
"""Rays at a time: arrays of this size stay in the cache, larger ones cost twice the time in page faults."""


def render_picture(scene: Scene, resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Ray-cast a scene.

    Returns:
        picture `[R, R, 3]`, and depth `[R, R]` of the pixel centres: distance along the ray in scene units.
    """
    centres = image_plane(resolution)
    pixel = 2 / (resolution - 1)
    plane = np.concatenate([centres + np.multiply(pixel, [[x], [y]]) for x, y in SUBPIXELS], axis=1)
    origin, axes = camera_axes(scene.camera)
    depth = np.full(plane.shape[1], FAR)
    painted = np.zeros((4, plane.shape[1]))  # colour and coverage
    for start in range(0, plane.shape[1], BLOCK_RAYS):
        distances, hit, colors = _object(scene, origin, ray_directions(axes, plane[:, start : start + BLOCK_RAYS]))
        hit += start
        depth[hit] = distances
        painted[:3, hit], painted[3, hit] = colors, 1
    painted = painted.reshape(4, len(SUBPIXELS), -1).mean(axis=1)
    picture = painted[:3] + (1 - painted[3]) * _paint_background(scene.background, centres)
    return _to_bytes(picture, resolution), depth[: resolution**2].reshape(resolution, -1).astype(np.float32)


def render_background(scene: Scene, resolution: int) -> NDArray[np.uint8]:
    """The picture `[R, R, 3]` without its object."""
    return _to_bytes(_paint_background(scene.background, image_plane(resolution)), resolution)


def _object(scene: Scene, origin: Array, directions: Array) -> tuple[Array, NDArray[np.intp], Array]:
    """Distances `[M]`, indices `[M]` and colours `[3, M]` of the rays that meet the object."""
    offset = scene.centre - origin
    along = transform(offset[None], directions)[0]
    reach = np.sum(scene.to_world**2)  # squared radius of a ball around every shape
    near = np.flatnonzero(offset @ offset - along**2 < reach)
    to_object = np.linalg.inv(scene.to_world)
    local_origin, local_directions = -to_object @ offset, transform(to_object, directions[:, near])
    distances, normals = SHAPES[CLASS_NAMES[scene.label]](local_origin, local_directions)
    met = np.flatnonzero(np.isfinite(distances))
    distances, hit = distances[met], near[met]
    points = local_origin[:, None] + distances * local_directions[:, met]
    normals = transform(to_object.T, normals[:, met])
    cosine = transform(scene.light[None], normals)[0] / np.maximum(np.sqrt((normals**2).sum(axis=0)), 1e-12)
    shade = AMBIENT + (1 - AMBIENT) * np.maximum(cosine, 0)
    return distances, hit, shade * _paint_object(scene.texture, points)


def _paint_object(texture: Texture, points: Array) -> Array:
    """Colours `[3, N]` of points `[3, N]` in the object's own space."""
    along = transform(texture.axes, points)
    periods = along * texture.frequency + texture.phase[:, None]
    if texture.pattern == "stripes":
        mix = np.sin(2 * np.pi * periods[0]) > 0
    elif texture.pattern == "checks":
        mix = np.prod(np.sin(np.pi * periods), axis=0) > 0
    elif texture.pattern == "spots":
        mix = ((periods % 1 - 0.5) ** 2).sum(axis=0) < 0.42**2
    else:
        mix = np.clip(0.5 + 0.5 * along[0], 0, 1)
    first, last = texture.colors
    return first[:, None] + mix * (last - first)[:, None]


def _paint_background(background: Background, plane: Array) -> Array:
    """Colours `[3, N]` of points of the image plane `[2, N]`."""
    x, y = plane
    first, last = background.colors
    mix = 0.5 + 0.35 * (background.direction[0] * x + background.direction[1] * y)
    colors = first[:, None] + mix * (last - first)[:, None]
    for (along_x, along_y), phase, tint in zip(background.waves, background.phases, background.tints, strict=True):
        colors += tint[:, None] * np.sin(2 * np.pi * (along_x * x + along_y * y + phase))
    return colors


def _to_bytes(colors: Array, resolution: int) -> NDArray[np.uint8]:
    return np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8).T.reshape(resolution, resolution, 3)
