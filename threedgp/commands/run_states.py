"""Models of a run that is being trained, from its saved states."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from threedgp.config import Config
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_generator
from threedgp.runtime.errors import UserError
from threedgp.training.checkpoints import DamagedState, load_state, saved_states

INTERVAL = 5.0
"""Seconds between two looks at the folder."""


def require_settings(folder: Path, state: dict[str, Any], config: Config) -> None:
    """Raise UserError if a saved state of the run in `folder` was trained with other settings of the model than
    `config`."""
    for name, values in state["settings"].items():
        if values != getattr(config, name).model_dump(mode="json"):
            raise UserError(
                f"{folder}: section {name} of the run has other settings; name the run's settings (--params)."
            )


class StateWatch:
    """The newest averaged generator of a run."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        class_counts: list[int],
        device: torch.device,
        fov_quantiles: list[list[float]] | None = None,
    ) -> None:
        """`folder` is that of the run in ``.scratch/train``, or its ``states``; `class_counts` and `fov_quantiles` are
        those of the shards."""
        self.images = -1
        """Images shown at the newest state that was loaded."""
        self._folder, self._config, self._device = folder, config, device
        self._class_counts = class_counts if config.model.class_conditional else []
        self._fov_quantiles = fov_quantiles
        self._ended = threading.Event()

    def newer(self) -> Generator | None:
        """The generator of the newest state, unless it was loaded before; None as well if it cannot be read yet. Raises
        UserError if the run has other settings of the model or other shards."""
        states = self._folder / "states"
        folder = states if states.is_dir() else self._folder
        newest = saved_states(folder)[-1:]
        if not newest or newest[0] == self.images:
            return None
        try:
            state = load_state(folder, newest[0], torch.device("cpu"))
        except DamagedState:  # removed in the meantime
            return None
        require_settings(self._folder, state, self._config)
        counts, sizes = self._class_counts, (self._config.camera, self._config.model, len(self._class_counts))
        probabilities = [count / sum(counts) for count in counts]
        generator = initial_generator(*sizes, probabilities, 0, self._fov_quantiles)
        try:
            generator.load_state_dict(state["trainer"]["average"])
        except RuntimeError:  # the shards have other classes
            raise UserError(
                f"{self._folder}: the run was trained on other shards; name the run's settings (--params)."
            ) from None
        self.images = newest[0]
        return generator.eval().requires_grad_(False).to(self._device)

    def follow(self, show: Callable[[Generator, int], None]) -> None:
        """Call `show` with every newer generator and its number of images, until `end` is called."""
        while not self._ended.wait(INTERVAL):
            generator = self.newer()
            if generator is not None:
                show(generator, self.images)

    def end(self) -> None:
        """Make `follow` return."""
        self._ended.set()
