"""Bodies built of solids: what animals and props are made with.

A body stands at the origin and faces +z; +y is up and its left is +x. Joints are `(x, y, z, radius)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.solids import Ellipsoid, RoundedCone, Solid

Array = NDArray[np.float64]
Point = tuple[float, float, float]
Joint = tuple[float, float, float, float]

PROPORTIONS_STD = 0.06
"""Relative deviation of width, height and length of a body, each on its own."""
HEAD_YAW_STD, HEAD_PITCH_STD = 0.35, 0.12
"""Turn of the head, radians."""


def rotation(pitch: float, yaw: float = 0.0, roll: float = 0.0) -> Array:
    """Rotation `[3, 3]` in degrees: `pitch` lowers the front (+z), `yaw` turns it to +x, `roll` lowers the left."""
    (a, b, c), (x, y, z) = np.cos(np.deg2rad([pitch, yaw, roll])), np.sin(np.deg2rad([pitch, yaw, roll]))
    around_x = np.array([[1, 0, 0], [0, a, -x], [0, x, a]])
    around_y = np.array([[b, 0, y], [0, 1, 0], [-y, 0, b]])
    around_z = np.array([[c, z, 0], [-z, c, 0], [0, 0, 1]])
    return around_y @ around_x @ around_z


class Body:
    """Collects the parts of a body, with random proportions and pose."""

    def __init__(self, random: np.random.Generator) -> None:
        self.parts: list[Solid] = []
        self._random = random
        self._stretch = np.clip(random.normal(1, PROPORTIONS_STD, 3), 0.85, 1.15)
        self._girth = float(np.sqrt(self._stretch[0]))
        self._turn, self._pivot = np.eye(3), np.zeros(3)

    def vary(self, low: float, high: float) -> float:
        """A uniform random number."""
        return float(self._random.uniform(low, high))

    def _place(self, point: Sequence[float]) -> Array:
        return self._pivot + self._turn @ (np.asarray(point) * self._stretch)

    def ball(self, paint: str, center: Point, half_axes: Point, turn: Point = (0, 0, 0), *, pair: bool = False) -> None:
        """Add an ellipsoid, turned by (pitch, yaw, roll) in degrees; `pair` adds its mirror image."""
        x, y, z = center
        pitch, yaw, roll = turn
        axes = self._turn @ rotation(pitch, yaw, roll) * half_axes * self._girth
        self.parts.append(Ellipsoid(paint, self._place(center), axes))
        if pair:
            self.ball(paint, (-x, y, z), half_axes, (pitch, -yaw, -roll))

    def limb(self, paint: str, *joints: Joint, pair: bool = False) -> None:
        """Add rounded cones from joint to joint; `pair` adds their mirror images."""
        for (*start, first), (*end, last) in pairwise(joints):
            radii = first * self._girth, last * self._girth
            self.parts.append(RoundedCone(paint, self._place(start), self._place(end), *radii))
        if pair:
            self.limb(paint, *((-x, *rest) for x, *rest in joints))

    def legs(
        self, hips: tuple[float, float], height: float, spread: float, radii: Point, stride: float, foot: str = "coat"
    ) -> None:
        """Add four legs in mid-step, with all feet on the ground.

        Args:
            hips: z of the front and of the hind hips.
            height, spread: y and x of the hips.
            radii: at hip, knee and ankle.
            stride: largest shift of a foot along z; diagonal legs move together.
            foot: paint of the feet.
        """
        phase = self.vary(-1, 1) * stride
        for front, hip in enumerate(reversed(hips)):
            for side in (-1, 1):
                step = phase if (side > 0) == bool(front) else -phase
                bend = 0.06 * height * (1 if front else -1)
                x, top, middle, bottom = side * spread, *radii
                ankle = hip + step
                self.limb(
                    "coat",
                    (x, height, hip, top),
                    (x, 0.5 * height, hip + 0.4 * step + bend, middle),
                    (x, 2 * bottom, ankle, bottom),
                )
                self.limb(foot, (x, 2 * bottom, ankle, 1.05 * bottom), (x, 1.2 * bottom, ankle + bottom, 1.2 * bottom))

    @contextmanager
    def head(self, pivot: Point) -> Iterator[None]:
        """Parts added inside are relative to `pivot`, and turn around it together."""
        outer = self._turn, self._pivot
        yaw, pitch = self._random.normal(0, (HEAD_YAW_STD, HEAD_PITCH_STD))
        self._turn, self._pivot = rotation(np.rad2deg(pitch), np.rad2deg(yaw)), self._place(pivot)
        yield
        self._turn, self._pivot = outer
