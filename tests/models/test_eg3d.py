"""EG3D: axes of planes, pose conditioning with swapping, dual discrimination, density regularization, resolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from threedgp.camera.geometry import rays
from threedgp.models.eg3d import EG3DGenerator
from threedgp.models.feature_rendering import StyledContent
from threedgp.models.sampler import sample_scenes
from threedgp.render import RaySettings, midpoint_randomness
from threedgp.render.features import render_field
from training.worlds import CLASSES, RESOLUTION, kind_config, make_batch, make_trainer


def _generator(**generator: object) -> EG3DGenerator:
    config = kind_config("eg3d", model={"generator": generator})
    torch.manual_seed(0)
    return EG3DGenerator(config.camera, config.model, CLASSES).eval()


@pytest.mark.parametrize("published", [False, True])
def test_published_planes_never_see_y_and_z_together(published: bool) -> None:
    """Features are sums over planes; with planes xy, xz and zx, no term depends on both y and z."""
    generator = _generator(published_planes=published)
    content = StyledContent(torch.randn(1, 3, 8, 8, 4), torch.zeros(1, 8))
    generator.decoder = torch.nn.Identity()
    y0, y1, z0, z1 = -0.21, 0.13, 0.07, -0.3
    points = torch.tensor([[[0.1, y, z] for y in (y0, y1) for z in (z0, z1)]])
    with torch.no_grad():
        a, b, c, d = generator.field(content)(points)[0]
    mixed = (a - b - c + d).abs().max()
    assert (mixed < 1e-5) == published


def test_mapping_sees_the_pose() -> None:
    generator = _generator()
    scenes = sample_scenes(generator, 3, 0)
    with torch.no_grad():
        frontal = generator.map(scenes.z, scenes.labels)
        posed = generator.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras)
        assert not torch.allclose(frontal, posed, atol=1e-3)
        unconditioned = _generator(pose_conditioning=False)
        same = unconditioned.map(scenes.z, scenes.labels, cameras=scenes.prior_cameras)
        assert same.equal(unconditioned.map(scenes.z, scenes.labels))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_poses_are_swapped_with_the_probability_of_the_schedule(probability: float) -> None:
    swap = {"start": probability, "end": probability, "over": "0"}
    trainer = make_trainer(kind_config("eg3d", train={"pose_swap": swap}))
    seen = []
    make = trainer.generator.map
    trainer.generator.map = lambda *inputs, cameras: seen.append(cameras) or make(*inputs, cameras=cameras)
    draws = trainer._draws("generator", 0, 400)
    scenes = draws.scenes(trainer.generator)
    with torch.no_grad():
        trainer._fakes(draws)
    swapped = (seen[0] != scenes.prior_cameras).any(dim=1).double().mean().item()
    # Three standard errors of a share of 400 draws are 0.075; the seed is fixed.
    assert swapped == pytest.approx(probability, abs=0.075 if 0 < probability < 1 else 0)


def test_discriminator_sees_an_image_beside_its_rendering() -> None:
    trainer = make_trainer(kind_config("eg3d", train={"horizontal_flips": False}))
    assert trainer.discriminator.from_rgb.weight.shape[1] == 6
    real = next(trainer._reals(make_batch(0)))[0].images
    assert real.shape == (4, 6, RESOLUTION, RESOLUTION)
    # The second image holds what a rendering could: halved and enlarged again, it is smoother, with the same mean.
    image, low = real[:, :3], real[:, 3:]
    assert torch.allclose(image, make_batch(0).image / 127.5 - 1, atol=1e-4)
    assert low.mean().item() == pytest.approx(image.mean().item(), abs=0.05)
    assert low.diff(dim=-1).abs().mean() < 0.5 * image.diff(dim=-1).abs().mean()
    with torch.no_grad():
        fakes = trainer._fakes(trainer._draws("generator", 0, 4))[0].images
    low = fakes[:, 3:]
    assert fakes.shape == real.shape
    # Doubled bilinearly, a pixel is 0.75 and 0.25 of its neighbors, and the neighbor follows from both pairs around it.
    from_left, from_right = 3 * low[..., 2] - low[..., 1], 3 * low[..., 3] - low[..., 4]
    assert torch.allclose(from_left, from_right, atol=1e-5) and low.std() > 0.01


def test_density_regularization_is_logged_and_smooths() -> None:
    trainer = make_trainer(kind_config("eg3d", train={"density_regularization": 100.0, "generator_lr": 0.01}))
    found = []
    for _ in range(12):
        stats: dict[str, torch.Tensor] = {}
        trainer._generator_phase(make_batch(0), stats)
        found.append(stats["generator/density_regularization"].item())
    assert 0 < found[-1] < 0.7 * found[0]
    assert "generator/density_regularization" not in make_trainer(
        kind_config("eg3d", train={"density_regularization": 0.0})
    ).step(make_batch(0))


def test_features_are_composited_as_colors_are() -> None:
    """A constant field of high density: features of every pixel are the field's, and depth is where rays begin."""
    settings = RaySettings(near=0.75, far=1.25, half_width=0.5, midpoint=True, density_bias=-1.0, sigmoid_color=True)
    values = torch.tensor([0.3, -2.0, 1.0, 0.5, 0.0])
    field = lambda points: torch.cat([values, torch.tensor([1e4])]).expand(*points.shape[:2], 6)  # noqa: E731
    generator = _generator()
    cameras = sample_scenes(generator, 2, 0).prior_cameras
    origins, directions = rays(cameras, 4)
    rendered = render_field(field, origins, directions, midpoint_randomness(2, 16, 8, 4, origins), settings)
    expected = (torch.sigmoid(values) * 1.002 - 0.001) * 2 - 1
    assert rendered.rgb.shape == (2, 16, 5) and torch.allclose(rendered.rgb, expected.expand(2, 16, 5), atol=1e-4)
    assert (rendered.depth - 0.75).abs().max() < 0.5 / 7
    whole = render_field(field, origins, directions, midpoint_randomness(2, 16, 8, 4, origins), settings, chunk=5)
    assert torch.allclose(whole.rgb, rendered.rgb, atol=1e-6)


@pytest.mark.parametrize("cut_quantile", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [None, 5])
def test_features_of_no_rays_are_empty(cut_quantile: float, chunk: int | None) -> None:
    none, settings = torch.zeros(2, 0, 3), RaySettings(0.75, 1.25, 0.5, cut_quantile=cut_quantile)
    field = lambda points: torch.zeros(*points.shape[:2], 6)  # noqa: E731
    rendered = render_field(field, none, none, midpoint_randomness(2, 0, 8, 4, none), settings, chunk=chunk)
    assert rendered.rgb.shape == (2, 0, 5) and rendered.depth.shape == (2, 0)


def test_density_is_softplus_with_a_bias_and_color_that_of_the_rendering() -> None:
    generator = _generator()
    scenes = sample_scenes(generator, 2, 0)
    points = torch.rand(2, 7, 3) - 0.5
    with torch.no_grad():
        content = generator.make_content(generator.map(scenes.z, scenes.labels))
        raw = generator.field(content)(points)
        assert torch.allclose(generator.density(content, points), F.softplus(raw[..., -1] - 1))
        assert generator.color(content, points).shape == (2, 7, 3)


@pytest.mark.parametrize("size", [6, 7, 8, 16])
def test_images_of_any_size(size: int) -> None:
    generator = _generator()
    scenes = sample_scenes(generator, 2, 0)
    with torch.no_grad():
        content = generator.make_content(generator.map(scenes.z, scenes.labels))
        rendering = generator.render(content, scenes.prior_cameras, size)
    assert rendering.rgb.shape == (2, 3, size, size) and rendering.depth.shape == (2, 1, size, size)
    near, far = generator.camera_config.ray_start, generator.camera_config.ray_end
    assert rendering.depth.isfinite().all() and rendering.depth.max() <= far
    assert near > 0
