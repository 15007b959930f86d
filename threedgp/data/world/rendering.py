"""Images of scenes with their truth: depth, normals, and the mask of the animal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import View, image_plane, ray_directions, view_of
from threedgp.data.world.coats import PATTERNED, paint_coat
from threedgp.data.world.landscapes import FAR, paint_backdrop, paint_ground
from threedgp.data.world.scenes import Scene
from threedgp.data.world.solids import Array, assign, column, dot, extents, square, transform

SUBPIXELS = ((0, 0), (-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))
"""Offsets, in pixels, of the rays whose colors are averaged; depth, normals and mask are those of the first."""
SUN_COLOR, SKY_COLOR = np.array([0.74, 0.67, 0.56]), np.array([0.43, 0.45, 0.50])
WRAP = 0.25
"""Sunlight reaches surfaces that face away from the sun up to this cosine, which softens the shading."""
ZENITH = np.array([0.0, 1.0, 0.0])
SKY, GROUND = -2, -1
"""Owners of rays that hit no solid."""
SUN_SIZE = 0.12
"""Tangent of the angular radius of the sun."""
MIN_CASTER = 0.07
"""Size in frames below which a solid casts no shadow: eyes and noses."""
CONTACT, CONTACT_HEIGHT, CONTACT_MIN = 0.5, 0.2, 0.03
"""Strength of contact shadows; in frames, the height over which they fade and the half-width of the thinnest caster."""


@dataclass(frozen=True)
class Rendering:
    """An image and the truth at its pixel centers. Normals of the sky face the camera."""

    rgb: NDArray[np.uint8]  # [R, R, 3]
    depth: NDArray[np.float32]  # [R, R], distance along the ray in scene units
    normals: NDArray[np.float32]  # [R, R, 3], unit vectors in camera space: +x right, +y up, +z towards the viewer
    mask: NDArray[np.bool_]  # [R, R], true on the animal


def render_picture(scene: Scene, resolution: int) -> Rendering:
    """Ray-cast a scene."""
    offsets = np.array(SUBPIXELS).T[:, :, None, None] * 2 / (resolution - 1)
    plane = image_plane(resolution)[:, None] + offsets  # [2, S, R, R]
    view = view_of(scene.camera)
    directions = ray_directions(view, plane.astype(np.float32))
    depth, owner = _trace(scene, view, directions)
    ground_light, sun_on_solids = _light_at_centers(scene, view, directions[:, 0], depth[0], owner[0])

    rays, owners = directions.reshape(3, -1), owner.ravel()
    points = column(view.origin, rays) + depth.ravel() * rays
    colors, normals = np.empty_like(rays), -rays
    sky, ground, solid = (np.flatnonzero(chosen) for chosen in (owners == SKY, owners == GROUND, owners >= 0))

    assign(colors, sky, _sky_colors(scene, view, rays.take(sky, axis=1)))
    x, _, z = points.take(ground, axis=1) / np.float32(scene.frame)
    assign(colors, ground, paint_ground(scene.landscape, x, z) * ground_light.take(ground % resolution**2, axis=1))
    assign(normals, ground, ZENITH)
    sun = sun_on_solids[solid % resolution**2]
    solid_colors, solid_normals = _shade_solids(scene, points.take(solid, axis=1), owners[solid], sun)
    assign(colors, solid, solid_colors)
    assign(normals, solid, solid_normals)

    linear = colors.reshape(directions.shape).mean(axis=1)
    facing = view.axes * np.array([[1], [1], [-1]])
    return Rendering(
        rgb=np.rint(np.sqrt(np.clip(linear, 0, 1)) * 255).astype(np.uint8).transpose(1, 2, 0),
        depth=depth[0],
        normals=transform(facing, normals.reshape(directions.shape)[:, 0]).transpose(1, 2, 0),
        mask=(owner[0] >= 0) & (owner[0] < len(scene.animal)),
    )


def render_background(scene: Scene, resolution: int) -> NDArray[np.uint8]:
    """The image `[R, R, 3]` without its animal."""
    return render_picture(replace(scene, animal=()), resolution).rgb


def _trace(scene: Scene, view: View, directions: Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Distance of the first hit of each ray, and its owner: the number of a solid, `GROUND` or `SKY`; both `[S, R, R]`.

    Each of the `directions` `[3, S, R, R]` is less than half a pixel from the center of its pixel.
    """
    down = directions[1] < 0
    distances = (scene.ground - float(view.origin[1])) / np.where(down, directions[1], -1)
    on_ground = down & (distances < FAR)
    depth = np.where(on_ground, distances, np.float32(FAR))
    owner = np.where(on_ground, GROUND, SKY).astype(np.int8)
    windows = _windows(scene, view, directions.shape[-1])
    for number, (solid, (rows, columns)) in enumerate(zip(scene.solids, windows, strict=True)):
        distances = solid.intersect(view.origin, directions[:, :, rows, columns])
        nearer = distances < depth[:, rows, columns]
        depth[:, rows, columns][nearer] = distances[nearer]
        owner[:, rows, columns][nearer] = number
    return depth, owner


def _windows(scene: Scene, view: View, resolution: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that may see each solid: the projection of its bounding box."""
    low, high = (bound - view.axes @ view.origin for bound in extents(scene.solids, view.axes))
    left, bottom = view.focal * np.minimum(low[:, :2] / low[:, 2:], low[:, :2] / high[:, 2:]).T
    right, top = view.focal * np.maximum(high[:, :2] / low[:, 2:], high[:, :2] / high[:, 2:]).T
    edges = np.floor((np.stack([-top, -bottom, left, right], axis=1) + 1) * (resolution - 1) / 2)
    edges = np.clip(edges + np.array([0, 2, 0, 2]), 0, resolution).astype(int)
    return [(slice(*rows), slice(*columns)) for rows, columns in edges.reshape(-1, 2, 2).tolist()]


def _sky_colors(scene: Scene, view: View, directions: Array) -> Array:
    """Colors `[3, N]` of hills and sky along rays `[3, N]`."""
    x, y, z = directions
    yaw = float(scene.camera[0])
    cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
    across = (cos * x + sin * z) / (sin * x - cos * z) + yaw
    above = y - float(scene.ground - view.origin[1]) / FAR
    return paint_backdrop(scene.landscape, across / scene.frame, above / scene.frame)


def _shade_solids(scene: Scene, points: Array, owner: NDArray[np.int8], sun: Array) -> tuple[Array, Array]:
    """Colors and unit normals, both `[3, N]`, of points `[3, N]` on solids `owner` that see shares `sun` of the sun."""
    albedo, normals = np.empty_like(points), np.empty_like(points)
    for number in np.unique(owner):
        solid, mine = scene.solids[number], np.flatnonzero(owner == number)
        outward = solid.normals(points.take(mine, axis=1))
        assign(normals, mine, outward / np.sqrt(square(outward)))
        assign(albedo, mine, scene.coat.paints[solid.paint])
    patterned = np.flatnonzero(np.array([solid.paint in PATTERNED for solid in scene.solids], bool)[owner])
    own = (points.take(patterned, axis=1) - column(scene.feet, points)) / np.float32(scene.scale)
    assign(albedo, patterned, paint_coat(scene.coat, albedo.take(patterned, axis=1), own, normals[1, patterned]))
    return albedo * _light(sun * _wrapped(dot(scene.sun, normals)), 0.65 + 0.35 * normals[1]), normals


def _light_at_centers(
    scene: Scene, view: View, directions: Array, depth: NDArray[np.float32], owner: NDArray[np.int8]
) -> tuple[Array, Array]:
    """Light `[3, R*R]` on the ground, and the share `[R*R]` of the sun that reaches solids, for the pixel centers.

    Shadows are so soft that the other subpixels share them. The ground behind solids has light too, for the subpixels
    beside their edges.
    """
    directions, depth, owner = directions.reshape(3, -1), depth.ravel(), owner.ravel()
    to_ground = (scene.ground - float(view.origin[1])) / np.minimum(directions[1], -0.05)
    ground, solid = np.flatnonzero(to_ground < 1.05 * FAR), np.flatnonzero(owner >= 0)
    distances = np.concatenate([to_ground[ground], depth[solid]])
    owners = np.concatenate([np.full(len(ground), GROUND, np.int8), owner[solid]])
    points = column(view.origin, directions) + distances * directions.take(np.concatenate([ground, solid]), axis=1)

    count = len(ground)
    sun, sky = sun_visibility(scene, points, owners), sky_visibility(scene, points[:, :count])
    light, sun_on_solids = np.zeros_like(directions), np.ones_like(depth)
    assign(light, ground, _light(sun[:count] * float(_wrapped(scene.sun[1])), sky))
    sun_on_solids[ground], sun_on_solids[solid] = sun[:count], sun[count:]
    return light, sun_on_solids


def sun_visibility(scene: Scene, points: Array, owner: NDArray[np.int8]) -> Array:
    """Visible share `[N]` of the sun at points `[3, N]` on the solids `owner` `[N]`, which do not shade themselves."""
    right = np.cross(scene.sun, [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(scene.sun, right), scene.sun])
    u, v, w = transform(axes, points)
    low, high = extents(scene.solids, axes)
    tops = extents(scene.solids, np.eye(3))[1][:, 1:2]
    penumbra = SUN_SIZE * (tops - scene.ground) / scene.sun[1]
    middle, reach = (low + high) / 2, (high - low) / 2 + penumbra
    boxes = np.concatenate([middle[:, :2], reach[:, :2], high[:, 2:]], axis=1).tolist()
    share = np.ones_like(u)
    for number, (solid, (across, along, width, height, front)) in enumerate(zip(scene.solids, boxes, strict=True)):
        if solid.size > MIN_CASTER * scene.frame:
            reached = (abs(u - across) < width) & (abs(v - along) < height) & (w < front) & (owner != number)
            shaded = np.flatnonzero(reached)
            share[shaded] *= 1 - solid.occlusion(points.take(shaded, axis=1), scene.sun, SUN_SIZE)
    return share


def sky_visibility(scene: Scene, points: Array) -> Array:
    """Visible share `[N]` of the sky at points `[3, N]` of the ground: contact shadows.

    Each solid near the ground casts one soft blob.
    """
    low, high = extents(scene.solids, np.eye(3))
    strength = CONTACT * np.exp(-(low[:, 1] - scene.ground) / (CONTACT_HEIGHT * scene.frame))
    share = np.ones_like(points[0])
    for weight, (x, _, z), (width, _, length) in zip(strength, (low + high) / 2, (high - low) / 2, strict=True):
        if weight > 0.1 and min(width, length) > CONTACT_MIN * scene.frame:
            distance = ((points[0] - float(x)) / float(width)) ** 2 + ((points[2] - float(z)) / float(length)) ** 2
            share *= 1 - float(weight) * np.exp(-0.5 * distance)
    return share


def _wrapped(cosine: Array | float) -> Array:
    return np.clip((cosine + WRAP) / (1 + WRAP), 0, 1)


def _light(sun: Array, sky: Array) -> Array:
    """Light `[3, N]` of both sources, of which the shares `[N]` arrive."""
    return column(SUN_COLOR, sun[None]) * sun + column(SKY_COLOR, sky[None]) * sky
