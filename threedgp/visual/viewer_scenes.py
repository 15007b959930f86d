"""Images, depth and normals of a scene for the viewer, rendered in chunks that can be canceled, and its mesh."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import FOV, rays
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import front_circle
from threedgp.models.generator import Generator, Rendering
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.render.renderer import midpoint_randomness, render_rays
from threedgp.runtime.progress import Progress
from threedgp.visual.grids import depth_colors, normal_colors
from threedgp.visual.meshes import CAMERAS, scene_mesh, write_mesh
from threedgp.visual.styles import TruncateTowards, scene_planes
from threedgp.visual.viewer_refinement import RenderSpeed
from threedgp.visual.views import posterior_cameras, to_arrays

Kind = Literal["color", "depth", "normals"]
MESH_RESOLUTION = 128
NUM_CACHED_SCENES = 4
"""Scenes whose planes are kept; those of one can take 100 MB."""


class SceneKey(NamedTuple):
    """Everything that the planes of a scene depend on."""

    seed: int
    label: int | None
    """None = the random class of the seed."""
    truncation: float


class ViewSettings(NamedTuple):
    """Everything that an image depends on, except its size."""

    scene: SceneKey
    kind: Kind
    camera: tuple[float, ...]
    """In the order of `CAMERA_FIELDS`."""


class SceneRenderer:
    """Renders scenes of a model."""

    def __init__(self, generator: Generator, towards: TruncateTowards = "all") -> None:
        self.generator, self.towards = generator, towards
        self.planes = lru_cache(NUM_CACHED_SCENES)(self._make_planes)
        self.speed = RenderSpeed()

    def _make_planes(self, key: SceneKey) -> Tensor:
        return scene_planes(self.generator, self.scene(key), key.truncation, self.towards)

    def scene(self, key: SceneKey) -> Scenes:
        """The scene that `threedgp generate` shows for this seed and class."""
        labels = None if key.label is None else [key.label]
        return sample_scenes(self.generator, 1, 0, start=key.seed, labels=labels)

    def label(self, key: SceneKey) -> int | None:
        """The class of a scene; None for a model without classes."""
        labels = self.scene(key).labels
        return None if labels is None else int(labels)

    def own_camera(self, key: SceneKey) -> Tensor:
        """The camera that the model predicts for the scene, `[8]`."""
        return posterior_cameras(self.generator, self.scene(key))[0].cpu()

    def draw(
        self, settings: ViewSettings, size: int, is_stale: Callable[[], bool] = lambda: False
    ) -> np.ndarray | None:
        """The image, uint8 `[size, size, 3]`; None if `is_stale` returned True between two chunks of rays."""
        planes = self.planes(settings.scene)
        camera = torch.tensor([settings.camera], device=planes.device)
        rendering = self._render(planes, camera, size, is_stale)
        if rendering is None:
            return None
        images, depth = to_arrays(rendering)
        if settings.kind == "depth":
            return depth_colors(depth[0])
        if settings.kind == "normals":
            return normal_colors(depth_normals(depth, np.array([settings.camera[FOV]])))[0]
        return images[0]

    @torch.inference_mode()
    def _render(self, planes: Tensor, camera: Tensor, size: int, is_stale: Callable[[], bool]) -> Rendering | None:
        """Like `Generator.render`, in chunks of rays."""
        settings = self.generator.model_config.generator
        decoder = self.generator.decoder.effective()
        chunk = self.speed.chunk()
        parts = []
        for origins, directions in zip(*(x.split(chunk, dim=1) for x in rays(camera, size)), strict=True):
            if is_stale():
                return None
            start = time.perf_counter()
            count = origins.shape[1]
            randomness = midpoint_randomness(1, count, settings.coarse_samples, settings.fine_samples, origins)
            space = self.generator.ray_settings
            rays_seen = render_rays(planes, decoder, origins, directions, randomness, space, stop_when_opaque=True)
            # `cpu` also waits for a GPU, so that the measured time is that of the rays.
            parts.append(torch.cat([rays_seen.rgb, rays_seen.depth.reshape(1, count, 1)], dim=-1).cpu())
            self.speed.measured(count, time.perf_counter() - start)
        rgb, depth = torch.cat(parts, dim=1).mT.reshape(1, 4, size, size).split([3, 1], dim=1)
        return Rendering(rgb, depth)

    def mesh(self, key: SceneKey) -> bytes:
        """The scene as a GLB file. Raises NoSurface if the scene has none."""
        cameras = front_circle(self.generator.camera_config, CAMERAS, self.own_camera(key))
        surface = scene_mesh(self.generator, self.planes(key), cameras, MESH_RESOLUTION, Progress())
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "scene.glb"
            write_mesh(file, surface)
            return file.read_bytes()
