"""Known ways in which training fails, found in the curves of a run, each described in one sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from threedgp.config import Config
from threedgp.runtime.progress import say
from threedgp.training.logging import Logger, Record

MIN_LINES = 5
MIN_SHARE = 0.05
"""A problem counts once it holds in the last lines of the curves: `MIN_LINES`, and this share of all."""
EDGE = 0.03
"""A mean camera parameter nearer to an end of its range than this fraction of it is at the end."""
COLLAPSED = 0.02
"""Deviation of a camera parameter that counts as none, as a fraction of its range."""
WORSE = 1.3
"""Ratio of a distance to the best one from which on a run counts as past its best."""
MIN_DIVERSITY = 0.5
"""Diversity within a class below which it has collapsed. Trained models of this project have 0.8 to 1."""
COLLAPSES = {"diversity/in_class": "a class", "diversity/lowest_class": "the least diverse class"}
"""Curves of diversity, each with the classes that it describes."""
MIN_CORRELATION = 0.5
"""Correlation of rendered and adapted depth below which rendered depth explains less than a quarter of the variance of
adapted depth. Trained models of this project have 0.84 to 0.93."""
MIN_RELIEF = 0.25
"""Deviation of rendered depth, as a fraction of that of adapted depth, below which the relief is the adaptor's. Trained
models of this project have 0.8 to 1.5."""


class Finding(NamedTuple):
    """A problem that the curves show up to their end."""

    since_kimg: float
    text: str
    """The problem, and its usual remedy."""


def _problems(line: Record, config: Config) -> Iterator[str]:
    """Problems that a line of the curves shows, each with its usual remedy."""
    train, loss = config.train, line["discriminator/loss"]
    chance = math.log(2) if train.loss == "relativistic" else 2 * math.log(2)
    if loss > 0.97 * chance:
        yield "the discriminator is at chance and teaches nothing; lower r1_gamma, or try loss: relativistic"
    if loss < 0.03 * chance:
        yield "the discriminator always wins; raise r1_gamma, or lower discriminator_lr"
    if line.get("discriminator/r1", 0) > loss:
        yield "R1 exceeds the discriminator's loss; lower r1_gamma"
    if line.get("camera/regularizer", 0) > 10 * abs(line["generator/loss"]):
        yield "the camera regularizer dominates the generator's loss; lower the weights of camera_regularizer"
    is_flat = line.get("generator/depth_deviation", 1) < MIN_RELIEF * line.get("generator/adapted_deviation", 1)
    if is_flat or line.get("generator/adapted_correlation", 1) < MIN_CORRELATION:
        yield (
            "the depth adaptor hides the geometry: its output does not follow rendered depth, or is much deeper; raise "
            "raw_depth_probability, or use depth_adaptor.mode half or affine"
        )
    if not config.camera.learned:
        return
    for name in ("yaw", "pitch", "fov"):
        low, high = getattr(config.camera, name)
        mean, deviation = line[f"camera/{name}_mean"], line[f"camera/{name}_std"]
        if deviation < COLLAPSED * (high - low):
            yield f"the learned {name} does not vary; raise the weights of camera_regularizer, or shorten its anneal"
        if min(mean - low, high - mean) < EDGE * (high - low):
            yield (
                f"the mean learned {name} is at the end of its range; widen camera.{name}, or raise its weight in "
                "camera_regularizer"
            )


def findings(curves: Sequence[Record], config: Config) -> list[Finding]:
    """Problems that hold from some line of the curves to the last one, the oldest first.

    Args:
        curves: lines of the curves, as training logs them.
        config: settings of the run.
    """
    found = []
    problems = [set(_problems(line, config)) for line in curves]
    for text in problems[-1] if problems else ():
        streak = _streak([text in some for some in problems])
        if streak >= max(MIN_LINES, MIN_SHARE * len(curves)):
            found.append(Finding(curves[-streak]["kimg"], text))
    for name in sorted({name for line in curves for name in line if name.startswith(("distance/", "diversity/"))}):
        measured = [line for line in curves if name in line]
        if name in COLLAPSES:
            holds = [line[name] < MIN_DIVERSITY for line in measured]
            remedy = "raise r1_gamma, try loss: relativistic, or add images"
            text = f"generated images of {COLLAPSES[name]} are almost alike; {remedy}"
        else:
            best = min(line[name] for line in measured)
            holds = [line[name] > WORSE * best for line in measured]
            text = f"{name} stays above {WORSE:g} times its best; raise r1_gamma or lower the learning rates"
        streak = _streak(holds)
        if streak >= 2:
            found.append(Finding(measured[-streak]["kimg"], text))
    return sorted(found)


class HealthLog:
    """A logger that passes everything on to `log`, and prints a problem when the curves begin to show it."""

    def __init__(self, config: Config, log: Logger) -> None:
        self._config, self._log = config, log
        self._curves: list[Record] = []
        self._said: set[str] = set()

    def __call__(self, record: Record, cameras: Tensor | None = None) -> None:
        """Log one line, see `Logger`."""
        self._log(record, cameras)
        self._curves.append(record)
        if cameras is None:  # a line that is written again after a stop or a rollback
            return
        found = findings(self._curves, self._config)
        for since_kimg, text in found:
            if text not in self._said:
                say(f"train: since {since_kimg:g} thousand images, {text}")
        self._said = {finding.text for finding in found}


def _streak(holds: Sequence[bool]) -> int:
    """Number of true values at the end."""
    return len(list(itertools.takewhile(bool, reversed(holds))))
