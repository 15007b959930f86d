"""Scenes seen from several cameras."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.models.generator import Generator
from threedgp.models.scenes import Scenes
from threedgp.progress import Progress

SCENES_AT_ONCE = 8
"""Bounds memory: planes of a scene can take 100 MB."""


class Views(NamedTuple):
    """N scenes from F cameras each."""

    pictures: np.ndarray
    """uint8 `[N, F, R, R, 3]`"""
    depth: np.ndarray
    """float32 `[N, F, R, R]`, distance along the ray in scene units."""


def own_cameras(generator: Generator, scenes: Scenes) -> Tensor:
    """The posterior camera of each scene, `[N, 8]`: from where the model expects to be seen."""
    with torch.inference_mode():
        return generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)


def make_planes(generator: Generator, scenes: Scenes, truncation: float = 1.0) -> Tensor:
    """Planes `[N, 3, H, W, C]` of scenes."""
    with torch.inference_mode():
        return generator.make_planes(generator.map(scenes.z, scenes.labels, truncation))


@torch.inference_mode()
def render_views(
    generator: Generator, scenes: Scenes, cameras: Tensor, resolution: int, bar: Progress, truncation: float = 1.0
) -> Views:
    """Render every scene from its cameras.

    Args:
        generator: in evaluation mode.
        scenes: N of them.
        cameras: `[N, F, 8]`, on any device.
        resolution: R, pixels along each side.
        bar: advances by one for each picture.
        truncation: of the latent vectors; 1 = none.
    """
    pictures, depth = [], []
    for start in range(0, len(cameras), SCENES_AT_ONCE):
        part = slice(start, start + SCENES_AT_ONCE)
        labels = None if scenes.labels is None else scenes.labels[part]
        planes = make_planes(generator, Scenes(scenes.z[part], labels, scenes.prior_cameras[part]), truncation)
        frames = []
        for frame in cameras[part].unbind(1):
            frames.append(generator.render(planes, frame.to(planes.device), resolution))
            bar.advance(len(frame))
        rgb = torch.stack([seen.rgb for seen in frames], dim=1)  # [n, F, 3, R, R]
        rgb = (rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        pictures.append(rgb.permute(0, 1, 3, 4, 2).cpu().numpy())
        depth.append(torch.stack([seen.depth[:, 0] for seen in frames], dim=1).cpu().numpy())
    return Views(np.concatenate(pictures), np.concatenate(depth))
