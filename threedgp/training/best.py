"""The best model of a run: the averaged generator that came closest to the real pictures."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn


class Best:
    """Keeps the weights with the lowest distance so far. They are part of every saved state, so that a run which is
    stopped or taken back to one goes on with what was best at that time."""

    def __init__(self) -> None:
        self.images, self.distance = -1, math.inf
        """When the best model was met, in images shown, and its distance. Before the first: -1 and infinity."""
        self._weights: dict[str, Tensor] = {}

    def offer(self, images: int, distance: float, average: nn.Module) -> None:
        """Keep `average`, on the CPU, if no earlier model came as close."""
        if distance < self.distance:
            self.images, self.distance = images, distance
            self._weights = {name: value.detach().cpu().clone() for name, value in average.state_dict().items()}

    def restore(self, average: nn.Module) -> None:
        """Give `average` the best weights; there must be some."""
        average.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {"images": self.images, "distance": self.distance, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.images, self.distance = state["images"], state["distance"]
        self._weights = {name: value.cpu() for name, value in state["weights"].items()}
