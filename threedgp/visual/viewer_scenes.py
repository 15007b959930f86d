"""What the viewer draws: pictures, depth and normals of a scene, in pieces that can be stopped, and its mesh."""

from __future__ import annotations

import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import rays
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import front_circle
from threedgp.models.generator import Generator, Rendering
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.render.renderer import midpoint_randomness, render_rays
from threedgp.runtime.progress import Silent
from threedgp.visual.grids import depth_colors
from threedgp.visual.meshes import CAMERAS, scene_mesh, write_mesh
from threedgp.visual.normals import normal_colors
from threedgp.visual.styles import TruncateTowards
from threedgp.visual.viewer_cameras import make_camera
from threedgp.visual.viewer_ladder import Ladder
from threedgp.visual.views import make_planes, own_cameras, to_views

Kind = Literal["color", "depth", "normals"]
MESH_RESOLUTION = 128
MOST_BYTES = 1 << 29
"""Of planes that are kept."""


class SceneKey(NamedTuple):
    """What planes depend on."""

    seed: int
    label: int | None
    """None = the class that is drawn with the scene."""
    truncation: float


class Look(NamedTuple):
    """Everything that a picture depends on but its size."""

    scene: SceneKey
    kind: Kind
    yaw: float
    pitch: float
    fov: float
    look_at_yaw: float
    look_at_pitch: float
    look_at_radius: float

    @property
    def camera_fields(self) -> dict[str, float]:
        """Fields of the camera by name; the rest is fixed."""
        return {name: value for name, value in self._asdict().items() if name not in ("scene", "kind")}


class PlaneCache:
    """Planes of the scenes looked at last."""

    def __init__(self, make: Callable[[SceneKey], Tensor], most_bytes: int = MOST_BYTES) -> None:
        """
        Args:
            make: planes of a scene.
            most_bytes: the scenes that were looked at longest ago make room; the last one always stays.
        """
        self._make, self._most = make, most_bytes
        self._kept: OrderedDict[SceneKey, Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: SceneKey) -> Tensor:
        """Planes of a scene; those of one scene are made once, whoever asks."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._make(key)
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(x.numel() * x.element_size() for x in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
            return self._kept[key]


class Painter:
    """Draws what a person asks to see."""

    def __init__(self, generator: Generator, towards: TruncateTowards = "all") -> None:
        """
        Args:
            generator: in evaluation mode.
            towards: what truncation pulls scenes to.
        """
        self.generator, self.towards = generator, towards
        self.planes = PlaneCache(lambda key: make_planes(generator, self.scene(key), key.truncation, towards))
        self.ladder = Ladder()

    def scene(self, key: SceneKey) -> Scenes:
        """The scene of the same seed and class that the command line draws."""
        labels = None if key.label is None else [key.label]
        return sample_scenes(self.generator, 1, 0, start=key.seed, labels=labels)

    def label(self, key: SceneKey) -> int | None:
        """Its class; None where the model knows none."""
        labels = self.scene(key).labels
        return None if labels is None else int(labels)

    def own_camera(self, key: SceneKey) -> Tensor:
        """From where the model expects the scene to be seen, `[8]`."""
        return own_cameras(self.generator, self.scene(key))[0].cpu()

    def draw(self, look: Look, size: int, is_stale: Callable[[], bool] = lambda: False) -> np.ndarray | None:
        """The picture, uint8 `[size, size, 3]`; None where `is_stale` said, between two pieces, that nobody waits."""
        planes = self.planes.get(look.scene)
        camera = make_camera(self.generator.camera_config, look.camera_fields)[None].to(planes.device)
        seen = self._render(planes, camera, size, is_stale)
        if seen is None:
            return None
        pictures, depth = to_views(seen)
        if look.kind == "depth":
            return depth_colors(depth[0])
        if look.kind == "normals":
            return normal_colors(depth_normals(depth, np.array([look.fov])))[0]
        return pictures[0]

    @torch.inference_mode()
    def _render(self, planes: Tensor, camera: Tensor, size: int, is_stale: Callable[[], bool]) -> Rendering | None:
        """As `Generator.render`, in pieces."""
        settings = self.generator.model_config.generator
        decoder = self.generator.decoder.effective()
        piece = self.ladder.piece()
        parts = []
        for origins, directions in zip(*(x.split(piece, dim=1) for x in rays(camera, size)), strict=True):
            if is_stale():
                return None
            began = time.perf_counter()
            count = origins.shape[1]
            middle = midpoint_randomness(1, count, settings.coarse_samples, settings.fine_samples, origins)
            space = self.generator.ray_settings
            seen = render_rays(planes, decoder, origins, directions, middle, space, stop_when_opaque=True)
            parts.append(torch.cat([seen.rgb, seen.depth.reshape(1, count, 1)], dim=-1).cpu())  # waits for a GPU
            self.ladder.measured(count, time.perf_counter() - began)
        rgb, depth = torch.cat(parts, dim=1).mT.reshape(1, 4, size, size).split([3, 1], dim=1)
        return Rendering(rgb, depth)

    def mesh(self, key: SceneKey) -> bytes:
        """The scene as a GLB file.

        Raises:
            UserError: it has no surface.
        """
        around = front_circle(self.generator.camera_config, CAMERAS, self.own_camera(key))
        solid = scene_mesh(self.generator, self.planes.get(key), around, MESH_RESOLUTION, Silent())
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "scene.glb"
            write_mesh(file, solid)
            return file.read_bytes()
