"""Views are the generator's own images, in their places."""

from __future__ import annotations

import copy

import numpy as np
import torch

from threedgp.camera.geometry import FOV
from threedgp.camera.normals import depth_normals
from threedgp.camera.trajectories import line
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import progress
from threedgp.visual import views
from threedgp.visual.styles import scene_content, scene_styles


def test_every_view_is_the_image_of_its_scene_and_camera(tiny_generator, monkeypatch):
    monkeypatch.setattr(views, "MAX_SCENES", 2)  # three scenes take two rounds
    scenes = sample_scenes(tiny_generator, 3, seed=1)
    cameras = torch.stack(
        [line(tiny_generator.camera_config, 4, camera) for camera in views.posterior_cameras(tiny_generator, scenes)]
    )
    with progress("test", 12) as bar:
        seen = views.render_views(tiny_generator, scene_styles(tiny_generator, scenes), cameras, 8, bar)
    assert seen.images.shape == (3, 4, 8, 8, 3)
    assert seen.depth.shape == (3, 4, 8, 8)

    finer = copy.deepcopy(tiny_generator)  # pictures have twice the samples of training
    sizes = tiny_generator.model_config.generator
    doubled = {"coarse_samples": 2 * sizes.coarse_samples, "fine_samples": 2 * sizes.fine_samples}
    finer.model_config = finer.model_config.model_copy(update={"generator": sizes.model_copy(update=doubled)})
    planes = scene_content(tiny_generator, scenes)
    alone = finer.render(planes[2:], cameras[2, 3:], 8)
    rgb = (alone.rgb[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
    assert np.abs(seen.images[2, 3] - rgb.numpy()).max() <= 0.51  # rounded
    np.testing.assert_allclose(seen.depth[2, 3], alone.depth[0, 0], rtol=1e-4)
    np.testing.assert_allclose(seen.fov, cameras[..., FOV])
    expected = depth_normals(seen.depth[2, 3:], cameras[2, 3:, FOV].numpy())[0]
    np.testing.assert_allclose(seen.normals[2, 3], expected)


def test_posterior_cameras(tiny_generator):
    scenes = sample_scenes(tiny_generator, 4, seed=1)
    cameras = views.posterior_cameras(tiny_generator, scenes)
    torch.testing.assert_close(cameras, tiny_generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels))
    assert not torch.allclose(cameras, scenes.prior_cameras)
