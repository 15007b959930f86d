"""What training writes down: means of scalars between two lines of the curves."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from threedgp.training.distributed import Team

Record = dict[str, float]
"""One line of the curves: `kimg` and the means of all scalars since the line before."""


class Logger(Protocol):
    """Where curves go while training."""

    def __call__(self, record: Record, cameras: Tensor | None = None) -> None:
        """Take one line, and the histograms of learned cameras that belong to it: int32 `[fields, bins]`."""


def no_log(record: Record, cameras: Tensor | None = None) -> None:
    """The logger that keeps nothing."""


class Means:
    """Means of scalars over steps and processes, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, stats: dict[str, Tensor]) -> None:
        """Scalars of one step, the same names in every process."""
        for name, value in stats.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def gather(self, team: Team) -> Record:
        """The means so far, over all processes; every process now holds the sums of the whole team."""
        if not self.sums:
            return {}
        total = torch.stack(list(self.sums.values())) / team.size
        team.sum([total])
        self.sums = dict(zip(self.sums, total, strict=True))
        counts = torch.tensor(list(self.counts.values()), dtype=total.dtype, device=total.device)
        return dict(zip(self.sums, (total / counts).tolist(), strict=True))

    def clear(self) -> None:
        """Begin the next line."""
        self.sums.clear()
        self.counts.clear()

    def state_dict(self) -> dict[str, Any]:
        """Sums of the line that is under way."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from `state_dict`, with scalars that come from `device`."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])
