"""The training loop: steps, log, saved states, resumption, and the way back when a run diverges."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from threedgp.data.loader import ShardLoader
from threedgp.errors import UserError
from threedgp.processes import Stopped
from threedgp.progress import Progress, progress, say
from threedgp.training.curves import Logger, Means, Record, no_log
from threedgp.training.distributed import ALONE, Team
from threedgp.training.divergence import Diverged, check
from threedgp.training.state import drop_state, load_state, save_state, saved_states
from threedgp.training.trainer import Trainer, build_networks


def prepare_trainer(config: Any, loader: ShardLoader, device: torch.device, team: Team = ALONE) -> Trainer:
    """A trainer at the start of the run, for the classes and features that the data have.

    Raises:
        UserError: the data are not what the settings ask for.
    """
    if config.model.depth and not loader.has_depth:
        raise UserError("model.depth: the shards hold no depth; set depth.estimator and run `dvc repro` again.")
    counts = loader.class_counts
    networks = build_networks(config, loader.num_classes, (counts / counts.sum()).tolist(), loader.embedding_dim)
    return Trainer(config, networks, device, team)


def train(
    trainer: Trainer,
    open_loader: Callable[[int], ShardLoader],
    folder: Path,
    *,
    open_log: Callable[[], Logger] = lambda: no_log,
    should_stop: Callable[[], bool] = lambda: False,
    show: Callable[[Trainer], None] = lambda trainer: None,
) -> list[Record]:
    """Train to the end of the run, from its newest saved state if there is one.

    Every process of the trainer's team calls this with the same arguments; the leader alone logs, shows and saves.

    Args:
        trainer: at the start of the run.
        open_loader: opens this process's share of the data at a position, in images.
        folder: for saved states; outlives the process, and all processes see it.
        open_log: an empty log. Asked for at the start and after every return to an earlier state; it then first takes
            the lines up to that state again.
        should_stop: asked after every step; one process that says so stops all.
        show: called at intervals, to draw what the generator makes.

    Returns:
        the curves.

    Raises:
        Stopped: `should_stop` said so; the state is saved.
        UserError: the run has diverged too often, or the disk is full.
    """
    run = _Run(trainer, open_loader, folder, open_log, should_stop, show)
    run.begin()
    while True:
        try:
            run.go_on()
            return run.history
        except Diverged as problem:
            run.go_back(problem)


class _Run:
    def __init__(
        self,
        trainer: Trainer,
        open_loader: Callable[[int], ShardLoader],
        folder: Path,
        open_log: Callable[[], Logger],
        should_stop: Callable[[], bool],
        show: Callable[[Trainer], None],
    ) -> None:
        self.trainer, self.team, self.folder = trainer, trainer.team, folder
        self.open_loader, self.open_log, self.should_stop, self.show = open_loader, open_log, should_stop, show
        self.settings = settings = trainer.config.train
        self.total = math.ceil(settings.kimg * 1000 / settings.batch_size) * settings.batch_size
        self.history: list[Record] = []
        self.means = Means()
        self.log: Logger = no_log
        self.saved = -1
        """Images shown at the newest saved state."""
        self.rollbacks = 0
        """How often the run was taken back."""
        self.returns = 0
        """How often it was taken back to the newest saved state."""

    # ---- States ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save, unless nothing has happened since.

        Raises:
            Diverged: instead of saving a state that is no good.
        """
        if self.saved == self.trainer.images:
            return
        check(self.means.gather(self.team), [], 0)
        self.returns = 0
        self._write()

    def _write(self) -> None:
        self.saved = self.trainer.images
        if self.team.leads:
            state = {
                "trainer": self.trainer.state_dict(),
                "means": self.means.state_dict(),
                "history": self.history,
                "rollbacks": self.rollbacks,
                "returns": self.returns,
            }
            archive = round(self.settings.archive_kimg * 1000)
            save_state(self.folder, self.saved, state, keep=self.settings.keep_states, archive=archive)

    def _load(self) -> None:
        """Continue from the leader's newest state; without one, make the first."""
        newest = self.team.follow(max(saved_states(self.folder), default=-1))
        if newest < 0:
            self._write()
        else:
            if self.team.any(newest not in saved_states(self.folder)):
                raise UserError(
                    f"{self.folder}: not all processes see the saved state of the first one; "
                    "run on a file system that all nodes share."
                )
            state = load_state(self.folder, newest, self.trainer.device)
            self.trainer.load_state_dict(state["trainer"])
            self.means.load_state_dict(state["means"])
            self.history, self.saved = state["history"], newest
            self.rollbacks, self.returns = state["rollbacks"], state["returns"]
        self.log = self.open_log() if self.team.leads else no_log
        for record in self.history:
            self.log(record)

    def begin(self) -> None:
        """Find out where the run stands."""
        self._load()

    def go_back(self, problem: Diverged) -> None:
        """Take the run back to a good state, to go on with other random numbers.

        Raises:
            UserError: it was taken back too often.
        """
        images, rollbacks, stream = self.trainer.images, self.rollbacks + 1, self.trainer.stream + 1
        where = f"train: {problem} after {images / 1000:g} thousand images"
        if rollbacks > self.settings.max_rollbacks:
            raise UserError(
                f"{where}, and the run was taken back {self.rollbacks} times before (train.max_rollbacks). "
                "Lower train.generator_lr and train.discriminator_lr, or raise train.r1_gamma."
            )
        if self.team.leads and self.returns and len(saved_states(self.folder)) > 1:
            drop_state(self.folder, self.saved)  # it has led astray twice; the trouble may have begun before it
        self._load()
        self.trainer.stream, self.rollbacks, self.returns = stream, rollbacks, self.returns + 1
        self.team.any(False)  # nobody may still be reading the state that is written anew
        self._write()
        if self.team.leads:
            say(
                f"{where}: back to {self.saved / 1000:g} thousand images with other random numbers "
                f"(time {rollbacks} of at most {self.settings.max_rollbacks})"
            )

    # ---- Steps -------------------------------------------------------------------------------------------------------

    def _passes(self, kimg: float) -> bool:
        """Whether the last step passed a multiple of `kimg` thousand images; 0 = never."""
        every, now = round(kimg * 1000), self.trainer.images
        return every > 0 and now // every > (now - self.settings.batch_size) // every

    def go_on(self) -> None:
        """Train from here to the end.

        Raises:
            Diverged: see `check`.
            Stopped: the run was asked to stop, and has saved its state.
        """
        trainer, settings, total = self.trainer, self.settings, self.total
        loader = self.open_loader(trainer.images)
        shown = progress("train", total, "images", done=trainer.images) if self.team.leads else nullcontext()
        try:
            batches = iter(loader)
            with shown as bar:
                began, began_images = time.monotonic(), trainer.images
                while trainer.images < total:
                    self.means.add(trainer.step(next(batches)))
                    if bar:
                        bar.advance(settings.batch_size)
                    ends = trainer.images >= total
                    if ends or self._passes(settings.tick_kimg):
                        self._tick(bar, (trainer.images - began_images) / (time.monotonic() - began))
                        began, began_images = time.monotonic(), trainer.images
                    if self.team.leads and settings.pictures_kimg and (ends or self._passes(settings.pictures_kimg)):
                        self.show(trainer)
                    if ends or self._passes(settings.save_kimg):
                        self.save()
                    if self.team.any(self.should_stop()):
                        self.save()
                        raise Stopped
        finally:
            loader.close()

    def _tick(self, bar: Progress | None, images_per_second: float) -> None:
        record = {"kimg": self.trainer.images / 1000} | self.means.gather(self.team) | self.trainer.schedules()
        check(record, self.history, self.settings.explosion_factor)
        self.means.clear()
        record["rollbacks"] = self.rollbacks
        record["images_per_second"] = images_per_second
        record["memory_gb"] = _peak_memory(self.trainer.device) / 1e9
        self.history.append(record)
        self.log(record)
        if bar:
            bar.note(f"G {record['generator/loss']:.2f} D {record['discriminator/loss']:.2f}")


def _peak_memory(device: torch.device) -> int:
    """Most bytes that this process has had at once: on the GPU, or in all on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
