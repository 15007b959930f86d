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

from threedgp.camera.geometry import FOV, PRIOR_FIELDS
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import PATHS, front_circle, points
from threedgp.models.generator import Content, Generator, Rendering
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.runtime.progress import Progress
from threedgp.visual.grids import depth_colors, normal_colors
from threedgp.visual.meshes import CAMERAS, scene_mesh, write_mesh
from threedgp.visual.styles import TruncateTowards, interpolate_styles, scene_styles
from threedgp.visual.video import SUFFIX, write_video
from threedgp.visual.viewer_refinement import RenderSpeed
from threedgp.visual.views import posterior_cameras, render_views, to_arrays

Kind = Literal["color", "depth", "normals"]
MESH_RESOLUTION = 128
NUM_FRAMES, FRAMES_PER_SECOND = 72, 24
"""Length and speed of a film."""
NUM_CAMERAS, LEARNED_SHARE = 512, 0.98
"""Cameras that are drawn for the range of the learned ones, and the share of them inside it."""
NUM_CACHED_SCENES = 4
"""Scenes whose content is kept; that of one can take 100 MB."""


class SceneKey(NamedTuple):
    """Everything that the content of a scene depends on."""

    seed: int
    label: int | None
    """None = the random class of the seed."""
    truncation: float
    other: int | None = None
    """Another seed; the scene is on the way to it."""
    share: float = 0.0
    """How far, in w: 0 = the seed itself, 1 = the other one."""

    def seeds(self) -> tuple[SceneKey, SceneKey]:
        """The two scenes between which this one lies."""
        return self._replace(other=None, share=0.0), self._replace(seed=self.other, other=None, share=0.0)


class ViewSettings(NamedTuple):
    """Everything that an image depends on, except its size."""

    scene: SceneKey
    kind: Kind
    camera: tuple[float, ...]
    """In the order of `CAMERA_FIELDS`."""
    version: int = 0
    """Number of models that the renderers have shown before."""


class SceneRenderer:
    """Renders scenes of a model."""

    def __init__(
        self, generator: Generator, towards: TruncateTowards = "all", name: str = "", sha256: str = ""
    ) -> None:
        """`name` and `sha256`, the checksum of the weights, describe the model."""
        self.towards, self.version, self.speed = towards, -1, RenderSpeed()
        self.replace(generator, name, sha256)

    def replace(self, generator: Generator, name: str = "", sha256: str = "") -> None:
        """Render scenes of another model from now on."""
        self.generator, self.name, self.sha256 = generator, name, sha256
        self.content = lru_cache(NUM_CACHED_SCENES)(self._make_content)
        self.learned = self._learned_ranges()
        self.version += 1

    @torch.inference_mode()
    def _learned_ranges(self) -> dict[str, tuple[float, float]]:
        """For each field of `PRIOR_FIELDS`, the range that holds the middle `LEARNED_SHARE` of the learned cameras."""
        cameras = posterior_cameras(self.generator, sample_scenes(self.generator, NUM_CAMERAS, 0)).cpu().double()
        ends = torch.tensor([(1 - LEARNED_SHARE) / 2, (1 + LEARNED_SHARE) / 2], dtype=torch.float64)
        return {field: tuple(cameras[:, column].quantile(ends).tolist()) for field, column in PRIOR_FIELDS.items()}

    @torch.inference_mode()
    def _make_content(self, key: SceneKey) -> Content:
        return self.generator.make_content(self.styles(key))

    @torch.inference_mode()
    def styles(self, key: SceneKey) -> Tensor:
        """Style `[1, w_dim]` of a scene."""
        if key.other is None:
            return scene_styles(self.generator, self.scene(key), key.truncation, self.towards)
        return torch.lerp(*map(self.styles, key.seeds()), key.share)

    def scene(self, key: SceneKey) -> Scenes:
        """The scene that `threedgp generate` shows for this seed and class; that of the first of two seeds."""
        labels = None if key.label is None else [key.label]
        return sample_scenes(self.generator, 1, 0, start=key.seed, labels=labels)

    def label(self, key: SceneKey) -> int | None:
        """The class of a scene; None for a model without classes."""
        labels = self.scene(key).labels
        return None if labels is None else int(labels)

    def own_camera(self, key: SceneKey) -> Tensor:
        """The camera that the model predicts for the scene, `[8]`; between two seeds, on the way between theirs."""
        if key.other is not None:
            return torch.lerp(*map(self.own_camera, key.seeds()), key.share)
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

    def film(self, key: SceneKey, path: str, size: int) -> bytes:
        """A film of the scene as an MP4 file: from cameras along a path of `PATHS`, or, if `path` is none of them, from
        the seed to the other one and back, as `threedgp fly --interpolate`."""
        if path in PATHS:
            w = self.styles(key)
            cameras = PATHS[path](self.generator.camera_config, NUM_FRAMES, self.own_camera(key))[None]  # [1, F, 8]
        else:
            w = interpolate_styles(torch.cat([*map(self.styles, key.seeds())]), NUM_FRAMES)
            own = torch.stack([*map(self.own_camera, key.seeds())])
            cameras = points(own, NUM_FRAMES, closed=True)[:, None]  # [F, 1, 8]
        images = render_views(self.generator, w, cameras, size, Progress()).images
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"film{SUFFIX}"
            write_video(file, images.reshape(-1, *images.shape[2:]), FRAMES_PER_SECOND)
            return file.read_bytes()
