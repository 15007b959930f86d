"""Saved states of a run: written whole or not at all, found again, and pruned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from threedgp.atomic import atomic_path, require_free

_NAME = re.compile(r"state-(\d{9})\.pt")


def _states(folder: Path) -> list[Path]:
    """Saved states, oldest first."""
    return sorted(path for path in folder.glob("state-*.pt") if _NAME.fullmatch(path.name))


def save_state(folder: Path, images: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write `state` and remove all but the `keep` newest.

    Args:
        folder: made if absent.
        images: shown so far; names the file.
        state: tensors and plain values.
        keep: number of states to keep, at least 1.

    Raises:
        UserError: too little disk is free; the states written before are untouched.
    """
    states = _states(folder)
    if states:
        require_free(folder, int(states[-1].stat().st_size * 1.1))
    path = folder / f"state-{images:09d}.pt"
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    for old in _states(folder)[:-keep]:
        old.unlink()
    return path


def load_newest_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest saved state, or None. Loads tensors and plain values only, never code."""
    states = _states(folder)
    return torch.load(states[-1], map_location=device, weights_only=True) if states else None
