"""Where rays meet solid shapes.

Every shape fits the cube from -1 to 1; scenes scale, turn and move it by transforming the rays. All rays of a picture
start in one point. Directions need not have unit length: distances count in lengths of the direction, so they stay
true under the transform. Vectors stand in columns, `[3, N]`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pass = tuple[Array, Array, Array]
"""Distances at which rays enter and leave a convex set, each `[N]` (enter >= leave: they miss it), and the outward
normals `[3, N]`, of any length, where they enter."""
Hits = tuple[Array, Array]
"""Distances `[N]`, infinite where a ray misses, and outward normals `[3, N]` of any length (meaningless at a miss)."""
Shape = Callable[[Array, Array], Hits]
"""From origin `[3]` and directions `[3, N]`."""


def transform(matrix: Array, vectors: Array) -> Array:
    """matrix `[K, 3]` @ vectors `[3, N]`, but without BLAS, whose last bit depends on the number of its threads."""
    return matrix[:, :1] * vectors[0] + matrix[:, 1:2] * vectors[1] + matrix[:, 2:] * vectors[2]


def half_spaces(origin: Array, directions: Array, normals: Array, offsets: Array) -> Pass:
    """Pass of rays through the points p with normals @ p <= offsets."""
    speed = transform(normals, directions)  # [K, N]
    speed = np.where(np.abs(speed) < 1e-12, 1e-12, speed)
    cross = (offsets - normals @ origin)[:, None] / speed
    entering = np.where(speed < 0, cross, -np.inf)
    face = np.argmax(entering, axis=0)
    leave = np.where(speed > 0, cross, np.inf).min(axis=0)
    return entering.max(axis=0), leave, normals.T[:, face]


def quadric(origin: Array, directions: Array, square: float, linear: float, constant: float) -> Pass:
    """Pass of rays through the points with x^2 + z^2 + square y^2 + linear y + constant <= 0.

    If that is a double cone (negative square), the pass through its lower half counts.
    """
    (ox, oy, oz), (x, y, z) = origin, directions
    a = x * x + z * z + square * (y * y)
    b = ox * x + oz * z + (square * oy + linear / 2) * y
    c = ox * ox + oz * oz + (square * oy + linear) * oy + constant
    a = np.where(np.abs(a) < 1e-12, 1e-12, a)
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    first, second = (-b - root) / a, (-b + root) / a
    near, far = np.minimum(first, second), np.maximum(first, second)
    if square < 0:
        # Along a ray steeper than the cone, its inside lies before the near and behind the far root.
        steep, down = a < 0, y < 0
        near, far = (
            np.where(steep, np.where(down, far, -np.inf), near),
            np.where(steep, np.where(down, np.inf, near), far),
        )
    start = np.where(np.isfinite(near), near, 0)
    normals = 2 * np.stack([ox + start * x, square * (oy + start * y) + linear / 2, oz + start * z])
    missed = inside < 0
    return np.where(missed, np.inf, near), np.where(missed, -np.inf, far), normals


def common(first: Pass, second: Pass) -> Pass:
    """Pass through what two convex sets have in common."""
    later = first[0] >= second[0]
    return np.maximum(first[0], second[0]), np.minimum(first[1], second[1]), np.where(later, first[2], second[2])


def surface(enter: Array, leave: Array, normals: Array) -> Hits:
    """Hits of rays that start outside of the set."""
    return np.where((enter < leave) & (enter > 0), enter, np.inf), normals


BOX_FACES = np.concatenate([np.eye(3), -np.eye(3)])
LIDS = BOX_FACES[[1, 4]]
OCTAHEDRON_FACES = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def sphere(origin: Array, directions: Array) -> Hits:
    """Radius 1; an ellipsoid once scaled."""
    return surface(*quadric(origin, directions, 1, 0, -1))


def box(origin: Array, directions: Array) -> Hits:
    """The cube from -1 to 1."""
    return surface(*half_spaces(origin, directions, BOX_FACES, np.ones(6)))


def octahedron(origin: Array, directions: Array) -> Hits:
    """|x| + |y| + |z| <= 1."""
    return surface(*half_spaces(origin, directions, OCTAHEDRON_FACES, np.ones(8)))


def cylinder(origin: Array, directions: Array) -> Hits:
    """Radius 1 around the y axis, from y = -1 to 1."""
    lids = half_spaces(origin, directions, LIDS, np.ones(2))
    return surface(*common(quadric(origin, directions, 0, 0, -1), lids))


def cone(origin: Array, directions: Array) -> Hits:
    """Base of radius 1 at y = -1, tip at y = 1: x^2 + z^2 <= ((1 - y) / 2)^2."""
    lids = half_spaces(origin, directions, LIDS, np.ones(2))
    return surface(*common(quadric(origin, directions, -0.25, 0.5, -0.25), lids))


TUBE = 0.33
"""Radius of the torus' tube; its centre line has radius RING."""
RING = 1 - TUBE
PROBES = np.linspace(0, 1, 33)[:, None]
"""Where a ray is probed for being inside: what lies between two probes is a graze of a twentieth of a pixel."""
BISECTIONS = 20


def torus(origin: Array, directions: Array) -> Hits:
    """Around the y axis, outer radius 1: (p.p + RING^2 - TUBE^2)^2 <= 4 RING^2 (x^2 + z^2), a quartic along a ray."""
    lids = half_spaces(origin, directions, LIDS, np.full(2, TUBE))
    enter, leave, _ = common(quadric(origin, directions, 1, 0, -1), lids)
    near = np.flatnonzero((enter < leave) & (enter > 0))
    (ox, oy, oz), (x, y, z) = origin, directions[:, near]
    flat = x * x + z * z, 2 * (ox * x + oz * z), ox * ox + oz * oz
    whole = flat[0] + y * y, flat[1] + 2 * oy * y, flat[2] + oy * oy + RING**2 - TUBE**2

    def inside(t: Array) -> NDArray[np.bool_]:
        return ((whole[0] * t + whole[1]) * t + whole[2]) ** 2 < 4 * RING**2 * ((flat[0] * t + flat[1]) * t + flat[2])

    probes = inside(enter[near] + PROBES * (leave - enter)[near])
    first = np.argmax(probes, axis=0)
    step = (leave - enter)[near] / (len(PROBES) - 1)
    high = enter[near] + first * step
    low = high - step
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        met = inside(middle)
        low, high = np.where(met, low, middle), np.where(met, middle, high)

    distances = np.full(len(enter), np.inf)
    distances[near] = np.where(probes.any(axis=0), high, np.inf)
    points = origin[:, None] + np.where(np.isfinite(distances), distances, 0) * directions
    inward = 1 - RING / np.maximum(np.sqrt(points[0] ** 2 + points[2] ** 2), 1e-12)
    return distances, points * np.stack([inward, np.ones_like(inward), inward])


SHAPES: dict[str, Shape] = {
    "sphere": sphere,
    "box": box,
    "cylinder": cylinder,
    "cone": cone,
    "torus": torus,
    "octahedron": octahedron,
}
