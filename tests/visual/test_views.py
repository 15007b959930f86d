"""Views are the generator's own pictures, in their places."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import line
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import progress
from threedgp.visual import views


def test_every_view_is_the_picture_of_its_scene_and_camera(tiny_generator, monkeypatch):
    monkeypatch.setattr(views, "SCENES_AT_ONCE", 2)  # three scenes take two rounds
    scenes = sample_scenes(tiny_generator, 3, seed=1)
    cameras = torch.stack(
        [line(tiny_generator.camera_config, 4, camera) for camera in views.own_cameras(tiny_generator, scenes)]
    )
    with progress("test", 12) as bar:
        seen = views.render_views(tiny_generator, scenes, cameras, 8, bar)
    assert seen.pictures.shape == (3, 4, 8, 8, 3)
    assert seen.depth.shape == (3, 4, 8, 8)

    planes = views.make_planes(tiny_generator, scenes)
    alone = tiny_generator.render(planes[2:], cameras[2, 3:], 8)
    rgb = (alone.rgb[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
    assert np.abs(seen.pictures[2, 3] - rgb.numpy()).max() <= 0.51  # rounded
    np.testing.assert_allclose(seen.depth[2, 3], alone.depth[0, 0], rtol=1e-4)
    np.testing.assert_allclose(seen.fov, cameras[..., FOV])
    expected = depth_normals(seen.depth[2, 3:], cameras[2, 3:, FOV].numpy())[0]
    np.testing.assert_allclose(seen.normals[2, 3], expected)


def test_own_cameras_are_posterior(tiny_generator):
    scenes = sample_scenes(tiny_generator, 4, seed=1)
    cameras = views.own_cameras(tiny_generator, scenes)
    torch.testing.assert_close(cameras, tiny_generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels))
    assert not torch.allclose(cameras, scenes.prior_cameras)


def test_truncation_reaches_the_planes(tiny_generator):
    scenes = sample_scenes(tiny_generator, 2, seed=1, labels=[0, 1])
    cameras = views.own_cameras(tiny_generator, scenes)[:, None]
    with progress("test", 8) as bar:
        kinds = {
            towards: views.render_views(tiny_generator, scenes, cameras, 8, bar, 0.0, towards)
            for towards in ("all", "class")
        }
    planes = views.make_planes(tiny_generator, scenes, 0.0, "class")
    alone = tiny_generator.render(planes, cameras[:, 0], 8)
    np.testing.assert_allclose(kinds["class"].depth[:, 0], alone.depth[:, 0], rtol=1e-4)
    assert np.abs(kinds["all"].depth - kinds["class"].depth).max() > 1e-6
