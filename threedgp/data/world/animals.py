"""The animals: each class is a function that adds the parts of its body, in units of about a body's length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from threedgp.data.world.bodies import Body


def dog(body: Body) -> None:
    """Adds the parts of a dog."""
    body.limb("coat", (0, 0.93, 0.4, 0.27), (0, 0.97, -0.45, 0.2))
    body.legs((0.42, -0.48), 0.85, 0.16, (0.14, 0.085, 0.06), 0.22)
    body.limb("coat", (0, 1.05, 0.5, 0.2), (0, 1.36, 0.74, 0.15))
    tail = body.vary(-0.2, 0.4)
    body.limb("coat", (0, 1.05, -0.6, 0.07), (0, 1.2 + 0.5 * tail, -0.85, 0.06), (0, 1.3 + tail, -0.95, 0.03))
    with body.head((0, 1.45, 0.78)):
        body.ball("coat", (0, 0, 0), (0.2, 0.2, 0.22))
        body.limb("muzzle", (0, -0.05, 0.12, 0.13), (0, -0.1, 0.36, 0.085))
        body.ball("dark", (0, -0.06, 0.44), (0.055, 0.045, 0.045))
        body.ball("dark", (0.1, 0.07, 0.17), (0.04, 0.04, 0.04), pair=True)
        if body.vary(0, 1) < 0.6:
            body.ball("ear", (0.21, -0.04, -0.02), (0.045, 0.2, 0.11), (0, 0, -12), pair=True)
        else:
            body.limb("ear", (0.12, 0.13, -0.04, 0.08), (0.15, 0.34, -0.06, 0.02), pair=True)


def cat(body: Body) -> None:
    """Adds the parts of a cat."""
    body.limb("coat", (0, 0.66, 0.34, 0.21), (0, 0.68, -0.4, 0.21))
    body.legs((0.36, -0.42), 0.6, 0.12, (0.11, 0.075, 0.06), 0.16)
    body.limb("coat", (0, 0.75, 0.4, 0.17), (0, 0.95, 0.58, 0.14))
    tip = body.vary(-0.25, 0.25)
    tail = (0, 0.78, -0.55, 0.06), (0, 0.95, -0.8, 0.055), (0, 1.3, -0.85, 0.05), (0, 1.5, -0.85 - tip, 0.04)
    body.limb("coat", *tail)
    with body.head((0, 1.05, 0.62)):
        body.ball("coat", (0, 0, 0), (0.26, 0.22, 0.21))
        body.ball("muzzle", (0, -0.07, 0.16), (0.11, 0.085, 0.09))
        body.ball("pink", (0, -0.03, 0.25), (0.03, 0.025, 0.02))
        body.ball("iris", (0.11, 0.04, 0.18), (0.05, 0.055, 0.03), pair=True)
        body.ball("dark", (0.115, 0.04, 0.2), (0.02, 0.045, 0.02), pair=True)
        body.limb("ear", (0.15, 0.12, -0.02, 0.1), (0.21, 0.36, -0.04, 0.015), pair=True)


def horse(body: Body) -> None:
    """Adds the parts of a horse."""
    body.limb("coat", (0, 1.25, 0.42, 0.29), (0, 1.25, -0.5, 0.28))
    body.legs((0.48, -0.58), 1.15, 0.17, (0.17, 0.09, 0.065), 0.3, "hoof")
    body.limb("coat", (0, 1.4, 0.58, 0.23), (0, 1.95, 0.95, 0.14))
    body.limb("mane", (0, 1.6, 0.58, 0.13), (0, 2.1, 0.88, 0.09))
    body.limb("mane", (0, 1.4, -0.74, 0.07), (0, 1.15, -0.95, 0.1), (0, 0.6, -0.98, 0.05))
    with body.head((0, 2.0, 0.98)):
        body.limb("coat", (0, 0, 0, 0.17), (0, -0.22, 0.36, 0.1))
        body.ball("muzzle", (0, -0.25, 0.41), (0.1, 0.1, 0.1))
        body.ball("dark", (0.14, 0.0, 0.1), (0.035, 0.04, 0.04), pair=True)
        body.limb("coat", (0.08, 0.13, -0.06, 0.05), (0.1, 0.29, -0.05, 0.015), pair=True)
        body.limb("mane", (0, 0.15, -0.02, 0.06), (0, 0.02, 0.16, 0.04))


def elephant(body: Body) -> None:
    """Adds the parts of an elephant."""
    body.ball("coat", (0, 1.25, 0), (0.5, 0.52, 0.78))
    body.legs((0.45, -0.5), 1.0, 0.27, (0.24, 0.19, 0.17), 0.16, "hoof")
    body.limb("coat", (0, 1.35, -0.74, 0.06), (0, 0.75, -0.9, 0.03))
    with body.head((0, 1.55, 0.8)):
        body.ball("coat", (0, 0, 0.05), (0.36, 0.4, 0.36))
        curl = body.vary(0.0, 0.35)
        trunk = (0, -0.12, 0.32, 0.18), (0, -0.55, 0.5, 0.14), (0, -1.0, 0.52, 0.11), (0, -1.15 + curl, 0.75, 0.09)
        body.limb("coat", *trunk)
        body.ball("ear", (0.46, 0.0, -0.12), (0.06, 0.46, 0.36), (0, 30 + body.vary(-15, 15), 0), pair=True)
        body.limb("light", (0.17, -0.26, 0.28, 0.065), (0.21, -0.48, 0.55, 0.05), (0.2, -0.5, 0.75, 0.015), pair=True)
        body.ball("dark", (0.26, 0.06, 0.3), (0.04, 0.04, 0.04), pair=True)


def giraffe(body: Body) -> None:
    """Adds the parts of a giraffe."""
    body.limb("coat", (0, 1.72, 0.32, 0.3), (0, 1.55, -0.4, 0.24))
    body.legs((0.38, -0.45), 1.5, 0.16, (0.15, 0.085, 0.065), 0.25, "hoof")
    body.limb("coat", (0, 1.85, 0.45, 0.23), (0, 3.0, 0.98, 0.13))
    body.limb("mane", (0, 2.05, 0.4, 0.11), (0, 3.02, 0.87, 0.06))
    body.limb("coat", (0, 1.6, -0.62, 0.04), (0, 1.15, -0.7, 0.03))
    body.ball("mane", (0, 1.0, -0.71), (0.06, 0.16, 0.06))
    with body.head((0, 3.08, 1.0)):
        body.limb("coat", (0, 0, 0, 0.16), (0, -0.16, 0.36, 0.09))
        body.ball("muzzle", (0, -0.18, 0.41), (0.095, 0.09, 0.09))
        body.limb("mane", (0.07, 0.12, -0.03, 0.035), (0.09, 0.3, -0.05, 0.045), pair=True)
        body.ball("ear", (0.24, 0.07, -0.06), (0.13, 0.045, 0.06), (0, 0, -15), pair=True)
        body.ball("dark", (0.13, 0.02, 0.1), (0.04, 0.04, 0.04), pair=True)


def camel(body: Body) -> None:
    """Adds the parts of a camel."""
    body.limb("coat", (0, 1.35, 0.42, 0.3), (0, 1.35, -0.45, 0.27))
    body.legs((0.46, -0.52), 1.2, 0.17, (0.16, 0.09, 0.07), 0.28, "hoof")
    humps = (0.24, -0.34) if body.vary(0, 1) < 0.6 else (-0.05,)
    for z in humps:
        body.ball("mane", (0, 1.72, z), (0.19, 0.34, 0.24 if len(humps) == 2 else 0.34))
    neck = (0, 1.35, 0.66, 0.2), (0, 1.28, 1.0, 0.15), (0, 1.55, 1.22, 0.13), (0, 1.9, 1.26, 0.12)
    body.limb("coat", *neck)
    body.limb("coat", (0, 1.4, -0.7, 0.04), (0, 0.95, -0.8, 0.035))
    with body.head((0, 1.96, 1.26)):
        body.limb("coat", (0, 0, -0.02, 0.15), (0, -0.09, 0.3, 0.095))
        body.ball("muzzle", (0, -0.11, 0.35), (0.1, 0.09, 0.09))
        body.ball("ear", (0.13, 0.13, -0.08), (0.045, 0.08, 0.04), pair=True)
        body.ball("dark", (0.12, 0.03, 0.1), (0.035, 0.035, 0.035), pair=True)


def rabbit(body: Body) -> None:
    """Adds the parts of a rabbit."""
    body.ball("coat", (0, 0.46, -0.12), (0.34, 0.38, 0.46))
    body.ball("coat", (0, 0.5, 0.24), (0.22, 0.28, 0.22))
    body.ball("coat", (0.25, 0.32, -0.2), (0.15, 0.26, 0.27), pair=True)
    body.limb("coat", (0.24, 0.075, -0.3, 0.075), (0.26, 0.075, 0.08, 0.07), pair=True)
    body.limb("coat", (0.13, 0.4, 0.32, 0.09), (0.13, 0.07, 0.4, 0.07), pair=True)
    body.ball("light", (0, 0.42, -0.6), (0.13, 0.13, 0.12))
    with body.head((0, 0.88, 0.38)):
        body.ball("coat", (0, 0, 0), (0.22, 0.22, 0.27))
        body.ball("muzzle", (0, -0.06, 0.21), (0.12, 0.1, 0.1))
        body.ball("pink", (0, -0.01, 0.3), (0.035, 0.025, 0.025))
        body.ball("dark", (0.17, 0.05, 0.15), (0.04, 0.05, 0.045), pair=True)
        lean = body.vary(-0.25, 0.05)
        ear = (0.09, 0.15, -0.07, 0.06), (0.14, 0.45, -0.1 + 0.6 * lean, 0.09), (0.17, 0.78, -0.1 + lean, 0.035)
        body.limb("ear", *ear, pair=True)


def bird(body: Body) -> None:
    """Adds the parts of a bird."""
    tall = body.vary(0.35, 0.6)  # length of the legs
    body.ball("coat", (0, tall + 0.36, 0), (0.33, 0.33, 0.5), (-25, 0, 0))
    body.ball("belly", (0, tall + 0.36, 0.16), (0.27, 0.29, 0.33), (-25, 0, 0))
    body.ball("wing", (0.29, tall + 0.38, -0.1), (0.07, 0.22, 0.45), (-18, -6, 0), pair=True)
    body.ball("wing", (0, tall + 0.16, -0.62), (0.14, 0.045, 0.36), (-25, 0, 0))
    body.limb("beak", (0.12, tall + 0.2, 0.0, 0.05), (0.13, 0.04, 0.04, 0.035), (0.13, 0.035, 0.22, 0.03), pair=True)
    body.limb("beak", (0.13, 0.035, 0.04, 0.035), (0.23, 0.035, 0.17, 0.025), pair=True)
    with body.head((0, tall + 0.72, 0.34)):
        body.ball("crown", (0, 0.03, 0), (0.25, 0.24, 0.25))
        body.limb("beak", (0, 0.0, 0.2, 0.09), (0, -0.04, 0.5, 0.012))
        body.ball("dark", (0.2, 0.07, 0.12), (0.045, 0.05, 0.05), pair=True)


def fish(body: Body) -> None:
    """Adds the parts of a fish."""
    body.ball("coat", (0, 0.85, 0.05), (0.19, 0.36, 0.56))
    body.limb("coat", (0, 0.85, -0.3, 0.16), (0, 0.85, -0.6, 0.07))
    bend = body.vary(-25, 25)  # of the tail, degrees
    side = 0.25 * np.sin(np.deg2rad(-bend))
    body.ball("fin", (side, 1.0, -0.76), (0.03, 0.13, 0.27), (45, bend, 0))
    body.ball("fin", (side, 0.7, -0.76), (0.03, 0.13, 0.27), (-45, bend, 0))
    body.ball("fin", (0, 1.2, -0.06), (0.03, 0.17, 0.34), (-12, 0, 0))
    body.ball("fin", (0, 0.53, -0.16), (0.03, 0.14, 0.17), (35, 0, 0))
    body.ball("fin", (0.23, 0.74, 0.16), (0.03, 0.1, 0.19), (-25, -40, 0), pair=True)
    body.ball("light", (0.12, 0.93, 0.37), (0.06, 0.085, 0.085), pair=True)
    body.ball("dark", (0.155, 0.93, 0.39), (0.04, 0.05, 0.05), pair=True)
    body.ball("lip", (0, 0.81, 0.59), (0.07, 0.07, 0.06))


def turtle(body: Body) -> None:
    """Adds the parts of a turtle."""
    body.ball("shell", (0, 0.45, 0), (0.54, 0.42, 0.64))
    body.ball("rim", (0, 0.36, 0), (0.6, 0.13, 0.7))
    reach = body.vary(-0.12, 0.12)
    body.limb("skin", (0.36, 0.32, 0.42, 0.15), (0.55, 0.13, 0.56 + reach, 0.13), pair=True)
    body.limb("skin", (0.36, 0.32, -0.42, 0.15), (0.54, 0.13, -0.56 + reach, 0.13), pair=True)
    body.limb("skin", (0, 0.33, -0.6, 0.09), (0, 0.26, -0.86, 0.02))
    body.limb("skin", (0, 0.4, 0.55, 0.14), (0, 0.58, 0.88, 0.12))
    with body.head((0, 0.64, 0.95)):
        body.ball("skin", (0, 0, 0.04), (0.16, 0.15, 0.2))
        body.ball("skin", (0, -0.03, 0.17), (0.12, 0.1, 0.12))
        body.ball("dark", (0.12, 0.05, 0.14), (0.04, 0.045, 0.045), pair=True)


@dataclass(frozen=True)
class Species:
    """How a class looks, and how it is photographed."""

    build: Callable[[Body], None]
    coats: tuple[str, ...]  # names of coats in `coats.COATS`
    landscapes: tuple[str, ...]  # names of landscapes in `landscapes.LANDSCAPES`
    fov: float  # mean full angle of the field of view, degrees
    size: float  # mean of the larger of height and length, as a share of the image's side
    swims: bool = False  # whether it floats at the height where it is built; other animals stand on the ground


DRY, GREEN, COLD = ("savanna", "desert", "earth"), ("meadow", "earth", "savanna"), ("meadow", "snow", "earth")
SPECIES: dict[str, Species] = {
    "dog": Species(dog, ("tan", "black", "spotted", "cream", "chestnut"), COLD, 20, 0.80),
    "cat": Species(cat, ("tabby", "ginger", "black", "tuxedo", "cream"), ("meadow", "earth", "snow"), 17, 0.78),
    "horse": Species(horse, ("chestnut", "bay", "white", "black", "pinto"), GREEN, 24, 0.80),
    "elephant": Species(elephant, ("gray", "dusty"), DRY, 28, 0.78),
    "giraffe": Species(giraffe, ("reticulated", "rothschild"), ("savanna", "meadow", "desert"), 31, 0.76),
    "camel": Species(camel, ("camel", "dark_camel"), ("desert", "desert", "savanna", "earth"), 26, 0.80),
    "rabbit": Species(rabbit, ("gray_rabbit", "cream", "brown_rabbit", "dutch"), COLD, 14, 0.70),
    "bird": Species(bird, ("robin", "blue_tit", "canary", "cardinal", "magpie"), COLD, 15, 0.72),
    "fish": Species(fish, ("clown", "tang", "goldfish", "angel", "reef"), ("sea",), 18, 0.78, swims=True),
    "turtle": Species(turtle, ("green_turtle", "brown_turtle"), ("desert", "meadow", "earth"), 16, 0.84),
}
"""All classes; the number of a class is its place here."""
