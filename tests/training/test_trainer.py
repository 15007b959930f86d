"""The training step: deterministic, resumable, and every switch trains."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from threedgp.training.patches import Patches
from threedgp.training.trainer import Trainer
from training.worlds import make_batch, make_trainer, tiny_config


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
        {"camera": {"prior": "truncated_normal"}},
        {"model": {"depth_adaptor": {"mode": "off"}}},
        {"model": {"depth_adaptor": {"mode": "half"}}},
        {"model": {"generator": {"noise": False}}},
        {"train": {"distillation": {"loss": "none"}}},
        {"train": {"distillation": {"loss": "kl"}}},
        {"train": {"camera_regulariser": {"kind": "gradient"}}},
        {"train": {"r1_gamma": 0.0}},
        {"model": {"depth": False}, "depth": {"estimator": "none"}},
        {"train": {"horizontal_flips": False}},
        {"train": {"ema_ramp_up": 0.0}},
        {"train": {"fake_labels": "balanced"}},
        {"model": {"depth_axis": "z"}},
        {"model": {"generator": {"contraction": True}}},
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
        # The head of a switched-off regulariser or a never-drawn candidate would show up here.
        assert not still


def test_average_follows_by_its_decay() -> None:
    trainer = make_trainer(tiny_config(train={"ema_half_life": "0.004", "ema_ramp_up": 0.0}))
    before = [p.clone() for p in trainer.average.parameters()]
    trainer.step(make_batch(0))
    # Batch 4, half-life 4 images: half-way from the average to the weights.
    for old, average, weight in zip(before, trainer.average.parameters(), trainer.generator.parameters(), strict=True):
        assert torch.allclose(average, (old + weight) / 2, atol=1e-6)


def test_lazy_regularisation_corrects_the_optimiser() -> None:
    group = make_trainer(tiny_config()).discriminator_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 3 / 4)
    assert group["betas"] == pytest.approx((0.0, 0.99**0.75))


def test_r1_comes_every_third_step() -> None:
    trainer = make_trainer(tiny_config())
    seen = ["discriminator/r1" in trainer.step(make_batch(trainer.images)) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]


def test_one_pass_over_fakes_and_reals_is_two_passes() -> None:
    trainer = make_trainer(tiny_config())
    draws = trainer._draws("discriminator", 0, 4)
    fakes, fake_patches, labels, _ = trainer._fakes(draws)
    reals, patches = trainer._real_patches(make_batch(0), draws)
    both = Patches(*(torch.cat(pair) for pair in zip(fake_patches, patches, strict=True)))
    together, _ = trainer._judge(torch.cat([fakes, reals]), both, torch.cat([labels, labels]), None)
    apart = [trainer._judge(fakes, fake_patches, labels, None)[0], trainer._judge(reals, patches, labels, None)[0]]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_flips_mirror_picture_and_depth_together() -> None:
    trainer = make_trainer(tiny_config(train={"patch_scale_beta": {"start": 1e-6, "end": 1e-6, "over": "0"}}))
    batch = make_batch(0, 4)
    draws = trainer._draws("real", 0, 4)
    cut, _ = trainer._real_patches(batch, draws)
    whole = torch.cat([batch.image.float() / 127.5 - 1, batch.depth], dim=1)
    flipped = draws.uniform("flip") < 0.5
    assert flipped.any() and not flipped.all()
    for i in range(4):
        expected = whole[i].flip(-1) if flipped[i] else whole[i]
        corners = torch.tensor([0, -1])
        assert torch.allclose(cut[i][:, corners][:, :, corners], expected[:, corners][:, :, corners], atol=1e-4)


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
