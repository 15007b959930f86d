"""Coats of the animals: colors of the parts, and patterns that run through the body as through a block of marble.

Colors are linear (the square of sRGB / 255, a gamma of 2), so that shading is a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threedgp.data.world.solids import Array, column, square

COLOR_STD = 0.07
"""Relative deviation of the brightness of a coat, and half of it for each color channel."""
CELLS = 60
"""Centers of the cells of the pattern `patches`, in a block around the animal."""
CELL_BLOCK = (-0.6, 0.1, -0.9), (0.6, 3.2, 1.3)


def color(code: str) -> NDArray[np.float64]:
    """Linear color `[3]` of an sRGB code such as `a0b1c2`."""
    return (np.array([*bytes.fromhex(code)]) / 255) ** 2


PALETTE = {
    "dark": "17130f",
    "light": "f4efe2",
    "pink": "d98a86",
    "hoof": "3a2f28",
    "iris": "a8b83c",
    "lip": "c25a3c",
    "skin": "7f9152",
    "beak": "e09a2e",
    "bark": "6b4e36",
    "leaf": "5d8a3c",
    "bush": "6f9445",
    "acacia": "7f8f45",
    "rock": "8d8880",
    "conifer": "3f6b56",
    "cactus": "6a9a58",
    "weed": "4f9a5c",
    "coral": "e0707a",
}
PAINTS = {paint: color(code) for paint, code in PALETTE.items()}
"""Paints of the props, and of the parts of animals that most coats share."""

# Pattern, then colors: coat, second color of the pattern, underside; then paints of parts that differ from the coat.
COATS: dict[str, tuple[str, str, str, str, dict[str, str]]] = {
    "tan": ("plain", "b5793f", "b5793f", "e3c394", {"muzzle": "4a3425", "ear": "7d4d27"}),
    "black": ("plain", "2e2927", "2e2927", "4a3c32", {"muzzle": "5c4433", "mane": "15110f"}),
    "cream": ("plain", "e2cfa8", "e2cfa8", "f5ead2", {"ear": "c9a877"}),
    "spotted": ("spots", "efe9dd", "3b2a20", "f8f4ea", {"ear": "33241b"}),
    "chestnut": ("plain", "8c4524", "8c4524", "c78a58", {"mane": "5f2a14", "ear": "6b3118"}),
    "tabby": ("stripes", "8e8373", "3d342b", "cfc5b2", {"muzzle": "e6dfd0"}),
    "ginger": ("stripes", "d98b43", "a9581f", "f3ddb9", {"muzzle": "f7ead2"}),
    "tuxedo": ("plain", "2c2a2c", "2c2a2c", "f2efe8", {"muzzle": "f6f3ec"}),
    "bay": ("plain", "6e3d20", "6e3d20", "8f5a35", {"mane": "1c1512", "muzzle": "2a1d16"}),
    "white": ("plain", "e6e1d6", "e6e1d6", "f3efe6", {"mane": "c9c0ae", "muzzle": "8d8078"}),
    "pinto": ("spots", "f0e8d9", "7d4526", "f4eee2", {"mane": "4b2a18"}),
    "gray": ("plain", "878789", "878789", "9b9793", {"ear": "7a7578", "hoof": "6b686a"}),
    "dusty": ("plain", "96816c", "96816c", "aa9780", {"ear": "8b7361", "hoof": "78675a"}),
    "reticulated": ("patches", "a9602a", "f0d9a8", "f3e3bd", {"mane": "8a4a22", "ear": "d9b27c", "muzzle": "d8b98c"}),
    "rothschild": ("patches", "7d4322", "e6c88f", "efdcae", {"mane": "6d3a1e", "ear": "c99f68", "muzzle": "ccab7c"}),
    "camel": ("plain", "c99a5b", "c99a5b", "dcb67e", {"mane": "a67640"}),
    "dark_camel": ("plain", "a3713f", "a3713f", "bd8d58", {"mane": "80532b"}),
    "gray_rabbit": ("plain", "8f8983", "8f8983", "e8e4de", {"ear": "a99088", "muzzle": "d8d2ca"}),
    "brown_rabbit": ("plain", "94693f", "94693f", "e5d3b8", {"ear": "b58a66", "muzzle": "dcc3a0"}),
    "dutch": ("spots", "f0ece4", "4c4038", "f8f5ef", {"ear": "4c4038"}),
    "robin": ("plain", "7a5c40", "7a5c40", "d9622b", {"wing": "5f4732", "beak": "3d3029"}),
    "blue_tit": ("plain", "4f86b8", "4f86b8", "f0cf4a", {"wing": "38689c", "crown": "3f78b5", "beak": "4a4640"}),
    "canary": ("plain", "eec52f", "eec52f", "f7e07a", {"wing": "cf9d22"}),
    "cardinal": ("plain", "c3302a", "c3302a", "d9513d", {"wing": "8e2322"}),
    "magpie": ("plain", "23262e", "23262e", "f3f1ec", {"wing": "2f4a68", "beak": "2b2724"}),
    "clown": ("bands", "ee7c23", "fbf3e4", "f39a3f", {"fin": "d55f14"}),
    "tang": ("plain", "2f6fd0", "2f6fd0", "4a94e6", {"fin": "f2cf3a", "lip": "2a58a8"}),
    "goldfish": ("plain", "f0992c", "f0992c", "f9d88c", {"fin": "f4b95c"}),
    "angel": ("bands", "f3dc5c", "2b3040", "f8ecae", {"fin": "e0b93a", "lip": "d9b640"}),
    "reef": ("spots", "d2407a", "f6d2d8", "ef8fae", {"fin": "8e3a9a"}),
    "green_turtle": ("patches", "56713a", "b6b36a", "86884d", {"rim": "b5a866", "skin": "8da05a"}),
    "brown_turtle": ("patches", "6f4a2a", "c79a58", "a17a48", {"rim": "c8a468", "skin": "a39a62"}),
}
"""All coats."""
FROM_COAT, FROM_SECOND, FROM_BELLY = (
    ("coat", "crown", "shell", "ear"),
    ("mane", "fin", "wing", "rim"),
    ("muzzle", "belly"),
)
"""Parts whose paint is a color of the coat unless the coat says otherwise."""
PATTERNED = ("coat", "shell")


@dataclass(frozen=True)
class Coat:
    """Colors and pattern of one animal."""

    pattern: str
    second: NDArray[np.float64]  # [3]
    underside: NDArray[np.float64]  # [3]
    paints: dict[str, NDArray[np.float64]]
    phases: NDArray[np.float64]  # [3]
    cells: NDArray[np.float64]  # [CELLS, 3]


def draw_coat(name: str, random: np.random.Generator) -> Coat:
    """A coat with slightly random colors and a random pattern."""
    pattern, *codes, own = COATS[name]
    tint = random.normal(1, COLOR_STD) * random.normal(1, COLOR_STD / 2, 3)
    main, second, underside = (color(code) * tint for code in codes)
    paints = PAINTS | dict.fromkeys(FROM_COAT, main) | dict.fromkeys(FROM_SECOND, second)
    paints |= dict.fromkeys(FROM_BELLY, underside) | {paint: color(code) * tint for paint, code in own.items()}
    phases, cells = random.uniform(0, 2 * np.pi, 3), random.uniform(*CELL_BLOCK, (CELLS, 3))
    return Coat(pattern, second, underside, paints, phases, cells)


def paint_coat(coat: Coat, main: Array, points: Array, upward: Array) -> Array:
    """Colors `[3, N]` of the patterned parts.

    Args:
        main: `[3, N]`, paint of each point.
        points: `[3, N]`, in the animal's own space.
        upward: `[N]`, y of the unit normals.
    """
    underside = np.clip((0.05 - upward) / 0.5, 0, 1)
    mixed = main + underside * (column(coat.underside, points) - main)
    return mixed + _pattern(coat, points) * (column(coat.second, points) - mixed)


def _pattern(coat: Coat, points: Array) -> Array:
    """Weight `[N]` of the second color."""
    x, y, z = points
    first, second, third = (float(phase) for phase in coat.phases)
    if coat.pattern == "stripes":
        return np.clip(2 * np.sin(22 * z + 1.5 * np.sin(7 * y + first) + 3 * x) - 0.3, 0, 0.85)
    if coat.pattern == "bands":
        return np.clip(6 * np.sin(9 * z + 0.5 * np.sin(4 * y) + 0.4 * np.sin(first)) - 3.5, 0, 1)
    if coat.pattern == "spots":
        waves = np.sin(7 * x + first) + np.sin(6 * y + second + 2 * x) + np.sin(6.5 * z + third + 1.5 * np.sin(3 * y))
        return np.clip(6 * (waves - 0.6), 0, 1)
    if coat.pattern == "patches":
        nearest = np.full_like(x, np.inf)
        runner_up = nearest.copy()
        for cell in coat.cells:
            distance = square(points - column(cell, points))
            runner_up = np.minimum(runner_up, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
        return np.clip(2 - (np.sqrt(runner_up) - np.sqrt(nearest)) / 0.04, 0, 1)
    return np.zeros_like(x)
