"""Views from outside of the prior: cameras, what is known of them, and the term of the loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from threedgp.camera.geometry import PITCH, YAW, project, rays
from threedgp.camera.priors import frontal_cameras
from threedgp.config import KINDS, CameraConfig, parse_config
from threedgp.models.novel_views import MAX_TURN, outer_cameras, warp
from threedgp.runtime.errors import UserError
from threedgp.training.step import Trainer
from training.worlds import kind_config, make_batch, make_trainer, tiny_config

RANGE = (0.7, 1.6)
SPHERE_RADIUS, WALL = 0.15, -0.25
"""A sphere around the origin, and a wall at this z."""
SIZE = 64


def _distances(origins: Tensor, directions: Tensor) -> Tensor:
    """Distance `[B, N]` along rays to the sphere or the wall."""
    along = (origins * directions).sum(-1)
    square = along.square() - origins.square().sum(-1) + SPHERE_RADIUS**2
    sphere = torch.where(square > 0, -along - square.clamp(min=0).sqrt(), math.inf)
    return torch.minimum(sphere, (WALL - origins[..., 2]) / directions[..., 2])


def _view(cameras: Tensor) -> tuple[Tensor, Tensor]:
    """The analytic view `[B, 4, R, R]`, colors being functions of position, and the points `[B, N, 3]`."""
    origins, directions = rays(cameras, SIZE)
    depth = _distances(origins, directions)[..., None]
    points = origins + depth * directions
    images = torch.cat([torch.sin(6 * points), depth], dim=-1)
    return images.mT.unflatten(2, (SIZE, SIZE)), points


def _cameras(*yaw: float) -> Tensor:
    config = CameraConfig(fov=(35.0, 35.0))
    cameras = frontal_cameras(config, len(yaw), dtype=torch.float64)
    cameras[:, YAW] = torch.tensor(yaw, dtype=torch.float64)
    return cameras


@pytest.mark.parametrize("turn", [-0.4, 0.0, 0.25])
def test_known_pixels_are_those_of_the_other_view(turn: float) -> None:
    cameras, others = _cameras(0.0, 0.1), _cameras(turn, 0.1 + turn)
    known, _ = _view(cameras)
    expected, points = _view(others)
    found, visible = warp(known, cameras, others, RANGE)
    # A point is visible from the known camera if that camera's ray towards it ends there, inside of the image.
    origins = rays(cameras, SIZE)[0]
    offsets = points - origins
    reach = offsets.norm(dim=-1)
    positions, _ = project(points, cameras)
    inside = (positions.abs() <= 1 + 1e-6).all(-1).view_as(visible)
    occluded = inside & (reach > _distances(origins, offsets / reach[..., None]) + 1e-6).view_as(visible)
    truth = inside & ~occluded
    error = (found - expected).abs()
    right = (visible & truth).expand_as(error)
    assert error[right].mean() < 4e-3 and error[right].quantile(0.99) < 0.04  # of colors from -1 to 1, interpolated
    share = {
        "outside": (visible & ~inside).double().mean(),
        "occluded": occluded.double().mean(),
        "occluded, but taken for known": (visible & occluded).double().mean(),
        "known, but left out": (truth & ~visible).double().mean(),
    }
    assert share["outside"] < 1e-3 and share["known, but left out"] < 0.05
    assert share["occluded, but taken for known"] <= 0.15 * share["occluded"], "pixels on the edge of the sphere"
    assert (share["occluded"] > 0.03) == (turn != 0)


def test_end_of_the_rays_is_unknown() -> None:
    cameras = _cameras(0.0)
    known = torch.zeros(1, 4, SIZE, SIZE, dtype=torch.float64)
    for depth, share in ((1.55, 1.0), (1.6, 0.0)):
        known[:, 3] = depth
        assert warp(known, cameras, cameras, RANGE)[1].double().mean() == share


@pytest.mark.parametrize(
    ("settings", "edge"),
    [
        ({"yaw": (-1.0, 1.0)}, 1.0),
        ({"yaw": (-1.0, 1.0), "prior": "normal", "yaw_std": 0.3}, 0.6),
        ({"yaw": (-1.0, 1.0), "prior": "fixed"}, 0.0),
        ({"yaw": (0.0, 1.0)}, 0.5),
    ],
)
def test_outer_cameras_lie_beyond_the_edge_on_their_own_side(settings: dict[str, Any], edge: float) -> None:
    config = CameraConfig(**settings)
    middle = sum(config.yaw) / 2
    cameras = frontal_cameras(config, 4)
    cameras[:, YAW] += torch.tensor([-0.3, -0.01, 0.01, 0.3])
    cameras[:, PITCH] += 0.2
    side, u = torch.tensor([-1.0, -1.0, 1.0, 1.0]), torch.tensor([0.0, 0.25, 0.5, 1.0])
    first, second = outer_cameras(config, cameras, u)
    torch.testing.assert_close(first[:, YAW], middle + side * edge)
    torch.testing.assert_close(second[:, YAW], middle + side * (edge + MAX_TURN * u))
    for found in (first, second):
        assert torch.equal(found[:, PITCH:], cameras[:, PITCH:])


def _losses(trainer: Trainer, count: int) -> list[float]:
    found = []
    for _ in range(count):
        stats: dict[str, Tensor] = {}
        trainer.generator_optimizer.zero_grad()
        trainer._generator_phase(make_batch(0), stats)
        found.append(stats["generator/novel_view"].item())
    return found


def test_term_falls_and_is_absent_by_default() -> None:
    found = _losses(make_trainer(tiny_config(train={"novel_view": 100.0, "generator_lr": 0.01})), 20)
    assert 0 < found[-1] < 0.7 * found[0]
    assert "generator/novel_view" not in make_trainer(tiny_config()).step(make_batch(0))


def test_term_teaches_the_scene_and_not_the_cameras() -> None:
    gradients = []
    for weight in (0.0, 1e3):
        trainer = make_trainer(tiny_config(train={"novel_view": weight}))
        trainer._generator_phase(make_batch(0), {})
        gradients.append({name: one.grad for name, one in trainer.generator.named_parameters()})
    for name, gradient in gradients[0].items():
        is_scene = name.startswith(("mapping", "backbone", "decoder"))
        assert torch.equal(gradient, gradients[1][name]) != is_scene, name


@pytest.mark.parametrize("background", ["none", "planes"])
def test_pieces_of_a_batch_give_the_gradients_of_the_whole(background: str) -> None:
    gradients = []
    for pieces in (1, 2):
        model = {"generator": {"background": background}}
        config = tiny_config(model=model, train={"novel_view": 10.0, "accumulation": pieces})
        trainer = make_trainer(config, dtype=torch.float64)
        stats = trainer.step(make_batch(0))
        assert stats["generator/novel_view"] > 0
        gradients.append([one.grad for one in trainer.generator.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.novel_view])
def test_kinds_without_it_refuse_it(kind: str) -> None:
    values = kind_config(kind).model_dump(mode="json")
    values["train"]["novel_view"] = 1.0
    with pytest.raises(UserError, match=f"model.kind: '{kind}' has no such part; set train.novel_view to 0"):
        parse_config(values)
