"""The training step: deterministic, resumable, and every switch trains."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from threedgp.camera.geometry import FOV
from threedgp.runtime import counter_rng
from threedgp.training import step
from threedgp.training.losses import MEAN_DRAWS, camera_loss
from threedgp.training.step import Trainer
from training.worlds import CLASSES, FOV_QUANTILES, make_batch, make_trainer, tiny_config


def _run(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.step(make_batch(trainer.images))
    return trainer


def _assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def test_two_runs_are_equal_and_another_seed_is_not() -> None:
    first, second = (_run(make_trainer(tiny_config()), 5) for _ in range(2))
    _assert_same(first.average, second.average)
    _assert_same(first.discriminator, second.discriminator)
    other = _run(make_trainer(tiny_config(train={"seed": 1})), 5)
    assert not torch.equal(first.average.mapping.w_average, other.average.mapping.w_average)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(stop: int) -> None:
    whole = _run(make_trainer(tiny_config()), 6)
    state = copy.deepcopy(_run(make_trainer(tiny_config()), stop).state_dict())
    resumed = make_trainer(tiny_config())
    resumed.load_state_dict(state)
    _run(resumed, 6 - stop)
    for name in ("generator", "average", "discriminator"):
        _assert_same(getattr(whole, name), getattr(resumed, name))


def test_global_random_state_does_not_matter() -> None:
    torch.manual_seed(0)
    first = _run(make_trainer(tiny_config()), 2)
    torch.manual_seed(123)
    torch.rand(7)
    _assert_same(first.average, _run(make_trainer(tiny_config()), 2).average)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"class_conditional": False}},
        {"camera": {"learned": False}},
        {"camera": {"prior": "fixed"}},
        {"camera": {"prior": "normal"}},
        {"camera": {"prior": "truncated_normal"}},
        {"camera": {"prior": "estimated"}},
        {"model": {"depth_adaptor": {"mode": "off"}}},
        {"model": {"depth_adaptor": {"mode": "half"}}},
        {"model": {"depth_adaptor": {"mode": "affine"}}},
        {"model": {"generator": {"noise": False}}},
        {"train": {"distillation": {"loss": "none"}}},
        {"train": {"distillation": {"loss": "kl"}}},
        {"train": {"camera_regularizer": {"kind": "gradient"}}},
        {"train": {"r1_gamma": 0.0}},
        {"model": {"depth": False}, "depth": {"estimator": "none"}},
        {"train": {"horizontal_flips": False}},
        {"train": {"ema_ramp_up": 0.0}},
        {"train": {"fake_labels": "balanced"}},
        {"model": {"depth_axis": "z"}},
        {"model": {"discriminator": {"normals": True}}},
        {"model": {"generator": {"background": "planes"}}},
        {"model": {"generator": {"contraction": True}}},
        {"train": {"precision": "tf32"}},
        {"train": {"precision": "bf16"}},
        {"train": {"accumulation": 2}},
    ],
    ids=lambda changes: str(changes).translate(str.maketrans("", "", "{}' ")),
)
def test_every_switch_trains_all_parameters(changes: dict[str, Any]) -> None:
    trainer = make_trainer(tiny_config(**changes))
    before = copy.deepcopy([trainer.generator.state_dict(), trainer.discriminator.state_dict()])
    stats = trainer.step(make_batch(0))
    assert all(torch.isfinite(value) for value in stats.values())
    _run(trainer, 3)
    for old, network in zip(before, (trainer.generator, trainer.discriminator), strict=True):
        still = [name for name, _ in network.named_parameters() if torch.equal(old[name], network.state_dict()[name])]
        # The head of a switched-off regularizer or a never-drawn candidate would show up here.
        assert not still


SWITCHES: dict[str, list[Any]] = {
    "camera.learned": [True, False],
    "camera.prior": ["uniform", "normal", "truncated_normal", "fixed", "estimated"],
    "model.class_conditional": [True, False],
    "model.depth": [True, False],
    "model.depth_adaptor.mode": ["off", "half", "all", "affine"],
    "model.depth_axis": ["ray", "z"],
    "model.discriminator.normals": [True, False],
    "model.generator.background": ["none", "planes"],
    "model.generator.contraction": [True, False],
    "model.generator.noise": [True, False],
    "train.accumulation": [1, 2],
    "train.camera_regularizer.kind": ["emd", "gradient"],
    "train.distillation.loss": ["none", "l2", "kl"],
    "train.fake_labels": ["data", "balanced"],
    "train.loss": ["logistic", "relativistic"],
    "train.novel_view": [0.0, 1.0],
    "train.posthoc_ema.snapshot_kimg": [0.0, 1.0],
    "train.precision": ["fp32", "bf16"],
}


def test_relativistic_pairs_have_cameras_of_their_class() -> None:
    """The prior of a generated patch is that of the class of the real patch that it is compared with."""
    trainer = make_trainer(tiny_config(camera={"prior": "estimated"}, train={"loss": "relativistic"}))
    seen: list[Tensor] = []
    fakes = trainer.generator.fakes
    trainer.generator.fakes = lambda scenes, *more: seen.append(scenes) or fakes(scenes, *more)
    _run(trainer, 4)
    labels = torch.cat([scenes.labels for scenes in seen])
    fov = torch.cat([scenes.prior_cameras[:, FOV] for scenes in seen])
    bounds = torch.tensor(FOV_QUANTILES[1:])[labels]
    assert len(labels.unique()) == CLASSES and ((bounds[:, 0] <= fov) & (fov <= bounds[:, -1])).all()


def _some_combinations(count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    drawn = [{key: values[random.integers(len(values))] for key, values in SWITCHES.items()} for _ in range(count)]
    for combination in drawn:  # without depth there are no normals
        combination["model.discriminator.normals"] &= combination["model.depth"]
    return drawn


def test_switches_combine() -> None:
    combinations = _some_combinations(32)
    values = {(key, value) for combination in combinations for key, value in combination.items()}
    assert values == {(key, value) for key, values in SWITCHES.items() for value in values}
    for combination in combinations:
        changes: dict[str, Any] = {}
        for key, value in combination.items():
            *sections, last = key.split(".")
            inner = changes
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = value
        trainer = make_trainer(tiny_config(**changes))
        stats = trainer.step(make_batch(0))
        assert all(torch.isfinite(value) for value in stats.values()), combination
        assert stats["generator/gradient_norm"] > 0 and stats["discriminator/gradient_norm"] > 0, combination
        features = combination["train.distillation.loss"] != "none"
        assert ("discriminator/distillation" in stats) == features, combination
        assert ("camera/regularizer" in stats) == combination["camera.learned"], combination
        assert ("generator/novel_view" in stats) == bool(combination["train.novel_view"]), combination


def _gradients(images: int = 0, **train: Any) -> list[torch.Tensor]:
    """Gradients of the discriminator in the step after so many images; the weights are always the same."""
    trainer = make_trainer(tiny_config(train=train), dtype=torch.float64)
    trainer.images = images
    trainer.discriminator_optimizer.step = lambda: None
    trainer.step(make_batch(0))
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.discriminator.parameters()]


def test_lazy_penalty_counts_as_often_as_it_is_left_out() -> None:
    off, every, third = _gradients(r1_gamma=0.0), _gradients(r1_interval=1), _gradients(r1_interval=3)
    sizes = [(one - none).abs().max() for one, none in zip(every, off, strict=True)]
    assert max(sizes) > 1e-6
    for none, one, lazy in zip(off, every, third, strict=True):
        assert torch.allclose(lazy - none, 3 * (one - none), rtol=1e-9, atol=1e-12)


def test_each_phase_gives_gradients_to_its_own_network_alone() -> None:
    trainer, batch = make_trainer(tiny_config()), make_batch(0)
    trainer._generator_phase(batch, {})
    assert all(one.grad is None for one in trainer.discriminator.parameters())
    trainer.generator_optimizer.zero_grad()
    trainer._discriminator_phase(batch, {})
    assert all(one.grad is None for one in trainer.generator.parameters())


def test_every_step_regularizes_other_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def seeing(generator: Any, scenes: Any, *more: Any) -> Any:
        seen.append(scenes.z)
        return camera_loss(generator, scenes, *more)

    monkeypatch.setattr(step, "camera_loss", seeing)
    _run(make_trainer(tiny_config()), 2)
    assert len(torch.cat(seen).unique(dim=0)) == 2 * MEAN_DRAWS


def test_distillation_fades_with_its_schedule() -> None:
    # 64 images in all, weight 1 to 0: after 32 and at the end. Everything else is kept from changing in between.
    still = {"start": 1.0, "end": 1.0, "over": "0"}
    same: dict[str, Any] = {"blur_sigma": still, "density_noise": still, "patch_scale_beta": still, "r1_gamma": 0.0}
    schedule = {"start": 1.0, "end": 0.0, "over": "100%"}
    for images, weight in ((32, 0.5), (64, 0.0)):
        without = _gradients(images, distillation={"loss": "none"}, **same)
        whole = _gradients(images, distillation={"weight": {**schedule, "end": 1.0}}, **same)
        faded = _gradients(images, distillation={"weight": schedule}, **same)
        assert max((a - b).abs().max() for a, b in zip(whole, without, strict=False)) > 1e-6
        for none, full, part in zip(without, whole, faded, strict=False):  # `none` lacks the head, which comes last
            assert torch.allclose(part - none, weight * (full - none), rtol=1e-9, atol=1e-12)


def test_camera_regularizer_is_ramped_up() -> None:
    found = {}
    for images, anneal in ((0, "0.064"), (32, "0.064"), (32, "0.032"), (48, "0.032")):
        trainer = make_trainer(tiny_config(train={"camera_regularizer": {"anneal": anneal}}), dtype=torch.float64)
        trainer.images = images
        found[images, anneal] = float(trainer.step(make_batch(0))["camera/regularizer"])
    assert found[0, "0.064"] == 0 and found[32, "0.032"] > 0 and found[48, "0.032"] > 0
    assert found[32, "0.064"] == pytest.approx(found[32, "0.032"] / 2, rel=1e-12)


class _Uploads(TorchDispatchMode):
    """Counts tensors that are made of Python numbers. On a GPU the process waits for each of them."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


def test_gradient_regularizer_leaves_out_a_fixed_field_of_view() -> None:
    """Its derivative is always 0, so that the penalty would be a large constant that dominates the curve."""
    found = []
    for weight in (0.0, 0.03):
        regularizer = {"kind": "gradient", "fov_weight": weight}
        config = tiny_config(camera={"fov": [20.0, 20.0]}, train={"camera_regularizer": regularizer})
        found.append(make_trainer(config).step(make_batch(0))["camera/regularizer"].item())
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("kind", ["emd", "gradient"])
def test_a_step_makes_no_tensor_of_numbers(kind: str) -> None:
    trainer = make_trainer(tiny_config(train={"camera_regularizer": {"kind": kind}, "r1_interval": 1}))
    trainer.step(make_batch(0))  # filters and bounds of classes are kept
    with _Uploads() as uploads:
        torch.tensor([1.0])
        assert uploads.count == 1
        trainer.step(make_batch(4))
    assert uploads.count == 1


def test_curves_hold_every_schedule() -> None:
    trainer = make_trainer(tiny_config(train={"camera_regularizer": {"anneal": "0.064"}}))
    trainer.images = 32  # half of the run, of which the blur and others take a half
    found = {name.removeprefix("schedule/"): value for name, value in trainer.schedules().items()}
    offset = found.pop("generator/near_offset")
    assert offset == pytest.approx(0.25 * 0.5 / (1 + math.exp(3)), rel=1e-5)
    assert found == pytest.approx(
        {
            "density_noise": 0.0,
            "blur_sigma": 0.0,
            "patch_scale_beta": 0.8,
            "raw_depth_probability": 0.25 - 0.15 * 0.032 / 10_000,
            "camera_regularizer": 0.5,
            "distillation_weight": 0.5,
        }
    )
    changes: dict[str, Any] = {"camera": {"learned": False}, "train": {"distillation": {"loss": "none"}}}
    assert not {"schedule/camera_regularizer", "schedule/distillation_weight"} & set(
        make_trainer(tiny_config(**changes)).schedules()
    )


@pytest.mark.parametrize("mode", ["half", "all"])
def test_adapted_depth_is_compared_with_rendered_depth(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tiny_config(model={"depth_adaptor": {"mode": mode}}, train={"accumulation": 2}))
    forward, seen = trainer.generator.forward, []

    def record(*arguments: Any) -> Any:
        synthesis = forward(*arguments)
        if torch.is_grad_enabled():
            seen.append(synthesis.candidates.detach().double().flatten(2).numpy())
        return synthesis

    monkeypatch.setattr(trainer.generator, "forward", record)
    stats = trainer.step(make_batch(0))
    candidates = [maps for piece in seen for maps in piece]
    assert len(seen) == 2 and len(candidates) == 4
    shares = [0, 0, 1] if mode == "half" else [1, 1, 1]  # at the start, with a raw_depth_probability of 1 / 4
    expected = {
        "adapted_correlation": np.mean([np.average(np.corrcoef(maps)[0, 1:], weights=shares) for maps in candidates]),
        "depth_deviation": np.mean([maps[0].std() for maps in candidates]),
        "adapted_deviation": np.mean([np.average(maps[1:].std(axis=1), weights=shares) for maps in candidates]),
    }
    found = {name: stats[f"generator/{name}"].item() for name in expected}
    assert found == pytest.approx(expected, rel=1e-3)  # float32 of depth that is almost flat


@pytest.mark.parametrize(
    "model", [{"depth_adaptor": {"mode": "off"}}, {"depth_adaptor": {"mode": "affine"}}, {"depth": False}]
)
def test_nothing_is_said_about_an_adaptor_that_cannot_hide_geometry(model: dict[str, Any]) -> None:
    stats = make_trainer(tiny_config(model=model)).step(make_batch(0))
    assert not [name for name in stats if "adapted" in name or "depth" in name]


def test_average_follows_by_its_decay() -> None:
    trainer = make_trainer(tiny_config(train={"ema_half_life": "0.008", "ema_ramp_up": 0.0}))
    before = [p.clone() for p in trainer.average.parameters()]
    trainer.step(make_batch(0))
    decay = 0.5 ** (4 / 8)  # batch 4, half-life 8 images
    for old, average, weight in zip(before, trainer.average.parameters(), trainer.generator.parameters(), strict=True):
        assert torch.allclose(average, decay * old + (1 - decay) * weight, atol=1e-6)


def test_lazy_regularization_corrects_the_optimizer() -> None:
    trainer = make_trainer(tiny_config(train={"adam_beta2": 0.9}))
    group = trainer.discriminator_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 3 / 4)
    assert group["betas"] == pytest.approx((0.0, 0.9**0.75))
    assert trainer.generator_optimizer.param_groups[0]["betas"] == (0.0, 0.9)


def test_learning_rates_decay_linearly_to_zero() -> None:
    """Over the last half of 16 steps; the lazy regularization's correction of the discriminator's rate stays."""
    train = {"kimg": 0.064, "lr_decay": "50%", "generator_lr": 0.01, "discriminator_lr": 0.02, "r1_interval": 3}
    trainer = make_trainer(tiny_config(train=train))
    rates = []
    for _ in range(16):
        trainer.step(make_batch(trainer.images))
        optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    factors = [1.0] * 8 + [left / 8 for left in range(8, 0, -1)]
    expected = [[0.01 * factor, 0.02 * 0.75 * factor] for factor in factors]
    assert np.allclose(rates, expected, rtol=1e-9)


def test_r1_comes_every_third_step() -> None:
    trainer = make_trainer(tiny_config())
    seen = ["discriminator/r1" in trainer.step(make_batch(trainer.images)) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]


def test_one_pass_over_fakes_and_reals_is_two_passes() -> None:
    trainer = make_trainer(tiny_config())
    draws = trainer._draws("discriminator", 0, 4)
    fakes, _ = trainer._fakes(draws)
    reals = next(trainer._reals(make_batch(0)))[0]
    together, _ = trainer._judge(fakes.followed_by(reals), None)
    apart = [trainer._judge(seen, None)[0] for seen in (fakes, reals)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_relativistic_step_penalizes_both_sides_and_reaches_every_parameter() -> None:
    trainer = make_trainer(tiny_config(train={"loss": "relativistic", "r1_interval": 1}))
    stats = trainer.step(make_batch(0))
    assert stats["discriminator/r1"] > 0 and stats["discriminator/r2"] > 0
    assert stats["discriminator/r1"] != stats["discriminator/r2"]
    # Untrained, both logits are near each other, and softplus(0) = ln 2.
    assert abs(stats["discriminator/loss"] - math.log(2)) < 0.3 and abs(stats["generator/loss"] - math.log(2)) < 0.3
    for network in (trainer.generator, trainer.discriminator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_relativistic_pairs_share_class_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conditional logits of R3GAN are compared under the same condition."""
    trainer = make_trainer(tiny_config(train={"loss": "relativistic", "fake_labels": "data"}))
    judged = []
    judge = trainer._judge
    monkeypatch.setattr(
        trainer, "_judge", lambda seen, *more, **options: judged.append(seen) or judge(seen, *more, **options)
    )
    trainer.step(make_batch(0))
    fakes, reals, both = judged[:3]  # of the generator phase, and of the discriminator phase: fakes, then reals
    assert torch.equal(fakes.labels, reals.labels) and torch.equal(fakes.labels, make_batch(0).label)
    assert all(torch.equal(a, b) for a, b in zip(fakes.patches, reals.patches, strict=True))
    assert torch.equal(both.labels[:4], both.labels[4:])
    assert all(torch.equal(column[:4], column[4:]) for column in both.patches)


def test_flips_mirror_image_and_depth_together() -> None:
    trainer = make_trainer(tiny_config(train={"patch_scale_min": 1.0}))
    batch = make_batch(0, 4)
    draws = trainer._draws("real", 0, 4)
    cut = next(trainer._reals(batch))[0].images
    whole = torch.cat([batch.image.float() / 127.5 - 1, batch.depth.float() / 2**15], dim=1)
    flipped = draws.uniform("flip") < 0.5
    assert flipped.any() and not flipped.all()
    for i in range(4):
        expected = whole[i].flip(-1) if flipped[i] else whole[i]
        corners = torch.tensor([0, -1])
        assert torch.allclose(cut[i][:, corners][:, :, corners], expected[:, corners][:, :, corners], atol=1e-4)


def test_normals_of_real_patches_are_those_of_their_depth_at_every_scale_and_flip() -> None:
    trainer = make_trainer(tiny_config(model={"discriminator": {"normals": True}}))
    trainer.images = 136  # patches of scales 0.35 and 1.00, half of the images flipped
    batch = make_batch(0, 4)
    line = torch.linspace(-1, 1, batch.depth.shape[-1])
    plane = 0.5 * line + 0.25 * -line[:, None]  # of slopes 0.5 to the right and 0.25 up
    batch.depth[:] = (plane * 2**15).round().to(torch.int16)
    images = next(trainer._reals(batch))[0].images
    flipped = trainer._draws("real", trainer.images, 4).uniform("flip") < 0.5
    assert images.shape[1] == trainer.discriminator.from_rgb.weight.shape[1] == 7
    assert flipped.any() and not flipped.all()
    for normals, flip in zip(images[:, 4:], flipped, strict=True):
        expected = F.normalize(torch.tensor([-0.5 if flip else 0.5, 0.25, 1]), dim=0)
        assert torch.allclose(normals, expected[:, None, None].expand_as(normals), atol=1e-3)


@pytest.mark.parametrize("mode", ["off", "all", "affine"])
def test_normals_of_fakes_have_gradients_to_geometry(mode: str) -> None:
    changes = {"discriminator": {"normals": True}, "depth_adaptor": {"mode": mode}}
    trainer = make_trainer(tiny_config(model=changes))
    fakes, _ = trainer._fakes(trainer._draws("generator", 0, 4))
    normals = fakes.images[:, 4:]
    assert torch.allclose(normals.norm(dim=1), torch.ones(4, 4, 4), atol=1e-5)
    (normals * torch.linspace(-1, 1, 4)).sum().backward()
    generator = trainer.generator
    density = generator.decoder.output.weight.grad[-1]
    parts = {"backbone": generator.backbone, "cameras": generator.camera_generator, "adaptor": generator.depth_adaptor}
    assert density.abs().max() > 0
    for name, part in parts.items():
        gradients = [p.grad.abs().max() for p in part.parameters() if p.grad is not None]
        assert max(gradients, default=0) > 0 or (name, mode) == ("adaptor", "off"), name


@pytest.mark.parametrize(("kind", "expected"), [("data", [0.5, 0.3, 0.2]), ("balanced", [1 / 3, 1 / 3, 1 / 3])])
def test_labels_of_fakes_follow_the_data_or_are_balanced(kind: str, expected: list[float]) -> None:
    trainer = make_trainer(tiny_config(train={"fake_labels": kind}))
    labels = trainer._draws("label test", 0, 20_000).scenes(trainer.generator).labels
    shares = torch.bincount(labels, minlength=3) / 20_000
    # Four standard errors of a share of 20,000 draws are at most 0.0142; the seed is fixed.
    assert (shares - torch.tensor(expected)).abs().max() < 0.0142


def test_nothing_of_3dgp_is_left_in_epigraf() -> None:
    changes: dict[str, Any] = {
        "model": {"kind": "epigraf", "depth": False},
        "depth": {"estimator": "none"},
        "camera": {"learned": False, "prior": "normal"},
        "train": {"distillation": {"loss": "none"}},
    }
    trainer = make_trainer(tiny_config(**changes))
    stats = trainer.step(make_batch(0))
    assert not [name for name in stats if name.startswith("camera/") or name.endswith("distillation")]
    assert trainer.discriminator.from_rgb.weight.shape[1] == 3
    for section, key, value, words in (
        ("camera", "learned", True, "set camera.learned to false"),
        ("train", "distillation", {"loss": "l2"}, "set train.distillation.loss to none"),
    ):
        wrong = copy.deepcopy(changes)
        wrong[section][key] = value
        with pytest.raises(ValidationError, match=words):
            tiny_config(**wrong)


@pytest.mark.parametrize("patch", [4, 8], ids=["patch", "halved"])
def test_gradients_in_float32_are_those_of_float64(patch: int) -> None:
    """Every parameter in both phases, R1 included: code compiled for float32 against PyTorch's operators."""
    sizes = {
        "generator": {
            "plane_resolution": 16, "plane_channels": 8, "channel_base": 256, "channel_max": 32, "noise": False,
        },
        "depth_adaptor": {"channels": 16},
        "discriminator": {"patch_resolution": patch, "channel_base": 256, "channel_max": 32},
    }  # fmt: skip
    gradients: list[dict[str, Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        trainer = make_trainer(tiny_config(model=sizes, train={"blur_sigma": {"start": 0.0}}), dtype=dtype)
        for name, parameter in [*trainer.generator.named_parameters(), *trainer.discriminator.named_parameters()]:
            if name.endswith("bias") and "affine" not in name:  # they begin at zero, which hides what they do
                index = torch.arange(parameter.numel())
                parameter.data += counter_rng.normal((parameter.numel(),), 0, name, index, dtype=dtype) * 0.1
        trainer._generator_phase(make_batch(0), {})
        found = {f"generator.{n}": p.grad.double() for n, p in trainer.generator.named_parameters()}
        trainer._discriminator_phase(make_batch(0), {})
        found |= {f"discriminator.{n}": p.grad.double() for n, p in trainer.discriminator.named_parameters()}
        gradients.append(found)
    for name, truth in gradients[1].items():
        # Rounding; sines of angles of up to 1,600 that are good to 1e-4; activations and texels at an edge.
        assert (gradients[0][name] - truth).norm() <= 0.02 * truth.norm() + 1e-9, name
