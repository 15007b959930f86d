"""Layered images against the source image, a plane in closed form, and the true second view of a toy world."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import YAW, rays
from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.visual.layers import REACH, render_layers, split_layers

CAMERAS = CameraConfig()
NEAR, FAR = CAMERAS.ray_start, CAMERAS.ray_end
MIDDLE = frontal_cameras(CAMERAS, 1)[0]
SIZE = 64


def turned(*yaws: float) -> torch.Tensor:
    cameras = MIDDLE.repeat(len(yaws), 1)
    cameras[:, YAW] += torch.tensor(yaws)
    return cameras


def square_before_wall() -> tuple[np.ndarray, np.ndarray]:
    """A red square halfway to a wall whose green changes slowly from left to right."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[..., 1] = np.linspace(60, 200, SIZE, dtype=np.uint8)
    depth = np.ones((SIZE, SIZE), np.float32)
    image[24:40, 24:40], depth[24:40, 24:40] = (255, 0, 0), 0.0
    return image, depth


def test_source_camera_sees_the_source_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    depth = rng.random((SIZE, SIZE), dtype=np.float32)
    (view,) = render_layers(split_layers(image, depth, MIDDLE, NEAR, FAR), MIDDLE[None])
    assert np.abs(view.astype(int) - image).max() <= 1  # rounding


def test_plane_is_seen_where_its_points_are() -> None:
    """A map without relief is a plane; a color ramp on it tells which point each pixel of a turned camera sees."""
    ramp = np.linspace(0, 255, SIZE)
    image = np.stack([np.tile(ramp, (SIZE, 1)), np.tile(ramp[:, None], (1, SIZE)), np.zeros((SIZE, SIZE))], -1)
    layers = split_layers(np.rint(image).astype(np.uint8), np.ones((SIZE, SIZE), np.float32), MIDDLE, NEAR, FAR)
    camera = turned(0.2)
    (view,) = render_layers(layers, camera)
    # Intersection of each ray with the plane; the source camera is on +z and looks along -z.
    distance = float(layers.depth[0, 0, 0])
    origins, directions = rays(camera, SIZE)
    t = (CAMERAS.radius - distance - origins[0, :, 2]) / directions[0, :, 2]
    points = origins[0] + directions[0] * t[:, None]
    half = distance * np.tan(np.deg2rad(float(MIDDLE[3])) / 2)
    expected = ((points[:, :2] / half * torch.tensor([1.0, -1.0]) + 1) / 2).clamp(0, 1).view(SIZE, SIZE, 2) * 255
    # Between two steps of a ray positions are interpolated; two levels are half a pixel.
    assert np.abs(view[..., :2] - expected.numpy()).max() < 2


def test_a_moved_camera_uncovers_background_and_not_the_object() -> None:
    image, depth = square_before_wall()
    for yaw in (-0.15, 0.15):
        (view,) = render_layers(split_layers(image, depth, MIDDLE, NEAR, FAR), turned(yaw))
        red, wall = view[..., 0] > 127, view[..., 0] == 0
        # The square keeps its area within the pixels of its border and the change of its distance.
        assert 0.6 * 16**2 < red.sum() < 1.6 * 16**2
        # All other pixels show the wall: its green is never below 60, and nothing is mixed beyond two columns.
        assert (view[..., 1][wall] >= 55).all() and (~red & ~wall).sum() <= 2 * 18 * 2


def test_background_behind_an_object_continues_the_wall() -> None:
    image, depth = square_before_wall()
    layers = split_layers(image, depth, MIDDLE, NEAR, FAR)
    reach = round(REACH * SIZE)
    back = layers.color[1].permute(1, 2, 0).numpy()
    rim = np.zeros((SIZE, SIZE), bool)
    rim[24:40, 24:40] = True
    rim[24 + reach : 40 - reach, 24 + reach : 40 - reach] = False
    assert (back[rim][:, 0] < 40).mean() > 0.8  # no longer red, except in the inner corners of the rim
    assert (layers.depth[1].numpy()[rim] > (NEAR + FAR) / 2).mean() > 0.8
    assert np.array_equal(layers.color[0].permute(1, 2, 0).numpy().astype(np.uint8), image)
