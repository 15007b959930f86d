"""The training loop: steps, log, saved states, resumption, and the way back when a run diverges."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from threedgp.data.loader import ShardLoader
from threedgp.models.initialization import initial_networks
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import Stopped
from threedgp.runtime.progress import Progress, progress, say
from threedgp.training.checkpoints import Best, drop_state, load_newest, load_state, save_state, saved_states
from threedgp.training.distributed import ALONE, Team
from threedgp.training.divergence import Diverged, check, check_distance
from threedgp.training.logging import Logger, Means, Record, no_log
from threedgp.training.step import Trainer


class Measured(NamedTuple):
    """What a measurement found."""

    record: Record
    """Scalars for the curves."""
    distance: float
    """Says which model is best: the lowest; the same in every process."""


Measure = Callable[[Trainer, Callable[[], None]], Measured]
"""Measures the averaged generator. Calls the function that it is given often, equally often in every process; that
raises `Stopped` when the run is to stop."""


class Outcome(NamedTuple):
    """A finished run."""

    curves: list[Record]
    images: int
    """Shown until the model that `trainer.average` now is."""


def prepare_trainer(config: Any, loader: ShardLoader, device: torch.device, team: Team = ALONE) -> Trainer:
    """A trainer at the start of the run, for the classes and features that the data have.

    Raises:
        UserError: the data are not what the settings ask for.
    """
    if config.model.depth and not loader.has_depth:
        raise UserError("model.depth: the shards hold no depth; set depth.estimator and run `dvc repro` again.")
    counts = loader.class_counts
    networks = initial_networks(config, loader.num_classes, (counts / counts.sum()).tolist(), loader.embedding_dim)
    return Trainer(config, networks, device, team)


def train(
    trainer: Trainer,
    open_loader: Callable[[int], ShardLoader],
    folder: Path,
    *,
    open_log: Callable[[], Logger] = lambda: no_log,
    should_stop: Callable[[], bool] = lambda: False,
    show: Callable[[Trainer], None] = lambda trainer: None,
    measure: Measure | None = None,
) -> Outcome:
    """Train to the end of the run, from its newest saved state if there is one.

    Every process of the trainer's team calls this with the same arguments; the leader alone logs, shows and saves.

    Args:
        trainer: at the start of the run.
        open_loader: opens this process's share of the data at a position, in images.
        folder: for saved states; outlives the process, and all processes see it.
        open_log: an empty log. Asked for at the start and after every return to an earlier state; it then first takes
            the lines up to that state again.
        should_stop: asked before every step; one process that says so stops all.
        show: called at intervals, to draw what the generator makes.
        measure: called at intervals, in every process; cut off when the run is to stop, and called again when it goes
            on. None = nothing is measured.

    Returns:
        the curves, and which model `trainer.average` now is: the best or the last, as `train.publish` says.

    Raises:
        Stopped: `should_stop` said so; the state is saved.
        UserError: the run has diverged too often, no saved state can be read, or too little disk is free.
    """
    run = _Run(trainer, open_loader, folder, open_log, should_stop, show, measure)
    run.begin()
    while True:
        try:
            run.go_on()
            return run.outcome()
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
        measure: Measure | None,
    ) -> None:
        self.trainer, self.team, self.folder = trainer, trainer.team, folder
        self.open_loader, self.open_log, self.should_stop, self.show = open_loader, open_log, should_stop, show
        self.measure = measure
        self.settings = settings = trainer.config.train
        self.total = math.ceil(settings.kimg * 1000 / settings.batch_size) * settings.batch_size
        self.history: list[Record] = []
        self.means = Means()
        self.log: Logger = no_log
        self.best = Best()
        self.distances: Record = {}
        """Measured since the last line of the curves."""
        self.due: float | None = None
        """Images a second at a step whose measurement, pictures or line of the curves are still to come; None = all is
        done."""
        self.good = -1
        """Images shown at the newest measurement that was no divergence; a state was saved right after it."""
        self.saved = -1
        """Images shown at the newest saved state."""
        self.saved_due = False
        """Whether something was still due there."""
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
        if self.saved == self.trainer.images and self.saved_due == (self.due is not None):
            return
        check(self.means.gather(self.team), [], 0)
        self.returns = 0
        self._write()

    def _write(self) -> None:
        self.saved, self.saved_due = self.trainer.images, self.due is not None
        if self.team.leads:
            state = {
                "trainer": self.trainer.state_dict(),
                "means": self.means.state_dict(),
                "history": self.history,
                "best": self.best.state_dict(),
                "distances": self.distances,
                "due": self.due,
                "good": self.good,
                "rollbacks": self.rollbacks,
                "returns": self.returns,
            }
            archive, keep = round(self.settings.archive_kimg * 1000), self.settings.keep_states
            save_state(self.folder, self.saved, state, keep=keep, archive=archive, good=self.good)

    def _load(self) -> None:
        """Continue from the newest state that the leader can read; without one, make the first.

        Raises:
            UserError: no state can be read, or not all processes see the same.
        """
        # To main memory: on a GPU that training fills there is no room for everything a second time.
        memory = torch.device("cpu")
        found = load_newest(self.folder, memory) if self.team.leads else None
        newest = self.team.follow(found[0] if found else -1)
        if newest < 0:
            self._write()
        else:
            if self.team.any(newest not in saved_states(self.folder)):
                raise UserError(
                    f"{self.folder}: not all processes see the saved state of the first one; "
                    "run on a file system that all nodes share."
                )
            state = found[1] if found else load_state(self.folder, newest, memory)
            self.trainer.load_state_dict(state["trainer"])
            self.means.load_state_dict(state["means"], self.trainer.device)
            self.history, self.saved = state["history"], newest
            self.rollbacks, self.returns = state["rollbacks"], state["returns"]
            self.best.load_state_dict(state["best"])
            self.distances, self.due, self.good = state["distances"], state["due"], state["good"]
            self.saved_due = self.due is not None
        self.log = self.open_log() if self.team.leads else no_log
        for record in self.history[:-1]:
            self.log(record)
        if self.history:  # a log shows the newest histograms; writing thousands of older ones takes minutes
            self.log(self.history[-1], self.trainer.camera_histograms.lines[-1])

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
        if self.team.leads:
            for state in self._astray(problem):
                drop_state(self.folder, state)
        self._load()
        self.trainer.stream, self.rollbacks, self.returns = stream, rollbacks, self.returns + 1
        self.team.any(False)  # nobody may still be reading the state that is written anew
        self._write()
        if self.team.leads:
            say(
                f"{where}: back to {self.saved / 1000:g} thousand images with other random numbers "
                f"(time {rollbacks} of at most {self.settings.max_rollbacks})"
            )

    def _astray(self, problem: Diverged) -> list[int]:
        """Saved states that are no good."""
        states = saved_states(self.folder)
        if problem.measured and self.good in states:  # losses looked well all the time since
            return [state for state in states if state > self.good]
        # The newest that has led astray twice: the trouble may have begun before it.
        return [self.saved] if self.returns and len(states) > 1 else []

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
                while trainer.images < total or self.due is not None:
                    if self.due is None:
                        batch = next(batches)  # the first takes its time, as the state before it did
                        self._heed()
                        self.means.add(trainer.step(batch))
                        if bar:
                            bar.advance(settings.batch_size)
                        self.due = (trainer.images - began_images) / (time.monotonic() - began)
                    paused = time.monotonic()
                    if self._follow_up(self.due, bar):
                        began, began_images = time.monotonic(), trainer.images
                    else:
                        began += time.monotonic() - paused
        finally:
            loader.close()

    def _follow_up(self, speed: float, bar: Progress | None) -> bool:
        """All that comes after a step but the next: whether a line of the curves was among it.

        Args:
            speed: images a second since the line before.
            bar: the leader's.
        """
        settings, ends = self.settings, self.trainer.images >= self.total
        measures = self.measure and settings.metric_kimg and (ends or self._passes(settings.metric_kimg))
        ticks = ends or self._passes(settings.tick_kimg)
        if measures:
            self._measure(self.measure)
        if self.team.leads and settings.pictures_kimg and (ends or self._passes(settings.pictures_kimg)):
            self.show(self.trainer)
        if ticks:
            self._tick(bar, speed)
        self.due = None
        if ends or measures or self._passes(settings.save_kimg):
            self.save()
        return ticks

    def _heed(self) -> None:
        """Save and raise `Stopped` if the run is to stop."""
        if self.team.any(self.should_stop()):
            self.save()
            raise Stopped

    def _measure(self, measure: Measure) -> None:
        """Measure the averaged generator, and keep it if it is the best so far.

        Raises:
            Diverged: it is far worse than the best.
            Stopped: the run was asked to stop meanwhile; the state is saved, the measurement still due.
        """

        def heed() -> None:
            if self.team.any(self.should_stop()):
                raise Stopped

        try:
            found = measure(self.trainer, heed)
        except Stopped:
            self.save()
            raise
        check_distance(found.distance, self.best.distance, self.settings.metric_explosion_factor)
        self.best.offer(self.trainer.images, found.distance, self.trainer.average)
        self.good = self.trainer.images
        self.distances = found.record

    def outcome(self) -> Outcome:
        """The end of the run; gives the averaged generator the weights that are to be published."""
        if self.settings.publish == "last" or self.best.images < 0:
            return Outcome(self.history, self.trainer.images)
        self.best.restore(self.trainer.average)
        return Outcome(self.history, self.best.images)

    def _tick(self, bar: Progress | None, images_per_second: float) -> None:
        record = {"kimg": self.trainer.images / 1000} | self.means.gather(self.team) | self.trainer.schedules()
        check(record, self.history, self.settings.explosion_factor)
        self.means.clear()
        record |= self.distances
        self.distances = {}
        record["rollbacks"] = self.rollbacks
        record["images_per_second"] = images_per_second
        record["gpus"] = self.team.size if self.trainer.device.type == "cuda" else 0
        record["memory_gb"] = _peak_memory(self.trainer.device) / 1e9
        self.history.append(record)
        self.log(record, self.trainer.camera_histograms.end_line(record["kimg"]))
        if bar:
            bar.note(f"G {record['generator/loss']:.2f} D {record['discriminator/loss']:.2f}")


def _peak_memory(device: torch.device) -> int:
    """Most bytes that this process has had at once: on the GPU, or in all on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
