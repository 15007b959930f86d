"""Saved states of a run: written whole or not at all, found again, and pruned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from threedgp.atomic import atomic_path, require_free

_NAME = re.compile(r"state-(\d{9})\.pt")


def _path(folder: Path, images: int) -> Path:
    return folder / f"state-{images:09d}.pt"


def saved_states(folder: Path) -> list[int]:
    """Images shown at each saved state, ascending."""
    return sorted(int(match[1]) for path in folder.glob("state-*.pt") if (match := _NAME.fullmatch(path.name)))


def _size(state: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        state = state.values()
    return sum(map(_size, state)) if not isinstance(state, str) and hasattr(state, "__iter__") else 0


def save_state(
    folder: Path, images: int, state: dict[str, Any], *, keep: int, archive: int = 0, good: int = -1
) -> None:
    """Write `state`, and remove older ones but for the `keep` newest, the archive and `good`.

    Args:
        folder: made if absent.
        images: shown so far; names the file.
        state: tensors and plain values.
        keep: number of states to keep, at least 1.
        archive: the first state after every so many images is kept for good; 0 = none.
        good: images shown at one that is kept, too.

    Raises:
        UserError: too little disk is free; the states written before are untouched.
    """
    require_free(folder, int(_size(state) * 1.1))
    with atomic_path(_path(folder, images)) as temporary:
        torch.save(state, temporary)
    before = 0
    for old in saved_states(folder)[:-keep]:
        if archive and old // archive > before:
            before = old // archive
        elif old != good:
            drop_state(folder, old)


def drop_state(folder: Path, images: int) -> None:
    """Remove one state."""
    _path(folder, images).unlink()


def load_state(folder: Path, images: int, device: torch.device) -> dict[str, Any]:
    """A saved state, on `device`. Loads tensors and plain values only, never code."""
    return torch.load(_path(folder, images), map_location=device, weights_only=True)
