"""How large a picture is drawn first, so that the page answers at once, and by which steps it becomes sharp."""

from __future__ import annotations

DRAFT_SECONDS = 0.08
"""A first picture that takes longer makes dragging feel heavy."""
PIECE_SECONDS = 0.1
"""How long drawing may go on before it looks whether its picture is still wanted."""
SMALLEST = 16
"""Pixels; less cannot be recognised."""
FIRST_GUESS = 2e-5
"""Seconds for a ray before any is measured: the published model on a slow CPU takes longer, any GPU less."""
WEIGHT = 0.5
"""Of a new measurement of the speed against all earlier ones."""


class Ladder:
    """Sizes from a draft to the finished picture, each about twice the one before, by the speed measured so far."""

    def __init__(self) -> None:
        self.seconds_per_ray = FIRST_GUESS
        self._known = False

    def measured(self, rays: int, seconds: float) -> None:
        """Take note that `rays` took `seconds`."""
        new = seconds / max(rays, 1)
        weight = WEIGHT if self._known else 1.0
        self.seconds_per_ray += weight * (new - self.seconds_per_ray)
        self._known = True

    def rungs(self, size: int) -> list[int]:
        """Pixels along each side of the pictures on the way to `size`, which is the last."""
        found = [size]
        while found[0] // 2 >= SMALLEST and found[0] ** 2 * self.seconds_per_ray > DRAFT_SECONDS:
            found.insert(0, found[0] // 2)
        return found

    def piece(self) -> int:
        """Rays that are drawn between two looks at whether the picture is still wanted."""
        return max(int(PIECE_SECONDS / max(self.seconds_per_ray, 1e-12)), SMALLEST**2)
