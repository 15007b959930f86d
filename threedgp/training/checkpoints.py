"""Saved states of a run: written atomically, found again, and pruned."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import torch

from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say

_NAME = re.compile(r"state-(\d{9})\.pt")


class DamagedState(UserError):
    """A saved state cannot be read."""


def _path(folder: Path, images: int) -> Path:
    return folder / f"state-{images:09d}.pt"


def saved_states(folder: Path) -> list[int]:
    """Images shown at each saved state, in ascending order."""
    return sorted(int(match[1]) for path in folder.glob("state-*.pt") if (match := _NAME.fullmatch(path.name)))


def save_state(
    folder: Path, images: int, state: dict[str, Any], *, keep: int, archive: int = 0, good: int = -1
) -> None:
    """Write `state`, tensors and plain values, and remove older states except the `keep` newest ones, those of the
    archive and that of `good` images. The archive is the first state after every multiple of `archive` images; 0 =
    none. Raises OSError if the disk is full; earlier states are not touched. PyTorch may wrap it in a RuntimeError."""
    # Given a path, PyTorch writes the file itself, and its error does not tell that the disk is full.
    with atomic_path(_path(folder, images)) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
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
    """Load a saved state to `device`. Loads tensors and plain values only, never code. Raises DamagedState if it cannot
    be read."""
    path = _path(folder, images)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # PyTorch raises nearly everything on damaged files
        if os.strerror(errno.ENOMEM) in str(error):
            raise
        raise DamagedState(f"{path}: the saved state is damaged; remove it to use the previous one.") from None


def load_newest(folder: Path, device: torch.device) -> tuple[int, dict[str, Any]] | None:
    """The newest readable state and the number of images it had shown; None if nothing was saved. Newer, damaged states
    are renamed and reported. Raises UserError if no state can be read; then none is renamed."""
    states = saved_states(folder)[::-1]
    for number, images in enumerate(states):
        try:
            state = load_state(folder, images, device)
        except DamagedState:
            continue
        for damaged in states[:number]:
            path = _path(folder, damaged)
            aside = path.rename(f"{path}.damaged")
            say(f"train: {path} is damaged: renamed to {aside.name}; continuing from {images} images")
        return images, state
    if states:
        raise UserError(
            f"{folder}: none of the saved states can be read ({', '.join(_path(folder, n).name for n in states)}); "
            "restore a copy, or remove them and run the same command again to train from the start."
        )
    return None
