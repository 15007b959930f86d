"""The scene of a model that looks like a given image: its style and camera, found by optimization."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.camera.geometry import LEARNED, PRIOR_FIELDS
from threedgp.models.generator import Generator, tunable_copy
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress

CANDIDATES = 512
"""Random scenes, of which the most similar one is the start."""
BATCH = 32
SCALES = (1, 2, 4, 8)
"""Factors by which images are reduced before they are compared, so that displaced parts give a useful gradient."""
STYLE_RATE, CAMERA_RATE, TUNING_RATE = 0.1, 0.02, 1e-3
"""Learning rates of the style in units of its deviation, of the camera in units of its range, and of the weights."""
STYLE_WEIGHT = 1e-3
"""Weight of the squared distance of the style from the mean, in deviations, which keeps it among those of scenes."""
ANGLE_UNIT = 0.5
"""Unit of camera parameters without bounds, in radians."""


class Inversion(NamedTuple):
    """A scene and the camera that sees the image."""

    w: Tensor
    """`[1, w_dim]`"""
    camera: Tensor
    """`[1, 8]`"""
    start: tuple[Tensor, Tensor]
    """Style and camera of the random scene from which the optimization started."""


def image_distance(images: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of images `[B, 3, R, R]` and targets `[B, 3, R, R]`, or one target for all, over several
    scales: `[B]`."""
    total = images.new_zeros(len(images))
    for scale in SCALES:
        if scale > target.shape[-1]:
            break
        reduced, expected = (F.avg_pool2d(x, scale) for x in (images, target))
        total = total + (reduced - expected).abs().mean(dim=(1, 2, 3))
    return total


def _render(generator: Generator, w: Tensor, camera: Tensor, size: int) -> Tensor:
    return generator.render(generator.make_content(w), camera, size).rgb


@torch.inference_mode()
def _candidates(
    generator: Generator, target: Tensor, label: int | None, seed: int, bar: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    """Styles `[N, w_dim]`, cameras `[N, 8]` and distances `[N]` of random scenes."""
    styles, cameras, distances = [], [], []
    for start in range(0, CANDIDATES, BATCH):
        labels = None if label is None else [label] * BATCH
        z, classes, prior = sample_scenes(generator, BATCH, seed, start=start, labels=labels)
        styles.append(generator.map(z, classes, cameras=prior))
        cameras.append(generator.posterior(prior, z, classes))
        images = _render(generator, styles[-1], cameras[-1], target.shape[-1])
        distances.append(image_distance(images, target))
        bar.advance()
    return torch.cat(styles), torch.cat(cameras), torch.cat(distances)


def _camera_bounds(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum, maximum and unit `[8]` of each camera parameter; those that no camera generator changes have unit 0."""
    low, high = torch.full((8,), -math.inf), torch.full((8,), math.inf)
    unit = torch.zeros(8)
    unit[list(LEARNED)] = ANGLE_UNIT
    for name, column in PRIOR_FIELDS.items():
        low[column], high[column] = getattr(generator.camera_config, name)
        unit[column] = high[column] - low[column]
    return tuple(bound.to(generator.device) for bound in (low, high, unit))


def invert(
    generator: Generator, target: Tensor, label: int | None, *, steps: int, seed: int = 0, bar: Progress
) -> Inversion:
    """Find style and camera whose image is most similar to `target`.

    Args:
        generator: in evaluation mode, of a kind with density.
        target: `[1, 3, R, R]` in [-1, 1] on the device of the generator.
        label: class of the random scenes for the start; None = every class, or a model without classes.
        steps: of Adam, with a learning rate that falls to 0; the best of them counts.
        seed: of the random scenes.
        bar: advances by `CANDIDATES` / `BATCH` for the start and by 1 for each step.
    """
    styles, cameras, distances = (x.clone() for x in _candidates(generator, target, label, seed, bar))
    lowest, first = distances.min(dim=0)
    center, deviation = styles.mean(dim=0), styles.std(dim=0) + 1e-6
    low, high, unit = _camera_bounds(generator)
    start = best = (styles[first, None], cameras[first, None])
    # The prior `normal` also draws cameras from outside of its bounds.
    low, high = torch.minimum(low, start[1]), torch.maximum(high, start[1])
    offset = ((start[0] - center) / deviation).requires_grad_()
    shift = torch.zeros_like(start[1]).requires_grad_()
    optimizer = torch.optim.Adam([{"params": [offset], "lr": STYLE_RATE}, {"params": [shift], "lr": CAMERA_RATE}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        optimizer.zero_grad()
        # Inside of the prior, from which scenes were seen in training.
        w, camera = center + offset * deviation, (start[1] + shift * unit).clamp(low, high)
        distance = image_distance(_render(generator, w, camera, target.shape[-1]), target).sum()
        if distance < lowest:
            lowest, best = distance.detach(), (w.detach(), camera.detach())
        (distance + STYLE_WEIGHT * offset.square().sum()).backward()
        optimizer.step()
        schedule.step()
        bar.advance()
    return Inversion(*best, start)


def tune(generator: Generator, target: Tensor, found: Inversion, *, steps: int, bar: Progress) -> Generator:
    """A copy of the generator whose scene at the found style is more similar to the image, seen by the found camera.

    This is pivotal tuning (Roich et al. 2022, section 3.2) with `image_distance`. The style stays, so that the scene
    remains one of the model where the image does not show it.
    """
    tuned = tunable_copy(generator)
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=TUNING_RATE, betas=(0.9, 0.99))
    for _ in range(steps):
        optimizer.zero_grad()
        image_distance(_render(tuned, found.w, found.camera, target.shape[-1]), target).sum().backward()
        optimizer.step()
        bar.advance()
    return tuned.requires_grad_(False)
