"""Scenes by number: latent vector, class and prior camera as functions of a seed and an index."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from threedgp.camera.priors import PRIOR_DRAWS, prior_cameras
from threedgp.models.generator import Generator
from threedgp.runtime.counter_rng import normal, uniform_sets


class Scenes(NamedTuple):
    """What scenes are made of."""

    z: Tensor
    """`[B, z_dim]`"""
    labels: Tensor | None
    """int64 `[B]`, None without classes."""
    prior_cameras: Tensor
    """`[B, 8]`"""


@functools.lru_cache(maxsize=8)
def _class_bounds(share: tuple[float, ...], device: torch.device) -> Tensor:
    # Kept, since a GPU would have to wait for it in each phase of every step; made outside of inference mode, whose
    # tensors could not be used in training later.
    with torch.inference_mode(False):
        bounds = torch.tensor(share, dtype=torch.float64).cumsum(0)
        return (bounds / bounds[-1])[:-1].to(torch.float32).to(device)


def draw_scenes(generator: Generator, seed: int, name: str, index: Tensor, labels: Tensor | None = None) -> Scenes:
    """Scenes for the numbers `index`.

    Args:
        generator: gives sizes, the prior, and how often each class occurs.
        seed: of the whole set.
        name: separates uses of the same seed and index.
        index: int64 `[B]`, on the device where the scenes are wanted.
        labels: int64 `[B]`, to choose the classes; None = drawn, as often as in the training data.
    """
    count, dtype = len(index), generator.mapping.w_average.dtype
    u_camera, u_label = uniform_sets({"camera": PRIOR_DRAWS, "label": 1}, seed, name, index=index, dtype=dtype)
    if generator.num_classes and labels is None:
        bounds = _class_bounds(tuple(generator.class_probabilities or [1.0] * generator.num_classes), index.device)
        labels = torch.bucketize(u_label[:, 0].contiguous().to(bounds.dtype), bounds, right=True)
    return Scenes(
        normal((count, generator.z_dim), seed, name, "z", index, dtype=dtype),
        labels if generator.num_classes else None,
        prior_cameras(generator.camera_config, u_camera),
    )


def sample_scenes(
    generator: Generator,
    count: int,
    seed: int,
    *,
    start: int = 0,
    labels: Tensor | Sequence[int] | None = None,
) -> Scenes:
    """`count` scenes of the set `seed`, from number `start`; each depends on seed and number alone.

    Args:
        labels: classes `[count]`; None = drawn, as often as in the training data.
    """
    device = generator.mapping.w_average.device
    index = torch.arange(start, start + count, device=device)
    if labels is not None:
        labels = torch.as_tensor(labels, dtype=torch.int64, device=device)
    return draw_scenes(generator, seed, "scenes", index, labels)
