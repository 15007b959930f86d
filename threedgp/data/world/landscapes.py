"""Landscapes: textured ground, hills at the horizon, sky, and the props that stand around the animals.

The camera model ends every ray at distance `FAR`, so the world ends there too: the ground is a true plane up to that
distance, and hills and sky are painted on the sphere of that radius around the camera. The horizon is where plane and
sphere meet, as on a small planet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.bodies import Body
from threedgp.data.world.coats import color
from threedgp.data.world.solids import Array, assign, column

FAR = 1.25
"""Distance of the backdrop along every ray, scene units: where the rays of the camera model end."""
GROUND_WAVES = 6
"""Waves that make the texture of the ground: three slow ones, three fine ones."""

# Ground: two colors and the strength of its texture; hills: far and near; sky: at the horizon and above; then props.
LANDSCAPES: dict[str, tuple[tuple[str, str], float, tuple[str, str], tuple[str, str], tuple[str, ...]]] = {
    "meadow": (("84a548", "a9bd5c"), 1.0, ("8fb3b4", "7ba05f"), ("e9f0ea", "7fb4dc"), ("tree", "bush", "rock")),
    "savanna": (("c4a55a", "dcc37e"), 1.0, ("c2a88e", "b39a5c"), ("fbe9c6", "9cc0cf"), ("acacia", "rock", "bush")),
    "desert": (("e0b878", "edcd95"), 0.5, ("d9a987", "d9a066"), ("fdeccf", "8fc0d8"), ("cactus", "rock")),
    "snow": (("e3eaf2", "f6f8fa"), 0.4, ("a9bfd6", "c9d6e3"), ("f6e9e6", "93b7dc"), ("conifer", "rock")),
    "earth": (("9c7550", "b48d63"), 1.2, ("9aa3a8", "8a8f62"), ("f7dfc4", "a9bfd8"), ("tree", "rock", "bush")),
    "sea": (("c9c294", "ddd6a8"), 0.8, ("2f8aa3", "3f9aa0"), ("7fd0d2", "1f6ea8"), ("weed", "rock", "coral")),
}
"""All landscapes."""


@dataclass(frozen=True)
class Landscape:
    """Colors `[2, 3]` and random numbers of one landscape."""

    ground: NDArray[np.float64]
    hills: NDArray[np.float64]
    sky: NDArray[np.float64]
    roughness: float
    waves: NDArray[np.float64]  # [GROUND_WAVES, 3]: frequencies along x and z in radians per frame, phase
    ridges: NDArray[np.float64]  # [2, 5]: height, then two frequencies and two phases of the far and the near hills
    clouds: NDArray[np.float64]  # [3], phases


def draw_landscape(name: str, random: np.random.Generator) -> Landscape:
    """A landscape with slightly random colors."""
    ground, roughness, hills, sky, _ = LANDSCAPES[name]
    tints = random.normal(1, 0.07, (3, 1, 1)) * random.normal(1, 0.025, (3, 1, 3))
    palettes = np.array([[color(code) for code in codes] for codes in (ground, hills, sky)]) * tints
    angles, phases = random.uniform(0, 2 * np.pi, (2, GROUND_WAVES))
    frequencies = np.repeat([3.0, 17.0], GROUND_WAVES // 2) * random.uniform(0.7, 1.4, GROUND_WAVES)
    waves = np.stack([frequencies * np.cos(angles), frequencies * np.sin(angles), phases], axis=1)
    heights = random.uniform([0.2, 0.05], [0.5, 0.2])
    ridges = np.column_stack([heights, random.uniform(1.0, 3.5, (2, 2)), random.uniform(0, 2 * np.pi, (2, 2))])
    return Landscape(*palettes, roughness, waves, ridges, random.uniform(0, 2 * np.pi, 3))


def paint_ground(landscape: Landscape, x: Array, z: Array) -> Array:
    """Colors `[3, N]` of the ground at `x` and `z`, both `[N]` and in frames."""
    level = np.zeros_like(x)
    for along_x, along_z, phase in landscape.waves.tolist():
        level += np.sin(along_x * x + along_z * z + phase)
    mix = np.clip(0.5 + 0.22 * landscape.roughness * level, -0.2, 1.2)
    first, last = (column(each, x[None]) for each in landscape.ground)
    return first + mix * (last - first)


def paint_backdrop(landscape: Landscape, across: Array, above: Array) -> Array:
    """Colors `[3, N]` of hills and sky, as far to the right of the camera's heading and above the end of the ground.

    Both distances are `[N]`, in frames.
    """
    horizon, zenith = (column(each, above[None]) for each in landscape.sky)
    colors = horizon + np.clip(above / 1.8, 0, 1) * (zenith - horizon)
    first, second, third = landscape.clouds.tolist()
    cloud = np.sin(2.1 * across + first + np.sin(3 * above + second)) + np.sin(5.5 * above + 0.7 * across + third)
    colors += 0.25 * np.clip(cloud - 0.9, 0, 1) * np.clip(above - 0.4, 0, 1) * (1 - colors)
    for hill, ridge in zip(landscape.hills, landscape.ridges.tolist(), strict=True):
        height, slow, fast, one, other = ridge
        profile = height * (1 + 0.45 * np.sin(slow * across + one) + 0.25 * np.sin(2 * fast * across + other))
        assign(colors, np.flatnonzero(above < profile), hill)
    return colors


def build_prop(kind: str, body: Body) -> None:
    """Add the parts of a prop, in units of half the height of an image."""
    lean = body.vary(-0.1, 0.1)
    if kind == "tree":
        body.limb("bark", (0, 0, 0, 0.1), (lean, 0.75, 0, 0.06))
        body.ball("leaf", (lean, 1.05, 0), (0.4, 0.42, 0.4))
        body.ball("leaf", (lean - 0.22, 0.85, 0.1), (0.3, 0.3, 0.3))
        body.ball("leaf", (lean + 0.26, 0.9, 0), (0.28, 0.27, 0.28))
    elif kind == "acacia":
        body.limb("bark", (0, 0, 0, 0.07), (lean, 0.55, 0, 0.05), (lean - 0.22, 1.0, 0, 0.03))
        body.limb("bark", (lean, 0.55, 0, 0.045), (lean + 0.25, 0.98, 0, 0.03))
        body.ball("acacia", (lean, 1.08, 0), (0.62, 0.13, 0.5))
        body.ball("acacia", (lean + 0.1, 1.2, 0), (0.36, 0.1, 0.3))
    elif kind == "conifer":
        body.limb("bark", (0, 0, 0, 0.07), (0, 0.3, 0, 0.06))
        for low, high, radius in ((0.3, 0.75, 0.32), (0.6, 1.05, 0.25), (0.9, 1.4, 0.18)):
            body.limb("conifer", (0, low, 0, radius), (0, high, 0, 0.02))
    elif kind == "cactus":
        body.limb("cactus", (0, 0, 0, 0.12), (0, 0.95, 0, 0.11))
        body.limb("cactus", (0, 0.4, 0, 0.075), (0.3, 0.45, 0, 0.075), (0.32, 0.75 + lean, 0, 0.07))
        body.limb("cactus", (0, 0.55, 0, 0.07), (-0.27, 0.6, 0, 0.07), (-0.28, 0.85 - lean, 0, 0.065))
    elif kind == "weed":
        for x in (-0.12, 0.0, 0.13):
            sway, top = body.vary(-0.15, 0.15), body.vary(0.5, 1.1)
            body.limb("weed", (x, 0, 0, 0.05), (x + sway, 0.5 * top, 0, 0.045), (x - 0.3 * sway, top, 0, 0.015))
    elif kind == "coral":
        body.limb("coral", (0, 0, 0, 0.09), (0, 0.3, 0, 0.07), (-0.2, 0.55, 0, 0.05))
        body.limb("coral", (0.2, 0.6, 0.05, 0.05), (0, 0.3, 0, 0.06), (0, 0.7, 0, 0.05))
    elif kind == "bush":
        body.ball("bush", (-0.14, 0.12, 0), (0.2, 0.2, 0.18))
        body.ball("bush", (0.12, 0.15, 0.02), (0.22, 0.24, 0.2))
    else:
        body.ball("rock", (0, 0.06, 0), (0.26, 0.2, 0.2))
        body.ball("rock", (0.2, 0.03, 0.05), (0.16, 0.12, 0.14))
