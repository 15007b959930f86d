"""Normals of surfaces that have a formula."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import rays
from threedgp.camera.normals import depth_normals

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
