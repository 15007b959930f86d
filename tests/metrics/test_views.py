"""Two views of scenes whose truth is a formula: agreement is exact, and introduced errors are measured."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.camera.geometry import project, rays
from threedgp.metrics.views import view_agreement


def camera(yaw: float, fov: float = 30, pitch: float = 1.4) -> torch.Tensor:
    return torch.tensor([[yaw, pitch, 0, fov, 1, 0, math.pi / 2, 0]], dtype=torch.float64)


FIRST, SECOND = camera(-0.1), camera(0.15)


def color(points: torch.Tensor) -> torch.Tensor:
    """A smooth texture of space, `[B, N, 3]`."""
    return torch.sin(4 * points + torch.tensor([0.0, 1.0, 2.0], dtype=points.dtype))


def wall(cameras: torch.Tensor, resolution: int, z: float = -0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Color and depth along the ray of the textured plane at `z`."""
    origins, directions = rays(cameras, resolution)
    depth = (z - origins[..., 2]) / directions[..., 2]
    return _as_pictures(color(origins + directions * depth[..., None]), depth, resolution)


def ball_before_wall(cameras: torch.Tensor, resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A ball of radius 0.1 in the middle, which hides a part of the wall."""
    origins, directions = rays(cameras, resolution)
    middle = -(origins * directions).sum(-1)
    root = middle**2 - (origins.square().sum(-1) - 0.1**2)
    hit = root > 0
    depth = torch.where(hit, middle - root.clamp(min=0).sqrt(), (-0.1 - origins[..., 2]) / directions[..., 2])
    return _as_pictures(color(origins + directions * depth[..., None]), depth, resolution)


def _as_pictures(rgb: torch.Tensor, depth: torch.Tensor, resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = (1, -1, resolution, resolution)
    return rgb.transpose(1, 2).reshape(size), depth.reshape(size)


def test_project_is_the_inverse_of_rays():
    origins, directions = rays(FIRST, 7)
    positions, along = project(origins + 0.8 * directions, FIRST)
    line = torch.linspace(-1, 1, 7, dtype=torch.float64)
    expected = torch.stack([line.repeat(7), -line.repeat_interleave(7)], dim=-1)
    torch.testing.assert_close(positions[0], expected, rtol=0, atol=1e-12)
    assert (along > 0).all()
    assert (project(origins - directions, FIRST)[1] < 0).all()


def test_depth_of_a_plane_agrees_exactly():
    """1 / z of a plane is linear in the image, so interpolation is exact."""
    found = view_agreement(*wall(FIRST, 9), FIRST, *wall(SECOND, 9), SECOND)
    assert found.depth_error.item() < 1e-12
    assert 0.5 < found.compared.item() < 1


def test_color_agrees_up_to_the_bilinear_error():
    """The error falls with the square of the pixel size."""
    coarse, fine = (
        view_agreement(*wall(FIRST, size), FIRST, *wall(SECOND, size), SECOND).color_error.item() for size in (17, 65)
    )
    assert fine < 1e-4
    assert 8 < coarse / fine < 32  # 4^2, with other pixels at the border


def test_same_view():
    found = view_agreement(*ball_before_wall(FIRST, 33), FIRST, *ball_before_wall(FIRST, 33), FIRST)
    assert found.color_error.item() < 1e-12
    assert found.depth_error.item() < 1e-12
    assert found.compared.item() == 1


def test_wrong_depth_is_an_error():
    rgb, depth = wall(FIRST, 33)
    found = view_agreement(rgb, depth * 1.01, FIRST, *wall(SECOND, 33), SECOND)
    assert found.depth_error.item() == pytest.approx(0.01 * 1.1, rel=0.15)  # the wall is about 1.1 away
    right = view_agreement(rgb, depth, FIRST, *wall(SECOND, 33), SECOND)
    assert found.color_error.item() > 5 * right.color_error.item()


def test_occluded_points_are_left_out():
    views = [ball_before_wall(cameras, 129) for cameras in (FIRST, SECOND)]
    found = view_agreement(*views[0], FIRST, *views[1], SECOND)
    # Points of the wall that the ball hides from the second camera, by the formula of the ball.
    origins, directions = rays(FIRST, 129)
    points = origins + directions * views[0][1].flatten(1)[..., None]
    eye = rays(SECOND, 2)[0][:, :1]
    away = torch.nn.functional.normalize(points - eye, dim=-1)
    middle = -(eye * away).sum(-1)
    root = middle**2 - (eye.square().sum(-1) - 0.1**2)
    before = (middle - root.clamp(min=0).sqrt()) < (points - eye).norm(dim=-1) - 0.02
    visible = ~((root > 0) & before) & (project(points, SECOND)[0].abs() <= 1).all(-1)
    assert visible.double().mean().item() < 0.95  # the ball does hide something
    # At the ball's edge the second view is read between ball and wall.
    assert found.compared.item() == pytest.approx(visible.double().mean().item(), abs=0.02)
    assert found.color_error.item() < 0.02
    plain = view_agreement(*views[0], FIRST, *wall(SECOND, 129), SECOND)
    assert plain.depth_error.item() > 5 * found.depth_error.item()  # a ball that the second view lacks


def test_nothing_in_common():
    back = camera(math.pi - 0.1)
    found = view_agreement(*wall(FIRST, 9), FIRST, *wall(back, 9, z=0.9), back)
    assert found.compared.item() < 1
    behind = wall(FIRST, 9)[1] * 100
    found = view_agreement(wall(FIRST, 9)[0], behind, FIRST, *wall(camera(1.5), 9), camera(1.5))
    assert math.isnan(found.color_error.item()) == (found.compared.item() == 0)
