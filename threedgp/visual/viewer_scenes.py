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

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import front_circle
from threedgp.models.generator import Content, Generator, Rendering
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.runtime.progress import Progress
from threedgp.visual.grids import depth_colors, normal_colors
from threedgp.visual.meshes import CAMERAS, scene_mesh, write_mesh
from threedgp.visual.styles import TruncateTowards, scene_content
from threedgp.visual.viewer_refinement import RenderSpeed
from threedgp.visual.views import posterior_cameras, to_arrays

Kind = Literal["color", "depth", "normals"]
MESH_RESOLUTION = 128
NUM_CACHED_SCENES = 4
"""Scenes whose content is kept; that of one can take 100 MB."""


class SceneKey(NamedTuple):
    """Everything that the content of a scene depends on."""

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
        self.content = lru_cache(NUM_CACHED_SCENES)(self._make_content)
        self.speed = RenderSpeed()

    def _make_content(self, key: SceneKey) -> Content:
        return scene_content(self.generator, self.scene(key), key.truncation, self.towards)

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
        camera = torch.tensor([settings.camera], device=self.generator.device)
        rendering = self._render(self.content(settings.scene), camera, size, is_stale)
        if rendering is None:
            return None
        images, depth = to_arrays(rendering)
        if settings.kind == "depth":
            return depth_colors(depth[0])
        if settings.kind == "normals":
            return normal_colors(depth_normals(depth, np.array([settings.camera[FOV]])))[0]
        return images[0]

    @torch.inference_mode()
    def _render(self, content: Content, camera: Tensor, size: int, is_stale: Callable[[], bool]) -> Rendering | None:
        """Like `Generator.render`, in parts."""
        rest = self.generator.render_parts(content, camera, size, self.speed.chunk())
        parts = []
        while not is_stale():
            start = time.perf_counter()
            part = next(rest, None)
            if part is None:
                rgb, depth = torch.cat(parts, dim=1).mT.reshape(1, 4, size, size).split([3, 1], dim=1)
                return Rendering(rgb, depth)
            parts.append(part.cpu())  # also waits for a GPU, so that the measured time is that of the rays
            self.speed.measured(part.shape[1], time.perf_counter() - start)
        return None

    def mesh(self, key: SceneKey) -> bytes:
        """The scene as a GLB file. Raises NoSurface if the scene has none."""
        cameras = front_circle(self.generator.camera_config, CAMERAS, self.own_camera(key))
        surface = scene_mesh(self.generator, self.content(key), cameras, MESH_RESOLUTION, Progress())
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "scene.glb"
            write_mesh(file, surface)
            return file.read_bytes()
