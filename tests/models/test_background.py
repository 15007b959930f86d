"""The background of tri-plane scenes: visibility, position, training and storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from threedgp.camera.geometry import rays
from threedgp.config import KINDS, parse_config
from threedgp.models.background import background_colors, background_distances
from threedgp.models.generator import FOR_DISPLAY
from threedgp.models.initialization import initial_generator
from threedgp.models.loading import load_model
from threedgp.models.sampler import sample_scenes
from threedgp.models.saving import save_model
from threedgp.models.triplane import TriplaneGenerator
from threedgp.render import contract, midpoint_randomness
from threedgp.runtime.errors import UserError
from training.worlds import CLASSES, RESOLUTION, kind_config, make_batch, make_trainer, tiny_config

PLANES = {"model": {"generator": {"background": "planes", "noise": False}}}
EMPTY, SOLID = -100.0, 1e4
"""Raw densities."""


def _generator(**sizes: Any) -> TriplaneGenerator:
    config = tiny_config(model={"generator": PLANES["model"]["generator"] | sizes})
    return initial_generator(config.camera, config.model, CLASSES, [0.5, 0.3, 0.2], seed=0).eval()


def _fill(generator: TriplaneGenerator, raw_density: float) -> None:
    """Give the foreground the color 9 and the same raw density everywhere."""
    with torch.no_grad():
        generator.decoder.output.weight.zero_()
        generator.decoder.output.bias.copy_(torch.tensor([9.0, 9.0, 9.0, raw_density]))


def _scene(generator: TriplaneGenerator) -> tuple[Tensor, Tensor]:
    """Content and cameras of two scenes."""
    scenes = sample_scenes(generator, 2, 0)
    return generator.make_content(generator.map(scenes.z, scenes.labels)), scenes.prior_cameras


def _behind(generator: TriplaneGenerator, content: Tensor, cameras: Tensor) -> Tensor:
    """The color of the background alone, `[B, 3, R, R]`."""
    origins, directions = rays(cameras, RESOLUTION)
    u = midpoint_randomness(2, RESOLUTION**2, generator.model_config.generator.coarse_samples, 0, origins).coarse
    decoder = generator.background_decoder.effective()
    colors = background_colors(content[:, 3:], decoder, origins, directions, u, generator.ray_settings)
    return colors.mT.unflatten(2, (RESOLUTION, RESOLUTION))


@torch.no_grad()
def test_an_empty_foreground_shows_the_background_and_a_solid_one_hides_it() -> None:
    generator = _generator()
    content, cameras = _scene(generator)
    behind = _behind(generator, content, cameras)
    assert behind.std(dim=(2, 3)).min() > 0, "the background differs from ray to ray"
    _fill(generator, EMPTY)
    empty = generator.render(content, cameras, RESOLUTION)
    torch.testing.assert_close(empty.rgb, behind, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(empty.depth, torch.full_like(empty.depth, generator.camera_config.ray_end))
    _fill(generator, SOLID)
    solid = generator.render(content, cameras, RESOLUTION)
    torch.testing.assert_close(solid.rgb, torch.full_like(solid.rgb, 9.0), rtol=1e-6, atol=1e-6)
    assert (solid.depth - generator.camera_config.ray_start).abs().max() < 0.1


@torch.no_grad()
def test_a_half_transparent_foreground_is_mixed_with_the_background() -> None:
    """Beer-Lambert: a constant density lets exp(-density * length) pass."""
    generator = _generator(coarse_samples=512, fine_samples=0)
    content, cameras = _scene(generator)
    camera = generator.camera_config
    length, density = camera.ray_end - camera.ray_start, torch.tensor(2.0)
    _fill(generator, torch.log(torch.expm1(density)).item())
    passed = torch.exp(-density * length)
    found = generator.render(content, cameras, RESOLUTION)
    expected = 9 * (1 - passed) + passed * _behind(generator, content, cameras)
    torch.testing.assert_close(found.rgb, expected, rtol=1e-2, atol=1e-2)
    # The mean of the distance min(t, length), whose density is exponential, from the start of the ray.
    depth = camera.ray_start + (1 - passed) / density
    torch.testing.assert_close(found.depth, depth.expand_as(found.depth), rtol=1e-3, atol=1e-3)


def test_the_background_begins_behind_the_rays_and_outside_of_the_sphere() -> None:
    generator = _generator()
    settings = generator.ray_settings
    origins, directions = (x.double() for x in rays(sample_scenes(generator, 8, 0).prior_cameras, 16))
    directions = directions / directions.norm(dim=-1, keepdim=True)  # unit vectors in float64, too
    inverse = torch.tensor([1.0, 0.5, 1e-4], dtype=torch.float64).expand(*origins.shape[:2], 3)
    distances = background_distances(origins, directions, inverse, settings)
    radius = (origins[:, :, None] + distances[..., None] * directions[:, :, None]).norm(dim=-1)
    torch.testing.assert_close(radius[..., 1], 2 * radius[..., 0])
    torch.testing.assert_close(radius[..., 2], 1e4 * radius[..., 0])
    # The first distance of a fine grid, behind the end of the ray, from which on all points are outside.
    grid = torch.arange(settings.far, 3, 1e-3, dtype=torch.float64)
    inside = (origins[:, :, None] + grid[:, None] * directions[:, :, None]).norm(dim=-1) < settings.half_width
    steps = torch.arange(1, len(grid) + 1, dtype=torch.float64)
    expected = settings.far + 1e-3 * (inside * steps).amax(dim=-1)
    torch.testing.assert_close(distances[..., 0], expected, rtol=0, atol=1.1e-3)
    assert inside.any(dim=-1).any() and not inside.any(dim=-1).all(), "rays of both kinds were tried"


@torch.no_grad()
def test_the_background_of_a_line_is_the_same_from_every_point_of_it() -> None:
    """Two cameras that look along one line see the same; a background that sticks to the object would not do this."""
    generator = _generator().double()
    content, cameras = _scene(generator)
    origins, directions = (x.double() for x in rays(cameras, RESOLUTION))
    directions = directions / directions.norm(dim=-1, keepdim=True)
    settings = generator.ray_settings._replace(far=0.01)  # only the sphere matters
    u = midpoint_randomness(2, RESOLUTION**2, 16, 0, origins).coarse
    decoder = generator.background_decoder.effective()
    arguments = (content[:, 3:], decoder)
    here = background_colors(*arguments, origins, directions, u, settings)
    there = background_colors(*arguments, origins - 0.7 * directions, directions, u, settings)
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-8)
    turned = background_colors(*arguments, -origins, -directions, u, settings)
    assert (turned - here).abs().mean() > 0.1 * here.std(), "the other side shows something else"


def test_samples_lie_in_the_outer_shell_of_contracted_space() -> None:
    generator = _generator()
    origins, directions = rays(sample_scenes(generator, 2, 0).prior_cameras, RESOLUTION)
    inverse = torch.linspace(1, 1e-4, 9).expand(2, RESOLUTION**2, 9)
    distances = background_distances(origins, directions, inverse, generator.ray_settings)
    points = origins[:, :, None] + distances[..., None] * directions[:, :, None]
    radius = contract(points / generator.ray_settings.half_width).norm(dim=-1)
    assert radius.min() > 1 - 1e-4 and radius.max() < 2
    assert (distances.diff(dim=-1) > 0).all()


def test_gradients_reach_foreground_background_and_camera() -> None:
    generator = _generator()
    content, cameras = _scene(generator)
    for raw_density, reached in ((EMPTY, {"background", "camera"}), (0.0, {"foreground", "background", "camera"})):
        if raw_density:
            _fill(generator, raw_density)
        else:
            generator = _generator()
        planes, view = content.detach().requires_grad_(), cameras.detach().requires_grad_()
        rendering = generator.render(planes, view, RESOLUTION)
        gradient, of_camera = torch.autograd.grad(rendering.rgb.square().sum(), (planes, view))
        sizes = {"foreground": gradient[:, :3], "background": gradient[:, 3:], "camera": of_camera}
        assert {name for name, one in sizes.items() if one.abs().max() > 1e-8} == reached


@torch.no_grad()
def test_density_and_color_of_surfaces_are_those_of_the_foreground() -> None:
    generator = _generator()
    content, _ = _scene(generator)
    points = torch.rand(2, 50, 3) - 0.5
    before = generator.density(content, points), generator.color(content, points)
    content = content.clone()
    content[:, 3:] += 1
    assert torch.equal(before[0], generator.density(content, points))
    assert torch.equal(before[1], generator.color(content, points))
    content[:, :3] += 1
    assert not torch.equal(before[0], generator.density(content, points))


@torch.no_grad()
def test_parts_of_an_image_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _generator()
    content, cameras = _scene(generator)
    whole = generator.render(content, cameras, RESOLUTION, FOR_DISPLAY)
    parts = torch.cat(list(generator.render_parts(content, cameras, RESOLUTION, 11)), dim=1)
    # Inference leaves out what at most 0.01 % of the light reaches.
    torch.testing.assert_close(parts, torch.cat(whole, dim=1).flatten(2).mT, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr("threedgp.models.triplane.RAY_CHUNK", 14)
    in_chunks = generator.render(content, cameras, RESOLUTION, FOR_DISPLAY)
    torch.testing.assert_close(in_chunks, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.background])
@pytest.mark.parametrize("loss", ["logistic", "relativistic"])
def test_every_parameter_learns_and_runs_repeat(kind: str, loss: str) -> None:
    found = []
    for _ in range(2):
        trainer = make_trainer(kind_config(kind, model=PLANES["model"], train={"loss": loss}))
        before = {name: one.clone() for name, one in trainer.generator.named_parameters()}
        for _ in range(3):
            stats = trainer.step(make_batch(trainer.images))
        assert all(value.isfinite() for value in stats.values())
        assert not [name for name, one in trainer.generator.named_parameters() if one.equal(before[name])]
        assert sum("background" in name for name in before) == 4 + 4 * 2  # decoder, output layers of two resolutions
        found.append(trainer.average.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@torch.no_grad()
def test_a_stored_model_renders_the_same(tmp_path: Path) -> None:
    config = tiny_config(**PLANES)
    generator = _generator()
    with torch.no_grad():
        for one in generator.parameters():
            one += 0.1 * torch.randn_like(one)
    save_model(tmp_path, generator, config, class_names=["a", "b", "c"], kimg=1)
    loaded = load_model(tmp_path)
    stored, expected = (one.render(*_scene(one), RESOLUTION) for one in (loaded, generator))
    torch.testing.assert_close(stored, expected, rtol=1e-4, atol=1e-5)  # weights lie in memory in another order
    untrained = _generator()
    assert (untrained.render(*_scene(untrained), RESOLUTION).rgb - expected.rgb).abs().mean() > 0.01


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.background])
def test_kinds_without_it_refuse_it(kind: str) -> None:
    values = kind_config(kind).model_dump(mode="json")
    values["model"]["generator"]["background"] = "planes"
    with pytest.raises(UserError) as error:
        parse_config(values)
    expected = f"model.kind: '{kind}' has no such part; set model.generator.background to none"
    assert expected in str(error.value) and "\n" not in str(error.value)
