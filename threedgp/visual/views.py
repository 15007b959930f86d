"""Scenes seen from several cameras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.models.generator import Generator, Rendering
from threedgp.models.sampler import Scenes, to_uint8
from threedgp.runtime.progress import Progress
from threedgp.visual.styles import TruncateTowards, scene_styles

SCENES_AT_ONCE = 8
"""Bounds memory: planes of a scene can take 100 MB."""


class Views(NamedTuple):
    """N scenes from F cameras each."""

    pictures: np.ndarray
    """uint8 `[N, F, R, R, 3]`"""
    depth: np.ndarray
    """float32 `[N, F, R, R]`, distance along the ray in scene units."""
    fov: np.ndarray
    """float32 `[N, F]`, degrees."""

    @property
    def normals(self) -> np.ndarray:
        """`[N, F, R, R, 3]`, of the depth maps, in the axes of each camera."""
        maps = self.depth.reshape(-1, *self.depth.shape[2:])
        return depth_normals(maps, self.fov.reshape(-1)).reshape(*self.depth.shape, 3)


def own_cameras(generator: Generator, scenes: Scenes) -> Tensor:
    """The posterior camera of each scene, `[N, 8]`: from where the model expects to be seen."""
    with torch.inference_mode():
        return generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)


def make_planes(
    generator: Generator, scenes: Scenes, truncation: float = 1.0, towards: TruncateTowards = "all"
) -> Tensor:
    """Planes `[N, 3, H, W, C]` of scenes."""
    with torch.inference_mode():
        return generator.make_planes(scene_styles(generator, scenes, truncation, towards))


def render_views(
    generator: Generator,
    scenes: Scenes,
    cameras: Tensor,
    resolution: int,
    bar: Progress,
    truncation: float = 1.0,
    towards: TruncateTowards = "all",
) -> Views:
    """Render every scene from its cameras.

    Args:
        generator: in evaluation mode.
        scenes: N of them.
        cameras: `[N, F, 8]`, on any device.
        resolution: R, pixels along each side.
        bar: advances by one for each picture.
        truncation: of the latent vectors; 1 = none.
        towards: what, see `TruncateTowards`.
    """
    return render_styles(generator, scene_styles(generator, scenes, truncation, towards), cameras, resolution, bar)


@torch.inference_mode()
def render_styles(generator: Generator, w: Tensor, cameras: Tensor, resolution: int, bar: Progress) -> Views:
    """Render the scenes of styles `[N, w_dim]`, each from its cameras; other arguments as in `render_views`."""
    pictures, depth = [], []
    for start in range(0, len(cameras), SCENES_AT_ONCE):
        part = slice(start, start + SCENES_AT_ONCE)
        planes = generator.make_planes(w[part])
        frames = [to_views(seen) for seen in _frames(generator, planes, cameras[part], resolution, bar)]
        pictures.append(np.stack([seen[0] for seen in frames], axis=1))
        depth.append(np.stack([seen[1] for seen in frames], axis=1))
    return Views(np.concatenate(pictures), np.concatenate(depth), cameras[..., FOV].cpu().float().numpy())


def _frames(
    generator: Generator, planes: Tensor, cameras: Tensor, resolution: int, bar: Progress
) -> Iterator[Rendering]:
    for frame in cameras.unbind(1):
        yield generator.render(planes, frame.to(planes.device), resolution, stop_when_opaque=True)
        bar.advance(len(frame))


def to_views(seen: Rendering) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as uint8 `[B, R, R, 3]`, and depth as float32 `[B, R, R]`."""
    return to_uint8(seen.rgb).permute(0, 2, 3, 1).cpu().numpy(), seen.depth[:, 0].cpu().numpy()
