"""Both whole networks against the published ones, through the mapping of names; and the same at other sizes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from golden_arrays import assert_matches, load
from threedgp.camera.geometry import Patches
from threedgp.config import CameraConfig, ModelConfig
from threedgp.conversion.names import convert_discriminator_names, convert_names
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import RenderOptions, Scenes
from threedgp.models.triplane import Synthesis, TriplaneGenerator
from threedgp.render import RayRandomness
from threedgp.runtime.errors import UserError

CLASSES, FEATURES, IMAGE, PATCH = 5, 12, 64, 16


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Tensor]:
    return load(golden, "networks_conditional.npz")


@pytest.fixture(scope="module")
def networks(arrays: dict[str, Tensor]) -> tuple[TriplaneGenerator, Discriminator]:
    camera = CameraConfig(yaw=(-1.57, 1.57), pitch=(0.785398163, 2.35619449), hidden=16, embedding=4)
    model = ModelConfig.model_validate(
        {
            "generator": {
                "z_dim": 32, "w_dim": 32, "plane_resolution": 32, "plane_channels": 8, "channel_base": 1024,
                "channel_max": 32, "decoder_hidden": 16, "coarse_samples": 8, "fine_samples": 8,
            },
            "depth_adaptor": {"channels": 8},
            "discriminator": {"patch_resolution": PATCH, "channel_base": 1024, "channel_max": 32},
        }
    )  # fmt: skip
    generator = TriplaneGenerator(camera, model, CLASSES)
    discriminator = Discriminator(model, IMAGE, CLASSES, FEATURES)
    for network, prefix, rename in (
        (generator, "state/G.", convert_names),
        (discriminator, "state/D.", convert_discriminator_names),
    ):
        state = {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}
        network.load_state_dict(rename(state), strict=True)
    return generator, discriminator


def _synthesize(generator: TriplaneGenerator, arrays: dict[str, Tensor]) -> Synthesis:
    randomness = RayRandomness(arrays["u_coarse"], arrays["u_fine"])
    labels = arrays["c"].argmax(dim=1)
    patches = Patches(arrays["patch_scales"], arrays["patch_offsets"])
    return generator(Scenes(arrays["z"], labels, arrays["prior"]), patches, PATCH, randomness)


def _judge(discriminator: Discriminator, arrays: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    patch = torch.cat([arrays["patch_scales"][:, :1], arrays["patch_offsets"]], dim=1)
    return discriminator(images, patch, arrays["c"].argmax(dim=1))


def test_generator_matches(networks: tuple[TriplaneGenerator, Discriminator], arrays: dict[str, Tensor]) -> None:
    generator, _ = networks
    out = _synthesize(generator, arrays)
    assert_matches(out.w, arrays["w"])
    assert_matches(out.cameras, arrays["posterior"])
    planes = generator.make_content(out.w)
    assert_matches(planes.permute(0, 1, 4, 2, 3).flatten(1, 2), arrays["planes"])
    assert_matches(out.rgb, arrays["rgb"])
    assert_matches(out.depth, arrays["depth"])
    assert_matches(out.candidates, arrays["depth_candidates"])


def test_discriminator_matches(networks: tuple[TriplaneGenerator, Discriminator], arrays: dict[str, Tensor]) -> None:
    images = torch.cat([arrays["rgb"], arrays["depth_candidates"][:, -1]], dim=1)
    logits, features = _judge(networks[1], arrays, images)
    assert_matches(logits, arrays["logits"])
    assert_matches(features, arrays["features"])


def test_gradient_of_every_parameter_matches(
    networks: tuple[TriplaneGenerator, Discriminator], arrays: dict[str, Tensor]
) -> None:
    generator, discriminator = networks
    out = _synthesize(generator, arrays)
    logits, features = _judge(discriminator, arrays, torch.cat([out.rgb, out.candidates[:, -1]], dim=1))
    parameters = [*generator.parameters(), *discriminator.parameters()]
    for parameter in parameters:
        parameter.grad = None
    (logits.sum() + features.square().mean()).backward()
    compared = 0
    for network, prefix, rename in (
        (generator, "gradnorm/G.", convert_names),
        (discriminator, "gradnorm/D.", convert_discriminator_names),
    ):
        norms = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        ours = dict(network.named_parameters())
        for name, norm in rename(norms).items():
            gradient = ours[name].grad
            got = torch.zeros([]) if gradient is None else gradient.norm()
            # Tolerance of the arrays, 1e-4, relative to each norm (the smallest, of the near plane, is 1.5e-4).
            assert torch.isclose(got, norm.float(), rtol=1e-4, atol=1e-9), name
            compared += 1
    assert compared == len(parameters)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_networks_match_on_a_gpu(
    networks: tuple[TriplaneGenerator, Discriminator],
    arrays: dict[str, Tensor],
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    generator, discriminator = (copy.deepcopy(network).cuda() for network in networks)
    there = {name: value.cuda() for name, value in arrays.items() if not name.startswith(("state/", "gradnorm/"))}
    monkeypatch.setattr("threedgp.render.backends._select", lambda *_: backend)
    out = _synthesize(generator, there)
    # The kernels round the operands of their products to ten bits (TF32); PyTorch's operators do not.
    tolerance = 1e-4 if backend == "torch" else 1e-2
    for name, found in (("w", out.w), ("posterior", out.cameras)):
        assert_matches(found.cpu(), arrays[name])
    for name, found in (("rgb", out.rgb), ("depth", out.depth), ("depth_candidates", out.candidates)):
        assert_matches(found.cpu(), arrays[name], tolerance)
    logits, features = _judge(discriminator, there, torch.cat([there["rgb"], there["depth_candidates"][:, -1]], dim=1))
    assert_matches(logits.cpu(), arrays["logits"])
    assert_matches(features.cpu(), arrays["features"])


def test_unknown_published_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"synthesis\.b4\.surprise"):
        convert_names({"synthesis.b4.surprise": torch.zeros(1)})


def _small(**changes: object) -> ModelConfig:
    generator = dict(
        z_dim=6, w_dim=10, mapping_layers=3, plane_resolution=8, plane_channels=5, channel_base=96, channel_max=12,
        decoder_hidden=7, coarse_samples=5, fine_samples=3,
    )  # fmt: skip
    discriminator = dict(
        patch_resolution=8, channel_base=96, channel_max=12, patch_encoding_width=9, minibatch_std_group=2
    )
    adaptor = dict(channels=3, layers=2, kernel_size=3)
    merged = {"generator": generator, "discriminator": discriminator, "depth_adaptor": adaptor}
    for key, values in changes.items():
        merged[key] = merged[key] | values
    return ModelConfig.model_validate(merged)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"depth_adaptor": {"mode": "off"}}, {"generator": {"fine_samples": 0, "noise": False}}]
)
def test_other_sizes_work_and_every_parameter_learns(classes: int, learned: bool, changes: dict) -> None:
    torch.manual_seed(0)
    model = _small(**changes)
    generator = TriplaneGenerator(CameraConfig(learned=learned, hidden=8, embedding=3), model, classes)
    discriminator = Discriminator(model, 16, classes, 4)
    settings = model.generator
    labels = torch.tensor([0, 1, 2, 1]) if classes else None
    from threedgp.camera.priors import prior_cameras

    out = generator(
        Scenes(torch.randn(4, 6), labels, prior_cameras(generator.camera_config, torch.rand(4, 6))),
        Patches(torch.full((4, 2), 0.6), torch.rand(4, 2) * 0.4),
        8,
        RayRandomness(torch.rand(4, 64, settings.coarse_samples), torch.rand(4, 64, settings.fine_samples)),
        noise=[torch.randn(4, 1, *shape) for shape in generator.backbone.noise_shapes()],
    )
    depth = out.candidates.mean(dim=1)
    logits, features = discriminator(torch.cat([out.rgb, depth], dim=1), torch.rand(4, 3), labels)
    (logits.sum() + features.square().mean()).backward()
    for network in (generator, discriminator):
        silent = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
        assert not silent


def test_truncation_moves_w_towards_the_average() -> None:
    generator = TriplaneGenerator(CameraConfig(hidden=8, embedding=3), _small(), 0)
    with torch.no_grad():
        generator.mapping.w_average.fill_(3.0)
        z = torch.randn(2, 6)
        full = generator.map(z)
        assert torch.allclose(generator.map(z, truncation=0.25), 3.0 + 0.25 * (full - 3.0), atol=1e-6)
        assert torch.allclose(generator.map(z, truncation=0.0), torch.full_like(full, 3.0))


def test_rendering_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = TriplaneGenerator(CameraConfig(learned=False), _small(), 0).eval()
    from threedgp.camera.priors import frontal_cameras

    with torch.no_grad():
        planes = generator.make_content(generator.map(torch.randn(2, 6)))
    cameras = frontal_cameras(generator.camera_config, 2)
    for quantile in (0.0, 0.5):
        monkeypatch.setattr("threedgp.models.triplane.RAY_CHUNK", 1 << 16)
        whole = generator.render(planes, cameras, 9, RenderOptions(cut_quantile=quantile))
        monkeypatch.setattr("threedgp.models.triplane.RAY_CHUNK", 2 * 13)
        pieces = generator.render(planes, cameras, 9, RenderOptions(cut_quantile=quantile))
        assert torch.allclose(whole.rgb, pieces.rgb, atol=1e-6) and torch.allclose(whole.depth, pieces.depth, atol=1e-6)


def _trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_imagenet_sizes() -> None:
    """Parameter counts of the backbone, worked out by hand from the layout of StyleGAN2."""
    with torch.device("meta"):
        generator = TriplaneGenerator(CameraConfig(), ModelConfig(), 1000)
    channels = {2**k: min(65536 // 2**k, 1024) for k in range(2, 10)}
    expected = 1024 * 16
    for size, width in channels.items():
        before = channels.get(size // 2)
        for inputs in [width] if before is None else [before, width]:
            expected += width * inputs * 9 + width + inputs * 513 + 1
        expected += 96 * width + 96 + width * 513
    assert _trainable(generator.backbone) == expected


def test_depth_along_the_axis_is_that_along_the_ray_times_the_cosine() -> None:
    torch.manual_seed(0)
    camera = CameraConfig(learned=False, hidden=8, embedding=3)
    from threedgp.camera.geometry import cam2world, rays
    from threedgp.camera.priors import prior_cameras

    cameras = prior_cameras(camera, torch.rand(3, 6))
    patches = Patches(torch.full((3, 2), 0.6), torch.rand(3, 2) * 0.4)
    randomness = RayRandomness(torch.rand(3, 64, 5), torch.rand(3, 64, 3))
    z = torch.randn(3, 6)
    outs = {}
    for axis in ("ray", "z"):
        torch.manual_seed(1)
        model = _small().model_copy(update={"depth_axis": axis})
        generator = TriplaneGenerator(camera, model, 0)
        outs[axis] = generator(Scenes(z, None, cameras), patches, 8, randomness)
    assert torch.equal(outs["ray"].depth, outs["z"].depth)  # what metrics and meshes use stays along the ray
    _, directions = rays(cameras, 8, patches)
    forward = -cam2world(cameras)[:, :3, 2]
    cosines = (directions * forward[:, None]).sum(-1).view(3, 1, 8, 8)
    assert cosines.min() < 0.99
    along_axis = generator.depth_adaptor.scale(outs["ray"].depth * cosines)
    assert torch.allclose(outs["z"].candidates[:, 0], along_axis, atol=1e-5)


def test_contraction_reaches_beyond_the_cube() -> None:
    torch.manual_seed(0)
    camera = CameraConfig(learned=False)
    changed = _small(generator={"contraction": True})
    points = torch.tensor([[[3.0, 4.0, 5.0], [-4.0, 5.0, 3.0]]])  # outside of every plane
    for model, differ in ((_small(), False), (changed, True)):
        torch.manual_seed(1)
        generator = TriplaneGenerator(camera, model, 0)
        with torch.no_grad():
            planes = generator.make_content(generator.map(torch.randn(1, 6)))
        values = generator.color(planes, points)[0]
        # Outside of the cube all features are zero; contracted, every point of space has its own.
        assert torch.allclose(values[0], values[1]) != differ
