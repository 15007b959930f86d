"""Which numbers come first, and what training took."""

from __future__ import annotations

import json

import pytest

from threedgp.evaluation.summary import rounded, split, training_cost


def test_first_columns_and_the_rest():
    values = {"swd_untrained": 1 / 3, "swd": 0.5, "fid": 20.0, "precision": 0.7, "kimg": 4.0, "fid_distilled": True}
    head, details = split(values, ("inception", "vgg16"))
    assert list(head.items()) == [("kimg", 4.0), ("fid", 20.0), ("swd", 0.5), ("precision", 0.7)]
    assert details == {"fid_distilled": True, "swd_untrained": 0.333333}


def test_a_stand_in_has_the_place_of_what_it_stands_for():
    head, _ = split({"nfs": 3.0, "recall_net": 0.1, "fd_net": 7.0}, ("net", "net"))
    assert list(head) == ["fd_net", "nfs", "recall_net"]


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
    write({"kimg": 1, "images_per_second": 100}, {"kimg": 2, "images_per_second": 25})
    assert training_cost(curves) == {"images_per_second": 40}
    for nonsense in ("", "{", '{"kimg": 1}\n', '{"kimg": 1, "images_per_second": 0}\n'):
        curves.write_text(nonsense)
        assert training_cost(curves) == {}
    assert training_cost(tmp_path / "nowhere") == {}
