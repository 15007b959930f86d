"""Saved states of a run: written atomically, found again, pruned, and restored when the run is resumed or diverges."""

from __future__ import annotations

import errno
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from threedgp.runtime.atomic import atomic_path, remove_partial, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say
from threedgp.training.divergence import Diverged, check
from threedgp.training.logging import Means, Record
from threedgp.training.posthoc import FOLDER, drop_snapshots
from threedgp.training.step import Trainer

_NAME = re.compile(r"state-(\d{9,})\.pt")


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
    none. Raises UserError or OSError if the disk is full, which PyTorch may wrap in a RuntimeError; earlier states are
    not touched."""
    for newest in saved_states(folder)[-1:]:  # the next one is as large
        require_free(folder, _path(folder, newest).stat().st_size)
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
            say(f"{path} is damaged: renamed to {aside.name}; continuing from {_path(folder, images).name}")
        return images, state
    if states:
        raise UserError(
            f"{folder}: none of the saved states can be read ({', '.join(_path(folder, n).name for n in states)}); "
            "restore a copy, or remove them and run the same command again to start anew."
        )
    return None


@dataclass
class RunState:
    """State of a run besides that of the trainer; part of every saved state."""

    history: list[Record] = field(default_factory=list)
    """Lines of the curves so far."""
    means: Means = field(default_factory=Means)
    """Means of the scalars since the last line."""
    distances: Record = field(default_factory=dict)
    """Distances measured since the last line."""
    best_images: int = -1
    """Images shown until the model with the lowest distance; -1 before the first measurement."""
    best_distance: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Averaged weights of that model, on the CPU."""
    pending: float | None = None
    """Images per second at a step whose measurement, samples or line of the curves have not been completed; None = all
    have."""
    last_good: int = -1
    """Images shown at the last measurement without divergence; a state was saved right after it."""
    rollbacks: int = 0
    """Number of rollbacks in total."""
    retries: int = 0
    """Number of rollbacks to the newest saved state."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain containers."""
        return vars(self) | {"means": vars(self.means)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore a state from `state_dict`; the means on `device`."""
        sums = {name: value.to(device) for name, value in state["means"]["sums"].items()}
        vars(self).update(state, means=Means(sums, state["means"]["counts"]))


class Checkpoints:
    """Saves, restores and rolls back a run. Every process of its group calls the methods."""

    def __init__(self, trainer: Trainer, run: RunState, folder: Path) -> None:
        self.trainer, self.run, self.folder, self.group = trainer, run, folder, trainer.group
        self.newest: tuple[int, bool] | None = None
        """`_position` at the newest saved state."""

    def _position(self) -> tuple[int, bool]:
        return self.trainer.images, self.run.pending is not None

    def save(self) -> None:
        """Save, unless nothing has changed since the newest state. Raises Diverged if a mean is not finite; nothing was
        saved."""
        if self.newest != self._position():
            check(self.run.means.gather(self.group), [], 0)
            self.run.retries = 0
            self._write()

    def _write(self) -> None:
        self.newest = self._position()
        if self.group.is_main:
            config, images = self.trainer.config, self.trainer.images
            settings = config.train
            networks = {name: getattr(config, name).model_dump(mode="json") for name in ("camera", "model")}
            state = {"settings": networks, "trainer": self.trainer.state_dict(), "run": self.run.state_dict()}
            archive, keep = round(settings.archive_kimg * 1000), settings.keep_states
            save_state(self.folder, images, state, keep=keep, archive=archive, good=self.run.last_good)

    def restore(self) -> None:
        """Restore the newest state that the first process can read; without one, write the first. Raises UserError if
        no state can be read, or not all processes see the same folder."""
        # To main memory: on a GPU that training fills, there is no room for a second copy.
        memory = torch.device("cpu")
        found = load_newest(self.folder, memory) if self.group.is_main else None
        newest = self.group.max(found[0] if found else -1)
        if self.group.is_main:
            remove_partial(self.folder, "state-*.pt")
            drop_snapshots(self.folder / FOLDER, newest)
        if newest < 0:
            self._write()
            return
        if self.group.any(newest not in saved_states(self.folder)):
            raise UserError(
                f"{self.folder}: not all processes see the saved state of the first one; "
                "run on a file system that all nodes share."
            )
        state = found[1] if found else load_state(self.folder, newest, memory)
        self.trainer.load_state_dict(state["trainer"])
        self.run.load_state_dict(state["run"], self.trainer.device)
        self.newest = self._position()

    def roll_back(self, problem: Diverged) -> None:
        """Restore an earlier state, to continue with other random numbers. Raises UserError if there were too many
        rollbacks."""
        trainer, run, limit = self.trainer, self.run, self.trainer.config.train.max_rollbacks
        rollbacks, stream = run.rollbacks + 1, trainer.stream + 1
        message = f"train: {problem} after {trainer.images / 1000:g} thousand images"
        if rollbacks > limit:
            raise UserError(
                f"{message}, and the run was rolled back {run.rollbacks} times before (train.max_rollbacks). "
                "Start again with a lower train.generator_lr and train.discriminator_lr or a higher train.r1_gamma, "
                "or raise train.max_rollbacks to continue this run."
            )
        if self.group.is_main:
            states = saved_states(self.folder)
            # The newest state, if the run has diverged from it twice: the cause may be older.
            bad = states[-1:] if run.retries and len(states) > 1 else []
            if problem.measured and run.last_good in states:  # the losses did not show the divergence
                bad = [state for state in states if state > run.last_good]
            for state in bad:
                drop_state(self.folder, state)
        self.restore()
        trainer.stream, run.rollbacks, run.retries = stream, rollbacks, run.retries + 1
        self.group.any(False)  # all processes must have read the state before it is overwritten
        self._write()
        if self.group.is_main:
            say(
                f"{message}: back to {trainer.images / 1000:g} thousand images with other random numbers "
                f"(rollback {rollbacks} of at most {limit})"
            )
