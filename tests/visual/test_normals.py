"""Normals have the colours that people know from normal maps."""

from __future__ import annotations

import numpy as np

from threedgp.visual.normals import normal_colors


def test_colors():
    normals = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, 0]])
    expected = [[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 0, 128]]
    np.testing.assert_array_equal(normal_colors(normals), expected)
