"""Pictures of scenes with their truth: depth, normals, and the mask of the animal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import camera_axes, image_plane, ray_directions
from threedgp.data.world.coats import PATTERNED, color, paint_coat
from threedgp.data.world.landscapes import FAR, PROP_PAINTS, paint_backdrop, paint_ground
from threedgp.data.world.scenes import Scene
from threedgp.data.world.solids import Array, Solid, column, dot, transform

SUBPIXELS = ((0, 0), (-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))
"""Offsets, in pixels, of the rays whose colors a pixel averages; the truth is that of the first."""
SUN_COLOR, SKY_COLOR = np.array([1.08, 0.97, 0.80]), np.array([0.40, 0.45, 0.54])
WRAP = 0.25
"""Light reaches this far (cosine) around the edge of the shadow side, as on fur."""
SUN_SIZE, SKY_SIZE = 0.12, 0.9
"""Tangents of the angular radii of the sun and of the part of the sky that makes contact shadows."""
CONTACT = 0.65
"""Share of the sky's light that a contact shadow takes."""
SKY, GROUND = -2, -1
"""Owners of rays that meet no solid."""


@dataclass(frozen=True)
class Rendering:
    """A picture and the truth at its pixel centers."""

    rgb: NDArray[np.uint8]
    """`[R, R, 3]`"""
    depth: NDArray[np.float32]
    """`[R, R]`, distance along the ray in scene units."""
    normals: NDArray[np.float32]
    """`[R, R, 3]`, unit vectors in camera space: +x right, +y up, +z towards the viewer."""
    mask: NDArray[np.bool_]
    """`[R, R]`, where the animal is."""


def render_picture(scene: Scene, resolution: int) -> Rendering:
    """Ray-cast a scene."""
    pixel = 2 / (resolution - 1)
    offsets = pixel * np.array(SUBPIXELS).T[:, :, None, None]
    plane = image_plane(resolution)[:, None] + offsets  # [2, S, R, R]
    origin, axes = camera_axes(scene.camera)
    directions = ray_directions(axes, scene.camera[3], plane).astype(np.float32)
    solids = (*scene.animal, *scene.props)
    depth, owner = _trace(scene, solids, origin, axes, directions)
    normals = np.empty_like(directions)
    colors = np.empty_like(directions)

    sky = owner == SKY
    normals[:, sky] = -directions[:, sky]
    colors[:, sky] = _backdrop(scene, origin, directions[:, sky])
    solid = ~sky
    points = column(origin, directions[:, 0, 0]) + depth[solid] * directions[:, solid]
    colors[:, solid], normals[:, solid] = _shade(scene, solids, points, owner[solid])

    picture = np.sqrt(np.clip(colors.mean(axis=1), 0, 1))  # from linear colors to a gamma of 2
    facing = axes * np.array([[1], [1], [-1]])
    return Rendering(
        rgb=np.rint(picture * 255).astype(np.uint8).transpose(1, 2, 0),
        depth=depth[0],
        normals=transform(facing, normals[:, 0]).transpose(1, 2, 0),
        mask=(owner[0] >= 0) & (owner[0] < len(scene.animal)),
    )


def render_background(scene: Scene, resolution: int) -> NDArray[np.uint8]:
    """The picture `[R, R, 3]` without its animal."""
    return render_picture(replace(scene, animal=()), resolution).rgb


def _trace(
    scene: Scene, solids: tuple[Solid, ...], origin: Array, axes: Array, directions: Array
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Distance of what rays `[3, S, R, R]` meet first, and its owner: a number of `solids`, `GROUND` or `SKY`."""
    below = directions[1] < 0
    ground = (scene.ground - float(origin[1])) / np.where(below, directions[1], -1)
    on_ground = below & (ground < FAR)
    depth = np.where(on_ground, ground, np.float32(FAR))
    owner = np.where(on_ground, GROUND, SKY).astype(np.int8)
    for number, solid in enumerate(solids):
        window = _window(solid, origin, axes, scene.camera[3], directions.shape[-1])
        distances = solid.intersect(origin, directions[window])
        nearer = distances < depth[window[1:]]
        depth[window[1:]][nearer] = distances[nearer]
        owner[window[1:]][nearer] = number
    return depth, owner


def _window(solid: Solid, origin: Array, axes: Array, fov: float, resolution: int) -> tuple[slice, ...]:
    """The part of an array `[3, S, R, R]` of pixels that may see a solid: the projection of its bounding box."""
    low, high = (bound - axes @ origin for bound in solid.bounds(axes))
    focal = 1 / np.tan(np.deg2rad(fov) / 2)
    (left, bottom), (right, top) = (
        focal * np.minimum(low[:2] / low[2], low[:2] / high[2]),
        focal * np.maximum(high[:2] / low[2], high[:2] / high[2]),
    )
    edges = (np.array([left, right, -top, -bottom]) + 1) * (resolution - 1) / 2
    first_column, end_column, first_row, end_row = np.clip(
        np.floor(edges) + [0, 2, 0, 2], 0, resolution
    ).astype(int)
    return slice(None), slice(None), slice(first_row, end_row), slice(first_column, end_column)


def _backdrop(scene: Scene, origin: Array, directions: Array) -> Array:
    """Colors `[3, N]` of hills and sky along rays `[3, N]`."""
    x, y, z = directions
    yaw = scene.camera[0]
    across = np.arctan2(np.cos(yaw) * x + np.sin(yaw) * z, np.sin(yaw) * x - np.cos(yaw) * z)
    edge = np.arcsin((scene.ground - origin[1]) / FAR)
    return paint_backdrop(scene.landscape, (across + yaw) / scene.frame, (np.arcsin(y) - edge) / scene.frame)


def _shade(
    scene: Scene, solids: tuple[Solid, ...], points: Array, owner: NDArray[np.int8]
) -> tuple[Array, Array]:
    """Colors and unit normals, both `[3, N]`, of points `[3, N]` with their owners `[N]`."""
    normals = np.zeros_like(points)
    normals[1] = 1
    albedo = np.empty_like(points)
    ground = owner == GROUND
    x, _, z = points[:, ground] / scene.frame
    albedo[:, ground] = paint_ground(scene.landscape, x, z)

    lit, open_sky = np.ones_like(points[0]), np.ones_like(points[0])
    zenith = np.array([0.0, 1.0, 0.0])
    patterned = np.zeros(len(owner), bool)
    paints = scene.coat.paints | {name: color(code) for name, code in PROP_PAINTS.items()}
    for number, solid in enumerate(solids):
        mine = owner == number
        albedo[:, mine] = paints[solid.paint][:, None]
        patterned |= mine & (solid.paint in PATTERNED)
        outward = solid.normals(points[:, mine])
        normals[:, mine] = outward / np.sqrt((outward**2).sum(axis=0))
        lit *= 1 - np.where(mine, 0, solid.occlusion(points, scene.sun, SUN_SIZE))
        open_sky *= 1 - np.where(mine, 0, CONTACT * solid.occlusion(points, zenith, SKY_SIZE))

    own = (points[:, patterned] - column(scene.feet, points)) / np.float32(scene.scale)
    albedo[:, patterned] = paint_coat(scene.coat, albedo[:, patterned], own, normals[1, patterned])
    direct = np.clip((dot(scene.sun, normals) + WRAP) / (1 + WRAP), 0, 1) * lit
    ambient = (0.75 + 0.25 * normals[1]) * open_sky
    return albedo * (column(SUN_COLOR, points) * direct + column(SKY_COLOR, points) * ambient), normals
