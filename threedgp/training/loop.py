"""The training loop: steps and what follows them at intervals, until the run ends, is stopped or diverges."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from threedgp.config import Config
from threedgp.config.train import INITIALIZATION
from threedgp.data.loader import ShardLoader, on_device
from threedgp.models.initialization import initial_networks
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import Stopped
from threedgp.runtime.progress import Progress, progress, say
from threedgp.training.checkpoints import Checkpoints, RunState
from threedgp.training.distributed import SINGLE_PROCESS, TrainingGroup
from threedgp.training.divergence import Diverged, check, check_distance
from threedgp.training.logging import Logger, Means, Record, no_log
from threedgp.training.posthoc import FOLDER, reconstruct, save_snapshot
from threedgp.training.step import Trainer
from threedgp.training.transfer import start_from


class Measured(NamedTuple):
    """Result of a measurement."""

    record: Record
    """Scalars for the curves."""
    distance: float
    """The model with the lowest one is the best; the same in every process."""


Measure = Callable[[Trainer, Callable[[], None]], Measured]
"""Measures the averaged generator. Calls its second argument often, equally often in every process; that function
raises `Stopped` when the run has to stop."""


class Outcome(NamedTuple):
    """A finished run."""

    curves: list[Record]
    images: int
    """Images shown until the model that `trainer.average` now holds."""


def prepare_trainer(
    config: Config, loader: ShardLoader, device: torch.device, group: TrainingGroup = SINGLE_PROCESS
) -> Trainer:
    """A trainer at the start of a run, for the classes and features of the data. Raises UserError if the data lack what
    the settings require, or `train.init_from` does not fit them."""
    if config.model.depth and not loader.has_depth:
        raise UserError("model.depth: the shards hold no depth; set depth.estimator and run `dvc repro` again.")
    if config.camera.prior == "estimated" and not loader.fov_quantiles:
        raise UserError(
            f"camera.prior: 'estimated' needs fields of view, and depth.estimator '{loader.estimator}' gave none; "
            "choose simulated, moge or depth_pro and run `dvc repro` again, or choose another prior."
        )
    if config.camera.prior == "estimated" and group.is_main:
        low, high = config.camera.fov
        outside = [fov for fov in loader.fov_quantiles[0] if not low <= fov <= high]
        if outside:
            share = len(outside) / len(loader.fov_quantiles[0])
            say(f"train: {share:.0%} of the estimated fields of view are outside of camera.fov and are clamped to it")
    if config.model.depth and loader.depth_range and group.is_main:
        rays = config.camera.ray_end / config.camera.ray_start
        say(
            "train: metric depth of the images runs from {near:.3g} to {far:.3g} (medians), far / near is {ratio:.3g}; "
            "camera.ray_end / camera.ray_start is {rays:.3g}".format(**loader.depth_range, rays=rays)
        )
    probabilities = (loader.class_counts / loader.class_counts.sum()).tolist()
    networks = initial_networks(config, loader.num_classes, probabilities, loader.embedding_dim, loader.fov_quantiles)
    if config.train.init_from != INITIALIZATION:
        notes = start_from(expanded(config.train.init_from), *networks, loader.class_names)
        if group.is_main:
            say(f"train: starts from {config.train.init_from}" + (f"; new are {', '.join(notes)}" if notes else ""))
    return Trainer(config, networks, device, group)


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

    Every process of the trainer's group calls this with the same arguments; only the first one logs, shows and saves.

    Args:
        open_loader: opens this process's share of the data at a position, in images.
        folder: folder of the saved states, visible to all processes.
        open_log: creates an empty log. Called at the start and after every rollback; the lines so far are written
            again.
        should_stop: called before every step; one process that returns True stops all.
        show: called at intervals, to render samples.
        measure: called at intervals, in every process; interrupted if the run has to stop, and repeated when it is
            resumed. None = no measurements.

    Raises:
        Stopped: `should_stop` returned True; the state is saved.
        UserError: the run has diverged too often, no saved state can be read, or the disk is full.
    """
    run = RunState()
    checkpoints = Checkpoints(trainer, run, folder)
    checkpoints.restore()
    while True:
        log = _replayed_log(trainer, run, open_log)
        try:
            _Loop(trainer, run, checkpoints, log, should_stop, show, measure).run_to_end(open_loader)
            break
        except Diverged as problem:
            checkpoints.roll_back(problem)
    settings = trainer.config.train
    if settings.publish == "posthoc":
        if trainer.group.is_main:
            sigma_rel = settings.posthoc_ema.sigma_rel
            found = reconstruct(folder / FOLDER, sigma_rel)
            trainer.average.load_state_dict(found.state)
            difference = f"differs by {found.error:.2%} from that of sigma_rel {sigma_rel:g}"
            say(f"train: the profile of the published average {difference}")
        return Outcome(run.history, trainer.images)
    if settings.publish == "last" or run.best_images < 0:
        return Outcome(run.history, trainer.images)
    trainer.average.load_state_dict(run.best_weights)
    return Outcome(run.history, run.best_images)


@dataclass
class _Loop:
    """Steps of a run, and what follows them at intervals: measurements, samples, lines of the curves, saved states."""

    trainer: Trainer
    run: RunState
    checkpoints: Checkpoints
    log: Logger
    should_stop: Callable[[], bool]
    show: Callable[[Trainer], None]
    measure: Measure | None

    def __post_init__(self) -> None:
        self.group, self.settings = self.trainer.group, self.trainer.config.train
        batch_size = self.settings.batch_size
        self.total = math.ceil(round(self.settings.kimg * 1000, 6) / batch_size) * batch_size

    def run_to_end(self, open_loader: Callable[[int], ShardLoader]) -> None:
        """Train from the current state to the end. Raises Diverged (see `check`), or Stopped if the run was asked to
        stop; its state is then saved."""
        trainer, run = self.trainer, self.run
        seconds, first_image = 0.0, trainer.images
        with (
            closing(open_loader(trainer.images)) as loader,
            progress("train", self.total, done=trainer.images, visible=self.group.is_main) as bar,
        ):
            batches = on_device(iter(loader), trainer.device)
            while trainer.images < self.total or run.pending is not None:
                if run.pending is None:
                    start = time.monotonic()
                    batch = next(batches)  # may wait for the workers, so ask to stop afterwards
                    self._stop_if_asked()
                    run.means.add(trainer.step(batch))
                    bar.advance(self.settings.batch_size)
                    seconds += time.monotonic() - start
                    run.pending = (trainer.images - first_image) / seconds
                if self._follow_up(run.pending, bar):
                    seconds, first_image = 0.0, trainer.images

    def _follow_up(self, images_per_second: float, bar: Progress) -> bool:
        """Do everything that is scheduled after a step; returns whether a line of the curves was written."""
        settings = self.settings
        measures = self.measure and settings.metric_kimg and self._is_due(settings.metric_kimg)
        ticks = self._is_due(settings.tick_kimg)
        if measures:
            self._measure(self.measure)
        if self.group.is_main and settings.pictures_kimg and self._is_due(settings.pictures_kimg):
            self.show(self.trainer)
        snapshot_kimg = settings.posthoc_ema.snapshot_kimg
        if self.group.is_main and snapshot_kimg and self._is_due(snapshot_kimg):
            trainer = self.trainer
            save_snapshot(self.checkpoints.folder / FOLDER, trainer.images, trainer.power_averages, trainer.generator)
        if ticks:
            self._tick(bar, images_per_second)
        self.run.pending = None
        if measures or self._is_due(settings.save_kimg):
            self.checkpoints.save()
        return ticks

    def _is_due(self, kimg: float) -> bool:
        """Whether the run is at its end, or the last step passed a multiple of `kimg` thousand images (0 = none)."""
        every, images = round(kimg * 1000), self.trainer.images
        passed = every > 0 and images // every > (images - self.settings.batch_size) // every
        return passed or images >= self.total

    def _stop_if_asked(self) -> None:
        """Save and raise `Stopped` if any process was asked to stop."""
        if self.group.any(self.should_stop()):
            self.checkpoints.save()
            raise Stopped

    def _measure(self, measure: Measure) -> None:
        """Measure the averaged generator, and keep it if it is the best so far. Raises Diverged if it is far worse than
        the best, or Stopped if the run was asked to stop; the measurement is then pending."""
        found = measure(self.trainer, self._stop_if_asked)
        run, images = self.run, self.trainer.images
        check_distance(found.distance, run.best_distance, self.settings.metric_explosion_factor)
        if found.distance < run.best_distance:
            run.best_images, run.best_distance = images, found.distance
            weights = self.trainer.average.state_dict()
            run.best_weights = {name: value.to("cpu", copy=True) for name, value in weights.items()}
        run.last_good, run.distances = images, found.record

    def _tick(self, bar: Progress, images_per_second: float) -> None:
        """Write a line of the curves."""
        trainer, run = self.trainer, self.run
        record = {"kimg": trainer.images / 1000} | run.means.gather(self.group) | trainer.schedules()
        check(record, run.history, self.settings.explosion_factor)
        record |= run.distances | {
            "rollbacks": run.rollbacks,
            "images_per_second": images_per_second,
            "gpus": self.group.size if trainer.device.type == "cuda" else 0,
            "memory_gb": _peak_memory(trainer.device) / 1e9,
        }
        run.means, run.distances = Means(), {}
        run.history.append(record)
        self.log(record, trainer.camera_histograms.end_line())
        bar.note(f"G {record['generator/loss']:.2f} D {record['discriminator/loss']:.2f}")


def _replayed_log(trainer: Trainer, run: RunState, open_log: Callable[[], Logger]) -> Logger:
    """A new log with the lines so far; for all processes but the first, one that keeps nothing."""
    if not trainer.group.is_main:
        return no_log
    log = open_log()
    for record in run.history[:-1]:
        log(record)
    if run.history:  # a log shows the newest histograms only; writing thousands of older ones takes minutes
        log(run.history[-1], trainer.camera_histograms.lines[-1])
    return log


def _peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: that of tensors on the GPU, or its main memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
