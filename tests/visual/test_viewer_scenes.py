"""The viewer shows what the command line draws, in pieces."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
import trimesh

from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress
from threedgp.visual.grids import depth_colors, normal_colors
from threedgp.visual.styles import scene_styles
from threedgp.visual.viewer_scenes import SceneKey, SceneRenderer, ViewSettings
from threedgp.visual.views import posterior_cameras, render_views

SIZE = 24


@pytest.fixture
def renderer(tiny_generator) -> SceneRenderer:
    return SceneRenderer(tiny_generator)


@pytest.mark.parametrize("kind", ["color", "depth", "normals"])
@pytest.mark.parametrize("scene", [SceneKey(3, None, 1.0), SceneKey(0, 1, 0.5)])
def test_draws_what_the_command_line_draws(renderer, kind, scene):
    """Exactly, up to one level where rays are grouped differently into vectors."""
    generator = renderer.generator
    scenes = sample_scenes(generator, 1, 0, start=scene.seed, labels=None if scene.label is None else [scene.label])
    camera = posterior_cameras(generator, scenes)
    assert torch.equal(renderer.own_camera(scene), camera[0])
    w = scene_styles(generator, scenes, scene.truncation)
    seen = render_views(generator, w, camera[:, None], SIZE, Progress())
    expected = {
        "color": seen.images[0, 0],
        "depth": depth_colors(seen.depth[0, 0]),
        "normals": normal_colors(seen.normals[0, 0]),
    }[kind]
    renderer.speed.measured(1, 1.0)  # the smallest pieces: 256 of 576 rays
    drawn = renderer.draw(ViewSettings(scene, kind, tuple(camera[0].tolist())), SIZE)
    assert drawn.dtype == np.uint8 and drawn.shape == (SIZE, SIZE, 3)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert expected.std() > 1


def test_label_is_the_drawn_or_the_chosen_one(renderer):
    assert renderer.label(SceneKey(0, 1, 1.0)) == 1 and renderer.label(SceneKey(0, 0, 1.0)) == 0
    assert renderer.label(SceneKey(5, None, 1.0)) == int(sample_scenes(renderer.generator, 1, 0, start=5).labels)


def test_gives_up_between_pieces(renderer):
    scene = SceneKey(0, None, 1.0)
    settings = ViewSettings(scene, "color", tuple(renderer.own_camera(scene).tolist()))
    renderer.speed.measured(1, 1.0)
    asked = itertools.count()
    assert renderer.draw(settings, SIZE, lambda: next(asked) == 1) is None
    assert next(asked) == 2, "of three pieces one was drawn"


def test_planes_of_recent_scenes_are_kept(renderer, monkeypatch):
    keys = [SceneKey(seed, None, 1.0) for seed in (1, 2, 1)]
    first, other, again = (renderer.content(key) for key in keys)
    assert again is first and not torch.equal(other, first)


def test_mesh_is_a_glb_that_trimesh_reads(renderer, monkeypatch):
    monkeypatch.setattr("threedgp.visual.viewer_scenes.MESH_RESOLUTION", 16)
    mesh = trimesh.load(io.BytesIO(renderer.mesh(SceneKey(0, 1, 1.0))), file_type="glb", force="mesh")
    assert mesh.is_watertight and len(mesh.faces) > 10
