"""Where tiles land, and what depth looks like."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from threedgp.visual.grids import (
    GAP,
    GAP_COLOR,
    LABEL_HEIGHT,
    beside,
    depth_colors,
    enlarge,
    enlargement,
    grid,
    grid_png,
    normal_colors,
    read_depth,
    write_depth,
    write_png,
)


def test_tiles_land_row_by_row():
    tiles = np.stack([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = grid(tiles, columns=2)
    assert sheet.shape == (2 * 4 + 3 * GAP, 2 * 6 + 3 * GAP, 3)
    assert (sheet[GAP : GAP + 4, GAP : GAP + 6] == 10).all()
    assert (sheet[GAP : GAP + 4, 2 * GAP + 6 : -GAP] == 20).all()
    assert (sheet[2 * GAP + 4 : -GAP, GAP : GAP + 6] == 30).all()
    assert (sheet[2 * GAP + 4 :, 2 * GAP + 6 :] == GAP_COLOR).all()


def test_beside_and_enlarge():
    left, right = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 9, np.uint8)
    pair = enlarge(beside(left, right), 3)
    assert pair.shape == (1, 6, 12, 3)
    assert pair[..., :6, :].max() == 0
    assert pair[..., 6:, :].min() == 9


@pytest.mark.parametrize(("resolution", "factor"), [(32, 3), (64, 1), (256, 1)])
def test_enlargement(resolution, factor):
    assert enlargement(resolution, 96) == factor


def test_near_is_bright():
    depth = np.linspace(0.8, 1.2, 16, dtype=np.float32).reshape(1, 4, 4)
    brightness = depth_colors(depth).astype(float).sum(axis=-1).ravel()
    assert (np.diff(brightness) <= 0).all()
    assert brightness[0] > 500 > 50 > brightness[-1]


def test_long_labels_are_shown_to_their_end():
    tiles = np.full((2, 32, 32, 3), GAP_COLOR, np.uint8)
    scene = "seed 12, elephant, truncation "
    sheets = [grid_png(tiles, 2, 96, [scene + "0.5", "seed 3, dog, truncation " + end]) for end in ("0.5", "0.7")]
    left, right = (cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR) for sheet in sheets)
    assert left.shape[0] == 3 * (32 + 2 * GAP) + 3 * LABEL_HEIGHT, "no line of the longest label is wider than a tile"
    assert (left[:, :102] == right[:, :102]).all()
    assert (left[:, 102:] != right[:, 102:]).any()
    alike = grid_png(tiles, 2, 96, ["seed 0, dog", "seed 1, cat"])
    sheet = cv2.imdecode(np.frombuffer(alike, np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[0] == 3 * (32 + 2 * GAP) + LABEL_HEIGHT


def test_flat_depth_has_one_color():
    colors = depth_colors(np.ones((2, 4, 4), np.float32))
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) == 1


def test_png_keeps_every_pixel(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture, {"class": "3 Bär"})
    assert Image.open(tmp_path / "a.png").text == {"class": "3 Bär"}
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)


def test_normal_colors():
    normals = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, 0]])
    expected = [[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 0, 128]]
    np.testing.assert_array_equal(normal_colors(normals), expected)


BOUNDS = (0.75, 1.25)


def test_depth_reads_back(tmp_path):
    depth = np.random.default_rng(0).uniform(*BOUNDS, (5, 7)).astype(np.float32)
    write_depth(tmp_path / "a.png", depth, BOUNDS)
    np.testing.assert_allclose(read_depth(tmp_path / "a.png", BOUNDS), depth, atol=0.5 * 0.5 / 65535 + 1e-7)


def test_far_depth_is_large_and_beyond_is_cut(tmp_path):
    write_depth(tmp_path / "a.png", np.array([[0.75, 1.0], [1.25, 2.0]]), BOUNDS)
    values = np.asarray(Image.open(tmp_path / "a.png"))
    assert values.tolist() == [[0, 32768], [65535, 65535]]
