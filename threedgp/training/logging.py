"""Curves of training: means of scalars and histograms of the learned cameras, one line per tick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS, LEARNED
from threedgp.camera.priors import LOOK_AT_PITCH_BOUNDS, LOOK_AT_YAW_BOUNDS
from threedgp.config import CameraConfig
from threedgp.training.distributed import TrainingGroup

Record = dict[str, float]
"""One line of the curves: `kimg` and the means of all scalars since the previous line."""


class Logger(Protocol):
    """Receives the curves during training."""

    def __call__(self, record: Record, cameras: Tensor | None = None) -> None:
        """Log one line and its histograms of the learned cameras, int32 `[fields, bins]`."""


def no_log(record: Record, cameras: Tensor | None = None) -> None:
    """A logger that discards everything."""


@dataclass
class Means:
    """Means of scalars over steps and processes, summed on the device without synchronization."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, stats: dict[str, Tensor]) -> None:
        """Add the scalars of one step, with the same names in every process."""
        for name, value in stats.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def gather(self, group: TrainingGroup) -> Record:
        """The means so far over all processes. Afterwards, every process holds the same sums: their means over
        processes."""
        if not self.sums:
            return {}
        total = torch.stack(list(self.sums.values())) / group.size
        group.sum([total])
        self.sums = dict(zip(self.sums, total, strict=True))
        counts = torch.tensor(list(self.counts.values()), dtype=total.dtype, device=total.device)
        return dict(zip(self.sums, (total / counts).tolist(), strict=True))


BINS = 32
FIELDS = [CAMERA_FIELDS[index] for index in LEARNED]


def bin_edges(config: CameraConfig) -> dict[str, np.ndarray]:
    """Bin edges of each field, `[BINS + 1]`, between the bounds of posterior cameras."""
    bounds = {"look_at_yaw": LOOK_AT_YAW_BOUNDS, "look_at_pitch": LOOK_AT_PITCH_BOUNDS}
    return {field: np.linspace(*bounds.get(field) or getattr(config, field), BINS + 1) for field in FIELDS}


class CameraHistograms:
    """Histograms of the posterior cameras since the previous line of the curves, and those of all earlier lines.

    The regularizers draw the same cameras in every process, so that nothing needs to be summed.
    """

    def __init__(self, config: CameraConfig, device: torch.device) -> None:
        edges = bin_edges(config)
        low, high = (torch.tensor([edges[field][end] for field in FIELDS], device=device) for end in (0, -1))
        self._low, self._scale = low, BINS / (high - low).clamp(min=1e-12)
        self._columns = torch.tensor(LEARNED, device=device)
        self._offsets = torch.arange(len(FIELDS), device=device) * BINS
        self.counts = torch.zeros(len(FIELDS) * BINS, dtype=torch.int64, device=device)
        self.lines = torch.zeros(0, len(FIELDS), BINS, dtype=torch.int32)
        """Counts of all T lines, `[T, fields, BINS]`, on the CPU."""

    @torch.no_grad()
    def add(self, cameras: Tensor) -> None:
        """Count posterior cameras `[N, 8]`."""
        place = ((cameras[:, self._columns] - self._low) * self._scale).long().clamp(0, BINS - 1) + self._offsets
        self.counts.scatter_add_(0, place.flatten(), torch.ones_like(place.flatten()))

    def end_line(self) -> Tensor:
        """Finish a line; returns its counts, int32 `[fields, BINS]`."""
        line = self.counts.to("cpu", torch.int32).view(1, len(FIELDS), BINS)
        self.lines = torch.cat([self.lines, line])
        self.counts.zero_()
        return line[0]

    def arrays(self, config: CameraConfig) -> dict[str, np.ndarray]:
        """For each field, counts of all lines `[T, BINS]` and edges `[BINS + 1]`."""
        counts = {field: self.lines[:, index].numpy() for index, field in enumerate(FIELDS)}
        return counts | {f"{field}_edges": values for field, values in bin_edges(config).items()}

    def state_dict(self) -> dict[str, Tensor]:
        """All lines, including the current one."""
        return {"counts": self.counts, "lines": self.lines}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state from `state_dict`."""
        self.counts.copy_(state["counts"])
        self.lines = state["lines"].cpu()
