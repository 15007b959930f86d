"""StyleNeRF: encoding, upsampler, background, blocks that are added one after the other, NeRF-path regularization."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from threedgp.camera.geometry import rays
from threedgp.models.feature_rendering import StyledContent
from threedgp.models.sampler import sample_scenes
from threedgp.models.stylenerf import ShuffleBlock, StyleNeRFGenerator, positional_encoding
from threedgp.render import midpoint_randomness
from training.worlds import CLASSES, RESOLUTION, kind_config, make_batch, make_trainer


def _generator(**settings: bool) -> StyleNeRFGenerator:
    model = {"generator": {"upsampling": 4} | settings, "discriminator": {"patch_resolution": 16}}
    config = kind_config("stylenerf", dataset={"resolution": 16}, model=model)
    torch.manual_seed(0)
    return StyleNeRFGenerator(config.camera, config.model, CLASSES).eval()


def test_encoding_has_the_coordinates_and_octaves_of_their_sines_and_cosines() -> None:
    encoded = positional_encoding(torch.tensor([[0.25, -0.5]], dtype=torch.float64), 3)
    angles = [math.pi * 2**octave * x for x in (0.25, -0.5) for octave in range(3)]
    expected = [0.25, -0.5, *map(math.sin, angles), *map(math.cos, angles)]
    torch.testing.assert_close(encoded, torch.tensor([expected], dtype=torch.float64))


def test_block_without_a_difference_enlarges_and_blurs() -> None:
    block = ShuffleBlock(3, 3, 4)
    seen = []
    block.layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        for parameter in block.difference.parameters():
            parameter.zero_()
        features, term = block(x, torch.randn(2, 4))
        nearest = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        kernel = torch.outer(*[torch.tensor([1.0, 2.0, 1.0]) / 4] * 2).expand(3, 1, 3, 3)
        expected = F.conv2d(F.pad(nearest, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    torch.testing.assert_close(seen[0].mT.reshape(2, 3, 8, 8), expected, rtol=1e-5, atol=1e-5)
    assert features.shape == (2, 3, 8, 8) and term.shape == (2, 3, 8, 8)


def _rendered(generator: StyleNeRFGenerator, raw_density: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and depth of rays where the foreground has the same raw density everywhere."""
    with torch.no_grad():
        generator.foreground.output.weight.zero_()
        generator.foreground.output.bias.copy_(torch.tensor([9.0] * 5 + [raw_density]))
        cameras = sample_scenes(generator, 2, 0).prior_cameras
        origins, directions = rays(cameras, 4)
        numbers = midpoint_randomness(2, 16, 4, 4, origins)
        return generator.render_features(
            StyledContent(None, torch.ones(2, 8)), origins, directions, numbers, generator.ray_settings
        )


@pytest.mark.parametrize("last_back", [False, True])
def test_background_is_seen_through_an_empty_foreground_only(last_back: bool) -> None:
    generator = _generator(last_back=last_back)
    far = generator.camera_config.ray_end
    empty, empty_depth = _rendered(generator, -100.0)
    solid, solid_depth = _rendered(generator, 1e4)
    torch.testing.assert_close(empty_depth, torch.full_like(empty_depth, far))
    torch.testing.assert_close(solid, torch.full_like(solid, 9.0), rtol=1e-3, atol=1e-3)
    assert solid_depth.max() < generator.camera_config.ray_start + 0.1
    assert (empty - 9).abs().min() > 1 and empty.std(dim=1).min() > 0, "the background differs from ray to ray"
    with torch.no_grad():
        generator.background.output.bias[:5] += 1
    moved, _ = _rendered(generator, -100.0)
    torch.testing.assert_close(moved, empty + 1, rtol=1e-3, atol=1e-3)  # its samples have all of the weight


@pytest.mark.parametrize(("grown", "blocks"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_blocks_are_added_one_after_the_other(grown: float, blocks: int) -> None:
    generator = _generator()
    features, w = torch.randn(2, 5, 2, 2), torch.randn(2, 8)
    with torch.no_grad():
        generator.upsampling.grown.fill_(grown)
        found = generator.upsampling(features, w)
        for block in generator.upsampling.blocks[blocks:]:
            block.output.weight.normal_()
            block.output.bias.normal_()
        assert generator.upsampling(features, w).equal(found), "later blocks are not in use"
        if blocks == 0:
            expected = F.interpolate(F.interpolate(features[:, :3], (4, 4), mode="bilinear"), (8, 8), mode="bilinear")
            torch.testing.assert_close(found, expected)


def test_real_images_gain_details_as_the_generator_grows() -> None:
    growing = {"start": 0.0, "end": 1.0, "over": "0.032"}  # the first half of the run
    changes = {"train": {"growing": growing, "horizontal_flips": False}, "model": {"generator": {"upsampling": 2}}}
    trainer = make_trainer(kind_config("stylenerf", **changes))
    whole = make_batch(0).image / 127.5 - 1
    details = []
    for images in (0, 16, 32):
        trainer.images = images
        seen = next(trainer._reals(make_batch(0)))[0].images
        details.append((seen - whole).abs().mean().item())
        trainer._fakes(trainer._draws("generator", images, 4))
        assert trainer.generator.upsampling.grown.item() == pytest.approx(images / 32)
        assert trainer.schedules()["schedule/growing"] == pytest.approx(images / 32)
    assert details[1] == pytest.approx(details[0] / 2, rel=1e-3) and details[2] < 1e-5 < details[0]


def test_average_takes_over_what_is_in_use_and_keeps_it() -> None:
    growing = {"start": 0.5, "end": 0.5, "over": "0"}
    trainer = make_trainer(kind_config("stylenerf", train={"growing": growing}))
    trainer.step(make_batch(0))
    assert trainer.average.upsampling.grown.item() == 0.5
    assert "upsampling.grown" in trainer.average.state_dict()


def test_path_regularization_draws_image_and_field_together() -> None:
    trainer = make_trainer(kind_config("stylenerf", train={"nerf_path_regularization": 50.0, "generator_lr": 0.01}))
    found = []
    for _ in range(12):
        stats: dict[str, torch.Tensor] = {}
        trainer._generator_phase(make_batch(0), stats)
        found.append(stats["generator/nerf_path_regularization"].item())
    assert 0 < found[-1] < 0.7 * found[0]


def test_path_regularization_compares_a_pixel_with_its_own_ray() -> None:
    """If the image is the field's color at full size, there is no difference."""
    generator = _generator()
    scenes = sample_scenes(generator, 2, 0)
    trainer = make_trainer(kind_config("stylenerf"))
    draws = trainer._draws("generator", 0, 2)
    with torch.no_grad():
        content = generator.make_content(generator.map(scenes.z, scenes.labels))
        origins, directions = rays(scenes.prior_cameras, RESOLUTION)
        numbers = midpoint_randomness(2, RESOLUTION**2, 4, 4, origins)
        colors = generator.render_features(content, origins, directions, numbers, generator.ray_settings)[0][..., :3]
        images = colors.mT.unflatten(2, (RESOLUTION, RESOLUTION))
        for shown, is_zero in ((images, True), (images.flip(-1), False)):
            found = generator.penalties(content, shown, scenes, draws, lambda name: 1.0)["nerf_path_regularization"]
            assert (found.item() < 1e-9) == is_zero
