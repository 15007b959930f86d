"""Sets of pictures, depth maps or normals that are compared with a set of real ones by the sliced Wasserstein distance.

The reference is one random half of the real set. The other half is a control, and the material of the controls
`blurred` and `background`, so that no control shares a picture with the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.evaluation.fakes import Fakes
from threedgp.evaluation.reals import RealSet, blurred
from threedgp.metrics import swd
from threedgp.metrics.streams import Stream
from threedgp.runtime.progress import progress

MODEL, UNTRAINED, OTHER_HALF = "model", "untrained", "other_half"
CONTROLS = (UNTRAINED, OTHER_HALF, "blurred", "background", "flat")
"""What stands beside the model."""
MOST_NORMALS = 512
"""Normal maps of a set that are compared: a third of the work of pictures, and enough to tell sets apart."""


@dataclass(frozen=True)
class Contest:
    """Sets that are compared with one reference."""

    reference: Stream
    contestants: dict[str, Stream]
    count: int
    """Pictures of each set that are taken."""


def picture_contest(reference: RealSet, other: RealSet | None, fakes: dict[str, Fakes], scratch: Path) -> Contest:
    """Pictures of the generators and of the controls against real ones.

    Args:
        reference, other: disjoint sets of real pictures; without the second there are no controls made of it.
        fakes: scenes of each generator, at least as many as real pictures.
        scratch: folder for pictures that are dear to make.
    """
    contestants = {name: scenes.column("image") for name, scenes in fakes.items()}
    if other:
        contestants |= {OTHER_HALF: other.pictures(), "blurred": other.pictures().map(blurred)}
        if hasattr(other.source, "read_backgrounds"):
            contestants["background"] = other.backgrounds(scratch / "backgrounds")
    return Contest(reference.pictures(), contestants, len(reference.rows))


def depth_contest(reference: RealSet, other: RealSet | None, fakes: dict[str, Fakes]) -> Contest:
    """Rendered depth maps and those of the controls against true ones, all in scene units."""
    contestants = {name: scenes.column("depth") for name, scenes in fakes.items()}
    if other:
        contestants |= {OTHER_HALF: other.true_depth(), "flat": flat(len(other.rows), other.resolution)}
    return Contest(reference.true_depth(), contestants, len(reference.rows))


def flat(count: int, resolution: int) -> Stream:
    """Depth maps of a plane: float32 batches `[n, 1, R, R]`."""
    plane = np.broadcast_to(np.float32(1), (count, 1, resolution, resolution))
    return Stream(count, [lambda: plane])


def normal_contest(reference: RealSet, other: RealSet | None, fakes: dict[str, Fakes]) -> Contest:
    """Normals of rendered depth and of true depth: which way the surfaces turn, that depth maps only hint at."""
    contestants = {name: rendered_normals(scenes) for name, scenes in fakes.items()}
    if other:
        contestants[OTHER_HALF] = other.true_normals()
    return Contest(reference.true_normals(), contestants, min(len(reference.rows), MOST_NORMALS))


def rendered_normals(scenes: Fakes) -> Stream:
    """Normals of generated scenes in the space of their cameras: float32 batches `[n, 3, R, R]`."""
    pairs = zip(scenes.column("depth").parts, scenes.column("camera").parts, strict=True)

    def part(depth: np.ndarray, cameras: np.ndarray) -> np.ndarray:
        normals = depth_normals(depth[:, 0], cameras[:, FOV])
        return np.ascontiguousarray(normals.transpose(0, 3, 1, 2), dtype=np.float32)

    return Stream(len(scenes), [lambda d=depth, c=cameras: part(d(), c()) for depth, cameras in pairs])


def named(metric: str, values: dict[str, float]) -> dict[str, float]:
    """The model's value under the metric's name, those of controls under both names: swd, swd_untrained."""
    return {metric if name == MODEL else f"{metric}_{name}": value for name, value in values.items()}


def swd_metrics(metric: str, contest: Contest, seed: int) -> dict[str, float]:
    """Sliced Wasserstein distance of every contestant."""
    resolution = next(iter(contest.reference)).shape[-1]
    total = swd.work(resolution, len(contest.contestants), contest.count)
    with progress(f"evaluate: {metric}", total) as bar:
        values = swd.sliced_wasserstein(
            contest.reference, contest.contestants, count=contest.count, seed=seed, advance=bar.advance
        )
    return named(metric, values)
