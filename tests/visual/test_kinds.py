"""Models of every kind draw the gallery, with depth, other views and meshes if their scenes have a density."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from threedgp.config import KINDS, RenderConfig
from threedgp.models.initialization import GENERATORS, initial_generator
from threedgp.visual.gallery import draw_gallery
from threedgp.visual.viewer_scenes import SceneKey, SceneRenderer, ViewSettings
from training.worlds import kind_config

SETTINGS = RenderConfig(
    grid=(2, 2), views=2, flights=1, flight_frames=2, interpolation=2, interpolation_frames=2, truncations=(0, 1),
    meshes=1, mesh_resolution=8,
)  # fmt: skip
IMAGES = {"samples.png", "classes.png", "real.png", "truncation.png", "interpolation.mp4"}
GEOMETRY = {"depth.png", "normals.png", "pairs.png", "views.png", "flight.mp4"}


@pytest.mark.parametrize("kind", KINDS)
def test_gallery(kind, training_shards, tmp_path):
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, 2, [0.5, 0.5], seed=1).eval()
    draw_gallery(generator, 8, training_shards, SETTINGS, tmp_path / "renders")
    files = {file.name for file in (tmp_path / "renders").iterdir() if file.suffix != ".glb"}
    assert files == (IMAGES | GEOMETRY if generator.has_density else IMAGES)
    grid = cv2.imread(str(tmp_path / "renders" / "samples.png")).astype(np.int64)
    assert grid.std() > 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if GENERATORS[kind].has_density])
def test_viewer_draws_any_size(kind):
    config = kind_config(kind)
    renderer = SceneRenderer(initial_generator(config.camera, config.model, 2, [0.5, 0.5], seed=1).eval())
    scene = SceneKey(3, None, 1.0)
    camera = tuple(renderer.own_camera(scene).tolist())
    for view in ("color", "depth", "normals"):
        for size in (16, 21):
            assert renderer.draw(ViewSettings(scene, view, camera), size).shape == (size, size, 3)
