"""Training steps on a GPU against the same steps on the CPU: `pytest -m gpu tests/training/test_gpu.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from threedgp.config import KINDS
from threedgp.models.sampler import render_scenes, sample_scenes
from threedgp.training.step import Trainer
from training.worlds import BEYOND, RESOLUTION, kind_config, make_batch, make_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

every_kind = pytest.mark.parametrize("kind", KINDS)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# The field's kernels round the operands of their products to ten bits (TF32, 5e-4 each); everything else is float32.
TF32 = 5e-3


def _gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    return {
        name: torch.cat([one.grad.flatten().cpu() for one in network.parameters()])
        for name, network in networks.items()
    }


def _pair(kind: str, **changes: Any) -> tuple[Trainer, Trainer]:
    config = kind_config(kind, **changes)
    return make_trainer(config), make_trainer(config, device=CUDA)


@every_kind
@pytest.mark.parametrize("loss", ["logistic", "relativistic"])
def test_step_agrees_with_the_cpu(kind: str, loss: str) -> None:
    _compare_steps(kind, train={"r1_interval": 1, "loss": loss})


def test_step_beyond_the_paper_agrees_with_the_cpu() -> None:
    """Without views from outside of the prior: which of their pixels count may change with a rounding error."""
    _compare_steps("3dgp", **BEYOND | {"train": {"r1_interval": 1}})


def _compare_steps(kind: str, **changes: Any) -> None:
    """Same weights and random numbers: every scalar, and the gradients of both networks with R1."""
    expected, found = _pair(kind, **changes)
    scalars, others = expected.step(make_batch(0)), found.step(make_batch(0))
    assert scalars.keys() == others.keys()
    differences = {name: (others[name].cpu() - value).abs() for name, value in scalars.items()}
    assert not {name: d for name, d in differences.items() if d > TF32 + 2 * TF32 * scalars[name].abs()}
    truth = _gradients(expected)
    for name, gradient in _gradients(found).items():
        assert (gradient - truth[name]).norm() < 4 * TF32 * truth[name].norm(), name


@every_kind
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("switch", ["", "compile", "recompute"])
def test_lower_precision_is_finite(kind: str, precision: str, switch: str) -> None:
    changes: dict[str, Any] = {"train": {"precision": precision, "compile": switch == "compile"}}
    if switch == "recompute":
        if kind in ("volumegan", "stylenerf"):
            pytest.skip("it has no backbone to recompute")
        changes["model"] = {"recompute": True}
    trainer = make_trainer(kind_config(kind, **changes), device=CUDA)
    for _ in range(2):
        stats = trainer.step(make_batch(trainer.images))
    assert all(value.isfinite() for value in stats.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_beyond_the_paper_is_finite(precision: str) -> None:
    config = kind_config("3dgp", **BEYOND | {"train": BEYOND["train"] | {"precision": precision}})
    trainer = make_trainer(config, device=CUDA)
    for _ in range(2):
        stats = trainer.step(make_batch(trainer.images))
    assert stats["generator/novel_view"] > 0 and all(value.isfinite() for value in stats.values())


@every_kind
def test_images_agree_with_the_cpu(kind: str) -> None:
    """Scenes are drawn and rendered alike, to a unit of eight bits where rays do not end in noise."""
    drawn = []
    for trainer in _pair(kind):
        scenes = sample_scenes(trainer.average, 8, seed=3)
        images = render_scenes(trainer.average, scenes, RESOLUTION).images.cpu().float()
        drawn.append((scenes.labels.cpu(), images))
    (labels, images), (other_labels, other_images) = drawn
    assert labels.equal(other_labels)
    assert (images - other_images).abs().mean() < 0.5


@every_kind
def test_state_moves_between_devices(kind: str) -> None:
    expected, found = _pair(kind)
    expected.step(make_batch(0))
    found.load_state_dict(expected.state_dict())
    assert found.images == expected.images
    for name, value in expected.generator.state_dict().items():
        assert found.generator.state_dict()[name].cpu().equal(value)
    found.step(make_batch(found.images))
