"""Solids that animals and props are made of: intersections with rays, normals, and the light that they block.

All intersections are in closed form. The components of vectors are the first axis, `[3, ...]`. All rays of an image
have the same origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def dot(vector: Array, vectors: Array) -> Array:
    """Dot products `[...]` of one vector `[3]` with vectors `[3, ...]`.

    Not a matrix product: the last bit of BLAS results depends on the number of threads.
    """
    x, y, z = vector.tolist()  # Python scalars keep the precision of `vectors`
    return x * vectors[0] + y * vectors[1] + z * vectors[2]


def transform(matrix: Array, vectors: Array) -> Array:
    """Product `[3, ...]` of a matrix `[3, 3]` with vectors `[3, ...]`."""
    return np.stack([dot(row, vectors) for row in matrix])


def column(vector: Array, like: Array) -> Array:
    """A vector `[3]` with the precision of `like` `[3, ...]`, shaped to broadcast with it."""
    return np.asarray(vector, like.dtype).reshape(3, *[1] * (like.ndim - 1))


def square(vectors: Array) -> Array:
    """Squared lengths `[...]` of vectors `[3, ...]`."""
    x, y, z = vectors
    return x * x + y * y + z * z


def assign(target: Array, indices: NDArray[np.intp], values: Array) -> None:
    """Set columns of `target` `[3, M]` to `values` `[3, N]` or `[3]`, several times as fast as `target[:, indices]`."""
    for row, value in zip(target, values, strict=True):
        row[indices] = value


def _blocked(radius: Array | float, gap: Array, travel: Array, light_size: float) -> Array:
    """Share of a distant round light that a solid hides: one half at the edge of the solid, with a soft penumbra.

    Args:
        gap: distance between the solid's center and the ray to the light.
        travel: distance along that ray from the lit point to the solid.
        light_size: tangent of the light's angular radius.
    """
    penumbra = light_size * np.maximum(travel, 1e-6)
    share = np.clip(0.5 + (radius - gap) / (2 * penumbra), 0, 1)
    return np.where(travel > 0, share * np.minimum(radius / penumbra, 1), 0)  # a small solid hides only a part


def _entry(a: Array | float, b: Array, c: float) -> Array:
    """Smaller root of a t^2 + 2 b t + c, infinite where there is none that is positive."""
    discriminant = b * b - a * c
    root = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where((discriminant > 0) & (root > 0), root, np.inf)


@dataclass(frozen=True)
class Ellipsoid:
    """The image of the unit ball under `half_axes`, around `center`."""

    paint: str
    center: Array  # [3]
    half_axes: Array  # [3, 3], orthogonal columns

    def placed(self, scale: float, offset: Array) -> Ellipsoid:
        """The solid scaled around the origin, then moved."""
        return replace(self, center=self.center * scale + offset, half_axes=self.half_axes * scale)

    @property
    def ends(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Centers `[3]` and half-axes `[3, 3]` of two ellipsoids whose convex hull is the solid."""
        return (self.center, self.center), (self.half_axes, self.half_axes)

    @property
    def size(self) -> float:
        """Largest half-axis."""
        return float(np.sqrt((self.half_axes**2).sum(axis=0).max()))

    def _to_ball(self) -> Array:
        return (self.half_axes / (self.half_axes**2).sum(axis=0)).T

    def intersect(self, origin: Array, directions: Array) -> Array:
        """Distances `[...]` at which rays enter, infinite where they miss."""
        to_ball = self._to_ball()
        start, along = to_ball @ (origin - self.center), transform(to_ball, directions)
        return _entry(square(along), dot(start, along), float(start @ start) - 1)

    def normals(self, points: Array) -> Array:
        """Outward normals `[3, N]` of any length at points `[3, N]` of the surface."""
        to_ball = self._to_ball()
        return transform(to_ball.T @ to_ball, points - column(self.center, points))

    def occlusion(self, points: Array, light: Array, light_size: float) -> Array:
        """Share `[N]` of a far light in direction `light` `[3]` that the solid hides from points `[3, N]`."""
        to_ball = self._to_ball()
        start, along = transform(to_ball, points - column(self.center, points)), to_ball @ light
        travel = dot(along, start) / -float(along @ along)
        nearest = np.sqrt(square(start + column(along, start) * travel))
        radius = float(np.cbrt(np.prod(np.linalg.norm(self.half_axes, axis=0))))
        return _blocked(radius, nearest * radius, travel, light_size)


@dataclass(frozen=True)
class RoundedCone:
    """The convex hull of two balls, neither of which contains the other; with equal radii it is a capsule."""

    paint: str
    start: Array  # [3]
    end: Array  # [3]
    start_radius: float
    end_radius: float

    def placed(self, scale: float, offset: Array) -> RoundedCone:
        start, end = self.start * scale + offset, self.end * scale + offset
        return RoundedCone(self.paint, start, end, self.start_radius * scale, self.end_radius * scale)

    @property
    def ends(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return (self.start, self.end), (self.start_radius * np.eye(3), self.end_radius * np.eye(3))

    @property
    def size(self) -> float:
        """Half the length of the axis, and the mean radius."""
        return 0.5 * (float(np.linalg.norm(self.end - self.start)) + self.start_radius + self.end_radius)

    def intersect(self, origin: Array, directions: Array) -> Array:
        """Distances `[...]` at which rays of unit directions enter, infinite where they miss.

        The side is a part of a cone, on which the derivation follows I. Quilez, "Intersectors" (rounded cone).
        """
        axis, taper = self.end - self.start, self.start_radius - self.end_radius
        from_start, from_end = origin - self.start, origin - self.end
        slant = float(axis @ axis) - taper**2  # squared length of the side
        height = float(axis @ from_start)
        along, b_start, b_end = dot(axis, directions), dot(from_start, directions), dot(from_end, directions)

        a = slant - along * along
        b = slant * b_start + (taper * self.start_radius - height) * along
        c = slant * float(from_start @ from_start) - height**2
        c += self.start_radius * (2 * height * taper - float(axis @ axis) * self.start_radius)
        discriminant = b * b - a * c
        side = (-b - np.sqrt(np.maximum(discriminant, 0))) / np.where(np.abs(a) < 1e-12, 1e-12, a)
        position = height - self.start_radius * taper + side * along
        on_side = (discriminant > 0) & (position > 0) & (position < slant) & (side > 0)

        caps = np.minimum(
            _entry(1, b_start, float(from_start @ from_start) - self.start_radius**2),
            _entry(1, b_end, float(from_end @ from_end) - self.end_radius**2),
        )
        return np.where(on_side, side, caps)

    def normals(self, points: Array) -> Array:
        """Outward normals `[3, N]` of any length at points `[3, N]` of the surface: away from the ball they are on."""
        axis, taper = self.end - self.start, self.start_radius - self.end_radius
        outward = points - column(self.start, points)
        position = (dot(axis, outward) - self.start_radius * taper) / (float(axis @ axis) - taper**2)
        return outward - column(axis, points) * np.clip(position, 0, 1)

    def occlusion(self, points: Array, light: Array, light_size: float) -> Array:
        """Share `[N]` of a far light in direction `light` `[3]` (unit) that the solid hides from points `[3, N]`."""
        axis, outward = self.end - self.start, points - column(self.start, points)
        length, lean = float(axis @ axis), float(axis @ light)
        along_axis, along_light = dot(axis, outward), dot(light, outward)
        # The point of the axis that is nearest to the line towards the light.
        position = np.clip((along_axis - lean * along_light) / max(length - lean**2, 1e-9), 0, 1)
        travel = lean * position - along_light
        gap = np.sqrt(square(outward + column(light, points) * travel - column(axis, points) * position))
        radius = self.start_radius + (self.end_radius - self.start_radius) * position
        return _blocked(radius, gap, travel, light_size)


Solid = Ellipsoid | RoundedCone


def extents(solids: Sequence[Solid], axes: Array) -> tuple[Array, Array]:
    """Smallest and largest coordinates `[P, 3]` of each solid along orthonormal axes `[3, 3]` (rows)."""
    ends = [solid.ends for solid in solids]
    middle = np.array([centers for centers, _ in ends]).reshape(-1, 2, 3) @ axes.T
    half_axes = np.array([half_axes for _, half_axes in ends]).reshape(-1, 2, 3, 3)
    reach = np.sqrt(((axes @ half_axes) ** 2).sum(axis=-1))
    return (middle - reach).min(axis=1), (middle + reach).max(axis=1)
