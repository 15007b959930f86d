"""Random scenes: an animal of some class near the origin, the landscape around it, the sun and the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.animals import SPECIES, Species
from threedgp.data.world.bodies import Body
from threedgp.data.world.cameras import RADIUS, draw_camera, frame, view_of
from threedgp.data.world.coats import Coat, draw_coat
from threedgp.data.world.landscapes import FAR, LANDSCAPES, Landscape, build_prop, draw_landscape
from threedgp.data.world.solids import Solid, extents

Array = NDArray[np.float64]

CLASS_NAMES = list(SPECIES)
NEAR = 0.77
"""No ray meets the ground or an animal before this distance: rays of the camera model begin at 0.75."""
GROUND_DEPTH = 0.66
"""Depth of the ground below the origin, in frames."""
SIZE_RANGE = (0.85, 1.1)
"""Size of an animal relative to the mean of its class, uniform."""
OFFSET_STD, MAX_OFFSET = 0.08, 0.18
"""Offset of an animal from the origin along x and z, in frames."""
SUN_AZIMUTH_STD = 0.8
"""Direction of the sun around the vertical axis, radians; 0 shines into the animal's face."""
SUN_ELEVATION_RANGE = (0.6, 1.1)
"""Radians, uniform."""
PROP_SHARES = {"none": 0.35, "behind": 0.45, "in front": 0.1, "both": 0.1}
"""Where props stand, as seen from the camera."""


@dataclass(frozen=True)
class Scene:
    """Everything that an image shows, and the camera.

    A frame is half the height of an image of the class at the distance of the origin: `cameras.frame` of its mean fov.
    """

    label: int
    camera: Array  # [8]
    frame: float
    animal: tuple[Solid, ...]
    props: tuple[Solid, ...]
    scale: float  # scene units per unit of the animal
    feet: Array  # [3], position of the animal's origin
    coat: Coat
    landscape: Landscape
    sun: Array  # [3], unit vector towards the sun

    @property
    def solids(self) -> tuple[Solid, ...]:
        """All solids; a solid's number is its place here."""
        return self.animal + self.props

    @property
    def ground(self) -> float:
        """Height of the ground."""
        return -GROUND_DEPTH * self.frame


def draw_scene(seed: int, index: int) -> Scene:
    """Scene `index` of the world `seed`; it depends on nothing else."""
    random = np.random.default_rng([seed, index])
    label = int(random.integers(len(CLASS_NAMES)))
    species = SPECIES[CLASS_NAMES[label]]
    size = frame(species.fov)
    landscape = str(random.choice(species.landscapes))
    animal, scale, feet = _draw_animal(random, species, size)
    camera = _draw_camera(random, species.fov, animal)
    return Scene(
        label=label,
        camera=camera,
        frame=size,
        animal=animal,
        props=tuple(_draw_props(random, landscape, camera, size)),
        scale=scale,
        feet=feet,
        coat=draw_coat(str(random.choice(species.coats)), random),
        landscape=draw_landscape(landscape, random),
        sun=_draw_sun(random),
    )


def _draw_animal(random: np.random.Generator, species: Species, size: float) -> tuple[tuple[Solid, ...], float, Array]:
    """Parts in scene units, scene units per unit of the animal, and the position of the animal's origin."""
    body = Body(random)
    species.build(body)
    low, high = extents(body.parts, np.eye(3))
    low, high = low.min(axis=0), high.max(axis=0)
    scale = species.size * 2 * size / max(high[1] - low[1], high[2] - low[2]) * random.uniform(*SIZE_RANGE)
    x, z = np.clip(random.normal(0, OFFSET_STD, 2), -MAX_OFFSET, MAX_OFFSET) * size
    bottom = 0.0 if species.swims else low[1]
    feet = np.array([x, -GROUND_DEPTH * size - bottom * scale, z - scale * (low[2] + high[2]) / 2])
    return tuple(part.placed(scale, feet) for part in body.parts), scale, feet


def _draw_camera(random: np.random.Generator, mean_fov: float, animal: tuple[Solid, ...]) -> Array:
    """A camera without ground or animal nearer than `NEAR`; others (about 2 %) are drawn again."""
    while True:
        camera = draw_camera(random, mean_fov)
        view = view_of(camera)
        _, up, forward = view.axes
        bottom = view.focal * forward - up  # the steepest ray
        to_ground = (view.origin[1] + GROUND_DEPTH * frame(mean_fov)) / -bottom[1] * np.linalg.norm(bottom)
        to_animal = extents(animal, view.axes)[0][:, 2].min() - forward @ view.origin
        if min(to_ground, to_animal) > NEAR:
            return camera


def _draw_props(random: np.random.Generator, landscape: str, camera: Array, size: float) -> list[Solid]:
    """Props behind the animal and to its side as seen from the camera, and rocks in front of it."""
    where = str(random.choice(list(PROP_SHARES), p=list(PROP_SHARES.values())))
    kinds = LANDSCAPES[landscape][-1]
    right, forward = np.array([[np.cos(camera[0]), 0, np.sin(camera[0])], [np.sin(camera[0]), 0, -np.cos(camera[0])]])
    props: list[Solid] = []

    def add(kind: str, scale: float, ahead: float, widest: float) -> None:
        body = Body(random)
        build_prop(kind, body)
        across = random.choice((-1, 1)) * random.uniform(0.4, widest) * size
        place = across * right + ahead * forward - [0, GROUND_DEPTH * size, 0]
        props.extend(part.placed(scale * size, place) for part in body.parts)

    if where in ("behind", "both"):
        add(str(random.choice(kinds)), random.uniform(0.8, 1.2), random.uniform(0.3, 0.7) * (FAR - RADIUS), 0.95)
    if where in ("in front", "both"):
        add("rock", random.uniform(0.55, 0.85), -random.uniform(0.25, 0.4) * size, 0.9)
    return props


def _draw_sun(random: np.random.Generator) -> Array:
    azimuth, elevation = random.normal(0, SUN_AZIMUTH_STD), random.uniform(*SUN_ELEVATION_RANGE)
    return np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
