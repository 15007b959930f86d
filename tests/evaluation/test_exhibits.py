"""Small files of the evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from threedgp.data.images import decode_image
from threedgp.evaluation.exhibits import rounded, training_cost, write_cameras, write_strips
from threedgp.evaluation.streams import Stream


def pictures(count: int, value: int) -> Stream:
    return Stream(count, [lambda: np.full((count, 3, 4, 4), value, np.uint8)])


def test_strips(tmp_path):
    write_strips(tmp_path, {"real": pictures(9, 1), "model": pictures(3, 2)})
    assert decode_image((tmp_path / "real.png").read_bytes()).shape == (4, 8 * 4, 3)
    assert decode_image((tmp_path / "model.png").read_bytes()).shape == (4, 3 * 4, 3)


def test_a_strip_of_sorted_images_shows_all_classes(tmp_path):
    """Three batches of two classes each, as of a folder with a subfolder per class."""
    batches = np.repeat(np.arange(6, dtype=np.uint8), 10).reshape(3, 20, 1, 1, 1).repeat(3, axis=2)
    write_strips(tmp_path, {"real": Stream(60, [lambda batch=batch: batch for batch in batches])})
    shown = decode_image((tmp_path / "real.png").read_bytes())
    assert shown.shape == (1, 8, 3)
    assert sorted(set(shown.ravel().tolist())) == [0, 1, 2, 3, 4, 5]


def test_cameras(tmp_path):
    write_cameras(tmp_path / "cameras.tsv", {"learned": np.ones((2, 8)), "true": np.zeros((1, 8))})
    assert (tmp_path / "cameras.tsv").read_text().splitlines() == [
        "set\tyaw\tpitch\tfov\tlook_at_radius",
        *["learned\t1\t1\t1\t1"] * 2,
        "true\t0\t0\t0\t0",
    ]


def test_rounding():
    result = rounded({"b": 1 / 3, "a": {"z": 123456789.0, "y": True}, "n": 7})
    assert result == {"a": {"y": True, "z": 123457000.0}, "b": 0.333333, "n": 7}


def test_training_cost(tmp_path):
    curves = tmp_path / "curves.jsonl"

    def write(*records: dict[str, float]) -> None:
        curves.write_text("".join(json.dumps(record) + "\n" for record in records))

    # 1,000 images in 10 s, then 3,000 in 30 s on twice as many GPUs.
    write({"kimg": 1, "images_per_second": 100, "gpus": 1}, {"kimg": 4, "images_per_second": 100, "gpus": 2})
    assert training_cost(curves) == {"images_per_second": 100, "gpu_days": pytest.approx((10 + 60) / 86400)}
    write({"kimg": 1, "images_per_second": 100, "gpus": 0})
    assert training_cost(curves) == {"images_per_second": 100}, "on a CPU"
    write({"kimg": 1, "images_per_second": 100}, {"kimg": 2, "images_per_second": 25})
    assert training_cost(curves) == {"images_per_second": 40}
    for nonsense in ("", "{", '{"kimg": 1}\n', '{"kimg": 1, "images_per_second": 0}\n'):
        curves.write_text(nonsense)
        assert training_cost(curves) == {}
    assert training_cost(tmp_path / "nowhere") == {}
