"""Initial weights: a switch of one part leaves those of all other parts as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.worlds import make_trainer, tiny_config


def initial_weights(**changes: Any) -> dict[str, torch.Tensor]:
    """Initial weights of both networks by name."""
    trainer = make_trainer(tiny_config(**changes))
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    return {f"{of}.{name}": p for of, network in networks.items() for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("switched", "parts"),
    [
        ({"model": {"depth": False}}, ("generator.depth_adaptor", "discriminator.from_rgb")),
        ({"model": {"discriminator": {"normals": True}}}, ("discriminator.from_rgb",)),
        ({"model": {"depth_adaptor": {"mode": "off"}}}, ("generator.depth_adaptor",)),
        ({"camera": {"learned": False}}, ("generator.camera_generator",)),
        ({"train": {"distillation": {"loss": "none"}}}, ("discriminator.feature_head",)),
        (
            {"model": {"generator": {"background": "planes"}}},
            (
                "generator.background_decoder",
                "generator.backbone.blocks.0.background_output",
                "generator.backbone.blocks.1.background_output",
            ),
        ),
        (
            {"model": {"discriminator": {"conditioning": "balanced"}}},
            ("discriminator.patch_encoding", "discriminator.style_mapping", "discriminator.head_mapping"),
        ),
    ],
)
def test_a_switch_changes_the_weights_of_its_own_part_only(switched: dict[str, Any], parts: tuple[str, ...]) -> None:
    before, after = initial_weights(), initial_weights(**switched)
    assert any(name.startswith(parts) for name in before.keys() | after.keys())
    for name in before.keys() | after.keys():
        if not name.startswith(parts) and not name.startswith("discriminator.embed_label"):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_another_seed_changes_every_part() -> None:
    before, after = initial_weights(), initial_weights(train={"seed": 1})
    drawn = [name for name, weight in before.items() if weight.dim() > 1]
    assert all((before[name] != after[name]).any() for name in drawn)
