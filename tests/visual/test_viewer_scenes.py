"""The viewer shows what the command line draws, in pieces."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
import trimesh

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Silent
from threedgp.visual.grids import depth_colors
from threedgp.visual.normals import normal_colors
from threedgp.visual.viewer_scenes import Look, Painter, PlaneCache, SceneKey
from threedgp.visual.views import own_cameras, render_views

SIZE = 24


@pytest.fixture
def painter(tiny_generator) -> Painter:
    return Painter(tiny_generator)


def look_from(camera: torch.Tensor, scene: SceneKey, kind: str = "color") -> Look:
    fields = dict(zip(CAMERA_FIELDS, camera.tolist(), strict=True))
    return Look(scene, kind, **{name: fields[name] for name in Look._fields if name in fields})


@pytest.mark.parametrize("kind", ["color", "depth", "normals"])
@pytest.mark.parametrize("scene", [SceneKey(3, None, 1.0), SceneKey(0, 1, 0.5)])
def test_draws_what_the_command_line_draws(painter, kind, scene):
    """Exactly, up to one level where rays are grouped differently into vectors."""
    generator = painter.generator
    scenes = sample_scenes(generator, 1, 0, start=scene.seed, labels=None if scene.label is None else [scene.label])
    camera = own_cameras(generator, scenes)
    assert torch.equal(painter.own_camera(scene), camera[0])
    seen = render_views(generator, scenes, camera[:, None], SIZE, Silent(), scene.truncation)
    expected = {
        "color": seen.pictures[0, 0],
        "depth": depth_colors(seen.depth[0, 0]),
        "normals": normal_colors(seen.normals[0, 0]),
    }[kind]
    painter.ladder.measured(1, 1.0)  # the smallest pieces: 256 of 576 rays
    drawn = painter.draw(look_from(camera[0], scene, kind), SIZE)
    assert drawn.dtype == np.uint8 and drawn.shape == (SIZE, SIZE, 3)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert expected.std() > 1


def test_label_is_the_drawn_or_the_chosen_one(painter):
    assert painter.label(SceneKey(0, 1, 1.0)) == 1 and painter.label(SceneKey(0, 0, 1.0)) == 0
    assert painter.label(SceneKey(5, None, 1.0)) == int(sample_scenes(painter.generator, 1, 0, start=5).labels)


def test_gives_up_between_pieces(painter):
    look = look_from(painter.own_camera(SceneKey(0, None, 1.0)), SceneKey(0, None, 1.0))
    painter.ladder.measured(1, 1.0)
    asked = itertools.count()
    assert painter.draw(look, SIZE, lambda: next(asked) == 1) is None
    assert next(asked) == 2, "of three pieces one was drawn"


def test_planes_are_made_once_and_the_oldest_make_room():
    made = []

    def make(key: SceneKey) -> torch.Tensor:
        made.append(key.seed)
        return torch.zeros(100)

    cache = PlaneCache(make, most_bytes=800)
    for seed in (1, 2, 1, 3, 1, 2):
        cache.get(SceneKey(seed, None, 1.0))
    assert made == [1, 2, 3, 2]
    assert PlaneCache(make, most_bytes=1).get(SceneKey(1, None, 1.0)).shape == (100,), "one is always kept"


def test_mesh_is_a_glb_that_trimesh_reads(painter, monkeypatch):
    monkeypatch.setattr("threedgp.visual.viewer_scenes.MESH_RESOLUTION", 16)
    mesh = trimesh.load(io.BytesIO(painter.mesh(SceneKey(0, 1, 1.0))), file_type="glb", force="mesh")
    assert mesh.is_watertight and len(mesh.faces) > 10
