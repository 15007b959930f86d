"""The training loop: steps, log, saved states, resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from threedgp.data.loader import ShardLoader
from threedgp.errors import UserError
from threedgp.progress import progress
from threedgp.training.state import load_newest_state, save_state
from threedgp.training.trainer import Trainer, build_networks

Record = dict[str, float]
"""One line of the curves: `kimg` and the means of all scalars since the line before."""


class Logger(Protocol):
    """Where curves go while training."""

    def __call__(self, record: Record) -> None:
        """Take one line; after a resumption the lines before it come again first."""


class Stopped(Exception):
    """Training was asked to stop; its state is saved."""


def prepare_trainer(config: Any, loader: ShardLoader, device: torch.device) -> Trainer:
    """A trainer at the start of the run, for the classes and features that the data have."""
    counts = loader.class_counts
    networks = build_networks(config, loader.num_classes, (counts / counts.sum()).tolist(), loader.embedding_dim)
    return Trainer(config, networks, device)


class _Means:
    """Means of scalars, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, stats: dict[str, Tensor]) -> None:
        for name, value in stats.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        """Sums of the tick that is under way."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def take(self) -> Record:
        means = {name: (total / self.counts[name]).item() for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


def train(
    trainer: Trainer,
    open_loader: Callable[[int], ShardLoader],
    folder: Path,
    *,
    log: Logger = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Train to the end of the run, from its newest saved state if there is one.

    Args:
        trainer: at the start of the run.
        open_loader: opens the data at a position, in images.
        folder: for saved states; outlives the process.
        log: takes every line of the curves.
        should_stop: asked after every step.

    Returns:
        the curves.

    Raises:
        Stopped: `should_stop` said so; the state is saved.
        UserError: a loss is not finite, or the disk is full.
    """
    settings = trainer.config.train
    history: list[Record] = []
    means = _Means()
    state = load_newest_state(folder, trainer.device)
    if state is not None:
        history = state["history"]
        means.load_state_dict(state["means"])
        trainer.load_state_dict(state["trainer"])
    for record in history:
        log(record)

    total = math.ceil(settings.kimg * 1000 / settings.batch_size) * settings.batch_size
    ticks, saves = (max(round(kimg * 1000), 1) for kimg in (settings.tick_kimg, settings.save_kimg))
    saved = trainer.images

    def save() -> None:
        nonlocal saved
        if saved < trainer.images:
            save_state(
                folder,
                trainer.images,
                {"trainer": trainer.state_dict(), "means": means.state_dict(), "history": history},
                keep=settings.keep_states,
            )
            saved = trainer.images

    loader = open_loader(trainer.images)
    try:
        batches = iter(loader)
        with progress("train", total, "images", done=trainer.images) as bar:
            began, began_images = time.monotonic(), trainer.images
            while trainer.images < total:
                means.add(trainer.step(next(batches)))
                bar.advance(settings.batch_size)
                before = trainer.images - settings.batch_size
                if trainer.images // ticks > before // ticks or trainer.images >= total:
                    record = {"kimg": trainer.images / 1000} | means.take() | trainer.schedules()
                    _check_finite(record)
                    passed = time.monotonic() - began
                    record["images_per_second"] = (trainer.images - began_images) / passed
                    began, began_images = time.monotonic(), trainer.images
                    history.append(record)
                    log(record)
                    bar.note(f"G {record['generator/loss']:.2f} D {record['discriminator/loss']:.2f}")
                if trainer.images // saves > saved // saves:
                    save()
                if should_stop():
                    save()
                    raise Stopped
    finally:
        loader.close()
    return history


def _check_finite(record: Record) -> None:
    bad = [name for name, value in record.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"train: {bad[0]} is not finite after {record['kimg']:g} thousand images; the run has diverged. "
            "Lower train.generator_lr and train.discriminator_lr, or raise train.r1_gamma."
        )
