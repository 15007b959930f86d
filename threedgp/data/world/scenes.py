"""Random scenes: one object of its class' shape, somewhere near the origin, and what is behind it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.cameras import draw_camera
from threedgp.data.world.shapes import SHAPES

Array = NDArray[np.float64]

CLASS_NAMES = list(SHAPES)
HALF_AXES = {
    "sphere": ((0.11, 0.15),),
    "box": ((0.08, 0.12),) * 3,
    "cylinder": ((0.08, 0.12), (0.10, 0.15)),
    "cone": ((0.12, 0.16), (0.12, 0.17)),
    "torus": ((0.15, 0.19),),
    "octahedron": ((0.15, 0.20),) * 3,
}
"""Smallest and largest half-axis in scene units: one for all axes, one across and one along y, or one for each."""
MAX_OFFSET = 0.03
"""From the origin to the object's centre. With the half-axes it keeps objects between the ends of the rays."""
PATTERNS = ("stripes", "checks", "spots", "gradient")
BACKGROUND_WAVES = 3


@dataclass(frozen=True)
class Texture:
    """Two colours mixed by a coarse pattern in the object's own space."""

    pattern: str
    colors: Array  # [2, 3]
    axes: Array  # [3, 3], orthonormal rows
    frequency: float  # periods in half an object
    phase: Array  # [3], in periods


@dataclass(frozen=True)
class Background:
    """Two muted colours mixed along a direction of the image plane, with a few slow waves on top."""

    colors: Array  # [2, 3]
    direction: Array  # [2]
    waves: Array  # [BACKGROUND_WAVES, 2], periods in half a picture
    phases: Array  # [BACKGROUND_WAVES], in periods
    tints: Array  # [BACKGROUND_WAVES, 3]


@dataclass(frozen=True)
class Scene:
    """All that a picture shows, and from where."""

    label: int
    camera: Array  # [8]
    to_world: Array  # [3, 3], columns are the object's half-axes
    centre: Array  # [3]
    texture: Texture
    light: Array  # [3], unit vector towards the light
    background: Background


def draw_scene(seed: int, index: int) -> Scene:
    """Scene number `index` of the world `seed`; depends on nothing else."""
    random = np.random.default_rng([seed, index])
    label = int(random.integers(len(CLASS_NAMES)))
    camera = draw_camera(random)
    sizes = [random.uniform(*bounds) for bounds in HALF_AXES[CLASS_NAMES[label]]]
    half_axes = {1: sizes * 3, 2: [sizes[0], sizes[-1], sizes[0]], 3: sizes}[len(sizes)]
    return Scene(
        label=label,
        camera=camera,
        to_world=_rotation(random) * half_axes,
        centre=_unit(random.normal(size=3)) * random.uniform(0, MAX_OFFSET),
        texture=_draw_texture(random),
        light=_draw_light(random, camera),
        background=_draw_background(random),
    )


def _draw_texture(random: np.random.Generator) -> Texture:
    hue = random.uniform()
    hues = hue, hue + random.uniform(0.25, 0.75)
    return Texture(
        pattern=PATTERNS[random.integers(len(PATTERNS))],
        colors=np.array([_rgb(h, random.uniform(0.7, 1.0), random.uniform(0.7, 1.0)) for h in hues]),
        axes=_rotation(random),
        frequency=random.uniform(0.8, 1.3),
        phase=random.uniform(size=3),
    )


def _draw_light(random: np.random.Generator, camera: Array) -> Array:
    # From above and from the camera's side, or objects would be mostly dark.
    angle = random.uniform(-1, 1) - camera[0]
    return _unit(np.array([np.sin(angle), random.uniform(0.3, 1.2), np.cos(angle)]))


def _draw_background(random: np.random.Generator) -> Background:
    angle = random.uniform(0, 2 * np.pi)
    colors = [_rgb(random.uniform(), random.uniform(0.05, 0.3), random.uniform(0.3, 0.9)) for _ in range(2)]
    return Background(
        colors=np.array(colors),
        direction=np.array([np.cos(angle), np.sin(angle)]),
        waves=random.uniform(-0.7, 0.7, size=(BACKGROUND_WAVES, 2)),
        phases=random.uniform(size=BACKGROUND_WAVES),
        tints=random.normal(0, 0.02, size=(BACKGROUND_WAVES, 3)),
    )


def _rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _rotation(random: np.random.Generator) -> Array:
    """A rotation matrix, uniform over all of them: that of a random unit quaternion."""
    w, x, y, z = _unit(random.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)
