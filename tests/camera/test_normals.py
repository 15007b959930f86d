"""Normals of surfaces that have a formula."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import Patches, image_plane, rays
from threedgp.camera.normals import depth_normals, relief_normals

CAMERA = torch.tensor([[0.0, np.pi / 2, 0, 35, 1, 0, np.pi / 2, 0]], dtype=torch.float64)
"""Frontal: the axes of the camera are those of the world, moved along +z by 1."""


def test_plane():
    """Exact: differences of points of a plane lie in it."""
    origins, directions = (some[0].numpy() for some in rays(CAMERA, 12))
    normal = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    depth = -(origins @ normal) / (directions @ normal)
    found = depth_normals(depth.reshape(1, 12, 12), np.array([35.0]))
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-9)


def test_ball():
    """Central differences err with the square of the pixel size."""
    origins, directions = (some[0].numpy() for some in rays(CAMERA, 128))
    middle = -(origins * directions).sum(-1)
    root = middle**2 - (1 - 0.6**2)
    depth = np.where(root > 0, middle - np.sqrt(root.clip(0)), 0)
    normals = (origins + directions * depth[:, None]) / 0.6
    found = depth_normals(depth.reshape(1, 128, 128), np.array([35.0])).reshape(-1, 3)
    inner = normals[:, 2] > 0.5
    inner &= (np.abs(directions[:, :2]).max(axis=1) < 0.25) & (root > 0)
    assert inner.sum() > 1000
    assert (found[inner] * normals[inner]).sum(-1).min() > np.cos(np.deg2rad(1))


def test_no_surface():
    assert not depth_normals(np.zeros((1, 4, 4)), np.array([35.0])).any()


SCALES = torch.tensor([[1.0, 1.0], [0.3, 0.5]], dtype=torch.float64)
OFFSETS = torch.tensor([[0.0, 0.0], [0.6, 0.1]], dtype=torch.float64)


def test_relief_of_a_plane_has_its_normal_in_every_patch():
    """Exact at the border, too: differences of a linear function are its slopes."""
    x, y = image_plane(7, Patches(SCALES, OFFSETS)).unbind(-1)
    depth = (0.4 * x - 0.7 * y + 0.1).reshape(2, 1, 7, 7)
    found = relief_normals(depth, SCALES)
    expected = np.array([0.4, -0.7, 1]) / np.linalg.norm([0.4, -0.7, 1])
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), atol=1e-12)


def test_relief_of_a_ball_has_the_normals_of_its_surface():
    """Central differences err with the square of the pixel size; sphere of radius 0.9, seen from +z."""
    x, y = image_plane(129, dtype=torch.float64).unbind(-1)
    height = (0.81 - x.square() - y.square()).clamp(min=0).sqrt()
    found = relief_normals(-height.reshape(1, 1, 129, 129), torch.ones(1, 2))[0].flatten(1)
    inner = height[0] > 0.5
    expected = torch.stack([x[0], y[0], height[0]]) / 0.9
    assert inner.sum() > 1000 and (found - expected)[:, inner].abs().max() < 2e-3


def test_relief_is_the_surface_seen_through_a_narrow_field_of_view():
    """A perspective camera with a half-width of h at distance 1, and slopes of h per unit of the image plane."""
    x, y = image_plane(9, dtype=torch.float64).unbind(-1)
    relief = (0.4 * x - 0.7 * y + 0.2 * x * y).reshape(1, 1, 9, 9)
    h = 1e-4
    seen = depth_normals(1 + h * relief[0].numpy(), np.rad2deg([2 * np.arctan(h)]))
    np.testing.assert_allclose(relief_normals(relief, torch.ones(1, 2))[0].permute(1, 2, 0), seen[0], atol=1e-3)


def test_gradient_of_relief_normals():
    depth = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(relief_normals, (depth.requires_grad_(), SCALES))
