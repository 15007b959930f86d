"""Small files of the evaluation."""

from __future__ import annotations

import json

import numpy as np

from threedgp.data.images import decode_image
from threedgp.evaluation.contests import Contest
from threedgp.evaluation.exhibits import write_cameras, write_controls, write_neighbors, write_strips
from threedgp.metrics.streams import Stream


def pictures(count: int, value: int) -> Stream:
    return Stream(count, [lambda: np.full((count, 3, 4, 4), value, np.uint8)])


def test_strips(tmp_path):
    write_strips(tmp_path, Contest(pictures(9, 1), {"model": pictures(3, 2)}, 3))
    assert decode_image((tmp_path / "real.png").read_bytes()).shape == (4, 8 * 4, 3)
    assert decode_image((tmp_path / "model.png").read_bytes()).shape == (4, 3 * 4, 3)


def test_cameras(tmp_path):
    write_cameras(tmp_path / "cameras.tsv", {"learned": np.ones((2, 8)), "true": np.zeros((1, 8))})
    assert (tmp_path / "cameras.tsv").read_text().splitlines() == [
        "set\tyaw\tpitch\tfov\tlook_at_radius",
        *["learned\t1\t1\t1\t1"] * 2,
        "true\t0\t0\t0\t0",
    ]


def test_controls(tmp_path):
    metrics = {"swd": 0.1, "swd_untrained": 0.2, "swd_other_half": 0.01, "swd_spread": 3.0, "depth_swd": 0.3}
    write_controls(tmp_path / "controls.json", metrics)
    assert json.loads((tmp_path / "controls.json").read_text()) == [
        {"metric": "swd", "set": "model", "value": 0.1},
        {"metric": "swd", "set": "untrained", "value": 0.2},
        {"metric": "swd", "set": "other_half", "value": 0.01},
    ]


def test_neighbors(tmp_path):
    made = np.zeros((2, 3, 4, 4), np.uint8)
    found = np.stack([np.full((2, 3, 4, 4), value, np.uint8) for value in (10, 20, 30)], axis=1)
    write_neighbors(tmp_path / "neighbors.png", made, found)
    sheet = decode_image((tmp_path / "neighbors.png").read_bytes())
    assert sheet.shape == (8, 16, 3)
    assert [sheet[5, 4 * column + 1, 0] for column in range(4)] == [0, 10, 20, 30]
