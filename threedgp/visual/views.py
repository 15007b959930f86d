"""Scenes rendered from several cameras."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.models.generator import FOR_DISPLAY, Generator, Rendering
from threedgp.models.sampler import Scenes, to_uint8
from threedgp.runtime.progress import Progress

MAX_SCENES = 8
"""Scenes in memory at once; the planes of one can take 100 MB."""


class Views(NamedTuple):
    """N scenes from F cameras each."""

    images: np.ndarray
    """uint8 `[N, F, R, R, 3]`"""
    depth: np.ndarray | None
    """float32 `[N, F, R, R]`, distance along the ray in scene units; None without density."""
    fov: np.ndarray
    """float32 `[N, F]`, degrees."""

    @property
    def normals(self) -> np.ndarray:
        """Normals `[N, F, R, R, 3]` of the depth maps, in the axes of each camera."""
        maps = self.depth.reshape(-1, *self.depth.shape[2:])
        return depth_normals(maps, self.fov.reshape(-1)).reshape(*self.depth.shape, 3)


@torch.inference_mode()
def posterior_cameras(generator: Generator, scenes: Scenes) -> Tensor:
    """The camera that the model predicts for each scene, `[N, 8]`."""
    return generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)


@torch.inference_mode()
def render_views(generator: Generator, w: Tensor, cameras: Tensor, resolution: int, bar: Progress) -> Views:
    """Render N scenes of styles `[N, w_dim]` from F cameras each, `[N, F, 8]` on any device, at R = `resolution`, with
    the options `FOR_DISPLAY`; `bar` advances by one for each image."""
    images, depth = [], []
    for part, poses in zip(w.split(MAX_SCENES), cameras.split(MAX_SCENES), strict=True):
        content = generator.make_content(part)
        frames = []
        for frame in poses.unbind(1):
            rendering = generator.render(content, frame.to(generator.device), resolution, FOR_DISPLAY)
            frames.append(to_arrays(rendering))
            bar.advance(len(frame))
        images.append(np.stack([frame[0] for frame in frames], axis=1))
        if generator.has_density:
            depth.append(np.stack([frame[1] for frame in frames], axis=1))
    return Views(
        np.concatenate(images), np.concatenate(depth) if depth else None, cameras[..., FOV].cpu().float().numpy()
    )


def to_arrays(rendering: Rendering) -> tuple[np.ndarray, np.ndarray | None]:
    """Images as uint8 `[B, R, R, 3]` and depth as float32 `[B, R, R]`, None without density."""
    depth = None if rendering.depth is None else rendering.depth[:, 0].cpu().numpy()
    return to_uint8(rendering.rgb).permute(0, 2, 3, 1).cpu().numpy(), depth
