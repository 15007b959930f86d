"""The viewer shows what the command line draws, in pieces."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
import trimesh

from films import decode
from threedgp.camera.geometry import PRIOR_FIELDS
from threedgp.camera.trajectories import PATHS, points
from threedgp.models.initialization import initial_generator
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


def test_between_two_seeds(renderer):
    """Styles and cameras lie on straight lines between those of the seeds, each in its own class."""
    first, second = (SceneKey(seed, None, 0.7) for seed in (1, 4))
    between = SceneKey(1, None, 0.7, 4, 0.25)
    for property in (renderer.styles, renderer.own_camera):
        ends = property(first), property(second)
        assert torch.allclose(property(between), 0.75 * ends[0] + 0.25 * ends[1], atol=1e-6)
        assert not torch.allclose(*ends)
    assert renderer.label(between) == renderer.label(first)


def test_range_of_learned_cameras(renderer):
    scenes = sample_scenes(renderer.generator, 512, 0)
    cameras = renderer.generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels).numpy()
    for field, column in PRIOR_FIELDS.items():
        assert renderer.learned[field] == pytest.approx(np.quantile(cameras[:, column], (0.01, 0.99)), abs=1e-5), field


def test_films(renderer, tmp_path, monkeypatch):
    monkeypatch.setattr("threedgp.visual.viewer_scenes.NUM_FRAMES", 4)
    key = SceneKey(1, 0, 1.0, 4, 0.3)
    first, second = key.seeds()
    line = PATHS["line"](renderer.generator.camera_config, 4, renderer.own_camera(first))
    back = points(torch.stack([renderer.own_camera(one) for one in (first, second)]), 4, closed=True)
    between = key._replace(share=0.5)
    for asked, path, shown, cameras in (
        (first, "line", [first] * 4, line),
        (key, "to the other seed and back", [first, between, second, between], back),
    ):
        (tmp_path / "film.mp4").write_bytes(renderer.film(asked, path, 32))
        film = decode(tmp_path / "film.mp4").astype(int)
        assert film.shape == (4, 32, 32, 3)
        for frame, one, camera in zip(film, shown, cameras, strict=True):
            expected = renderer.draw(ViewSettings(one, "color", tuple(camera.tolist())), 32).astype(int)
            assert np.abs(frame - expected).mean() < 4, "rounding and compression"


def test_another_model_replaces_the_first(renderer):
    key = SceneKey(1, None, 1.0)
    before, version = renderer.styles(key), renderer.version
    config = renderer.generator.camera_config, renderer.generator.model_config
    renderer.replace(initial_generator(*config, 2, [0.5, 0.5], seed=9).eval())
    assert renderer.version == version + 1 and not torch.allclose(renderer.styles(key), before)
