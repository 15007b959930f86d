"""Samples of a generator: scenes as functions of a seed and an index, and how they are rendered."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from threedgp.camera.priors import PRIOR_DRAWS
from threedgp.models.generator import DETERMINISTIC, Generator, RenderOptions, Scenes
from threedgp.runtime.counter_rng import normal, uniform


class Samples(NamedTuple):
    """Rendered scenes."""

    images: Tensor
    """uint8 `[B, 3, R, R]`"""
    depth: Tensor | None
    """`[B, 1, R, R]`, distance along the ray in scene units; None without density."""
    cameras: Tensor
    """`[B, 8]`, posterior."""


@functools.lru_cache(maxsize=8)
def _class_bounds(probabilities: tuple[float, ...], device: torch.device) -> Tensor:
    # Cached, since a copy to a GPU in every phase of every step would make the host wait. Created outside of
    # inference mode, because inference tensors cannot be used in training.
    with torch.inference_mode(False):
        bounds = torch.tensor(probabilities, dtype=torch.float64).cumsum(0)
        return (bounds / bounds[-1])[:-1].to(torch.float32).to(device)


def draw_scenes(generator: Generator, seed: int, name: str, index: Tensor, labels: Tensor | None = None) -> Scenes:
    """Scenes with the given indices, int64 `[B]` on the device of the result.

    `name` separates uses of the same seed and index; `labels` are the classes, int64 `[B]`, None = drawn with the
    frequencies of the training data.
    """
    count, dtype = len(index), generator.dtype
    if not generator.num_classes:
        labels = None
    elif labels is None:
        bounds = _class_bounds(tuple(generator.class_probabilities or [1.0] * generator.num_classes), index.device)
        u = uniform((count,), seed, name, "label", index, dtype=dtype)
        labels = torch.bucketize(u.to(bounds.dtype), bounds, right=True)
    return Scenes(
        normal((count, generator.z_dim), seed, name, "z", index, dtype=dtype),
        labels,
        generator.prior(uniform((count, PRIOR_DRAWS), seed, name, "camera", index, dtype=dtype), labels),
    )


def sample_scenes(
    generator: Generator, count: int, seed: int, *, start: int = 0, labels: Tensor | Sequence[int] | None = None
) -> Scenes:
    """Scenes `start` to `start + count - 1` of the set `seed`; each depends on its seed and index only. `labels` as in
    `draw_scenes`."""
    device = generator.device
    index = torch.arange(start, start + count, device=device)
    if labels is not None:
        labels = torch.as_tensor(labels, dtype=torch.int64, device=device)
    return draw_scenes(generator, seed, "scenes", index, labels)


def to_uint8(rgb: Tensor) -> Tensor:
    """Rendered colors in [-1, 1], clamped and rounded to uint8 in [0, 255]."""
    return (rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def render_scenes(
    generator: Generator, scenes: Scenes, resolution: int, options: RenderOptions = DETERMINISTIC
) -> Samples:
    """Render each scene from its posterior camera."""
    cameras = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    content = generator.make_content(generator.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras))
    rendering = generator.render(content, cameras, resolution, options)
    return Samples(to_uint8(rendering.rgb), rendering.depth, cameras)
