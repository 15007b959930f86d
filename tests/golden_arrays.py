"""Reading the golden arrays, and the comparison that their README prescribes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load(folder: Path, name: str) -> dict[str, Tensor]:
    """Arrays of one golden file."""
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(folder / name).items()}


def assert_matches(actual: Tensor, golden: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to `tolerance` times the golden array's largest magnitude (float32 on a CPU)."""
    assert actual.shape == golden.shape
    error = (actual.detach() - golden).abs().max() / golden.abs().max()
    assert error <= tolerance, f"relative error {error:.2e} exceeds {tolerance:.0e}"
