"""Depth files keep depth to a step of their scale."""

from __future__ import annotations

import numpy as np
from PIL import Image

from threedgp.visual.depth_files import read_depth, write_depth

BOUNDS = (0.75, 1.25)


def test_reads_back(tmp_path):
    depth = np.random.default_rng(0).uniform(*BOUNDS, (5, 7)).astype(np.float32)
    write_depth(tmp_path / "a.png", depth, BOUNDS)
    np.testing.assert_allclose(read_depth(tmp_path / "a.png", BOUNDS), depth, atol=0.5 * 0.5 / 65535 + 1e-7)


def test_far_is_large_and_beyond_is_cut(tmp_path):
    write_depth(tmp_path / "a.png", np.array([[0.75, 1.0], [1.25, 2.0]]), BOUNDS)
    values = np.asarray(Image.open(tmp_path / "a.png"))
    assert values.tolist() == [[0, 32768], [65535, 65535]]
