"""All metrics of a tiny model on a tiny world: which are there, and that known sets score what they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threedgp.data.shards import ShardFolder
from threedgp.features.extraction import STATISTICS, statistics_key, write_features
from threedgp.features.extractor import Features
from threedgp.features.moments import Moments
from threedgp.metrics.evaluation import (
    Contest,
    depth_contest,
    frechet_metrics,
    named,
    picture_contest,
    rounded,
    swd_metrics,
)
from threedgp.metrics.exhibits import write_cameras, write_controls, write_strips
from threedgp.metrics.fakes import generate
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.reals import RealSet, split_halves
from threedgp.metrics.streams import Stream


class Means:
    """Stands in for a network: mean and deviation of every channel."""

    name, identity, feature_dim, input_size = "means", "means", 6, 16

    def __call__(self, images: torch.Tensor) -> Features:
        values = images.float().flatten(2)
        return Features(torch.cat([values.mean(2), values.std(2)], dim=1), torch.zeros(len(images), 2))


@pytest.fixture
def halves(world):
    return [RealSet(world.prepared, world.source, world.raw, rows) for rows in split_halves(world.prepared, 12, 0)]


@pytest.fixture
def fakes(tiny_generator, tmp_path):
    folders = {"model": 1, "untrained": 2}
    return {
        name: generate(tiny_generator, 12, seed, 16, batch_size=6, folder=tmp_path / name, label=name)
        for name, seed in folders.items()
    }


@pytest.fixture
def pictures(halves, fakes, tmp_path) -> Contest:
    return picture_contest(*halves, fakes, tmp_path)


def test_picture_distances(pictures):
    metrics = swd_metrics("swd", pictures, seed=0)
    assert set(metrics) == {"swd", "swd_untrained", "swd_other_half", "swd_blurred", "swd_background"}
    assert metrics["swd_other_half"] < metrics["swd_background"]
    assert metrics["swd_other_half"] < metrics["swd"]


def test_depth_distances(halves, fakes):
    metrics = swd_metrics("depth_swd", depth_contest(*halves, fakes), seed=0)
    assert set(metrics) == {"depth_swd", "depth_swd_untrained", "depth_swd_other_half", "depth_swd_flat"}
    assert metrics["depth_swd_other_half"] < metrics["depth_swd_flat"]


def test_frechet_distances(world, halves, pictures, tmp_path):
    extractor = Means()
    write_features(world.prepared, extractor, 5, tmp_path / "features")
    statistics = Moments.load(tmp_path / "features" / STATISTICS, statistics_key(world.prepared, "means"))
    everything = Contest(pictures.reference, {**pictures.contestants, "all": _all_pictures(world)}, pictures.count)
    metrics = frechet_metrics(
        everything,
        extractor,
        statistics,
        ShardFolder(tmp_path / "features"),
        halves[1],
        batch_size=5,
        scratch=tmp_path / "scratch",
    )
    assert metrics["fd_means_all"] == pytest.approx(0, abs=1e-6 * np.trace(statistics.covariance))
    assert metrics["fd_means_other_half"] < metrics["fd_means_background"]

    # The two halves are the whole set here, so that their distance can be had from the pictures.
    sets = (torch.from_numpy(half.pictures().head(12)) for half in halves)
    first, second = (Moments.of(extractor(images).pooled.numpy()) for images in sets)
    assert metrics["fd_means_other_half"] == pytest.approx(frechet_distance(second, first), rel=1e-6)


def _all_pictures(world) -> Stream:
    return RealSet(world.prepared, world.source, world.raw, np.arange(24)).pictures()


def test_names_and_rounding():
    assert named("nfs", {"model": 2.0, "untrained": 1.0}) == {"nfs": 2.0, "nfs_untrained": 1.0}
    result = rounded({"b": 1 / 3, "a": {"z": 123456789.0, "y": True}, "n": 7})
    assert list(result) == ["a", "b", "n"]
    assert result == {"a": {"y": True, "z": 123457000.0}, "b": 0.333333, "n": 7}


def test_exhibits(tmp_path, pictures):
    write_strips(tmp_path, pictures)
    assert {file.stem for file in tmp_path.glob("*.png")} == {"real", *pictures.contestants}
    write_cameras(tmp_path / "cameras.tsv", {"learned": np.ones((2, 8)), "true": np.zeros((1, 8))})
    assert (tmp_path / "cameras.tsv").read_text().splitlines() == [
        "set\tyaw\tpitch\tfov\tlook_at_radius",
        *["learned\t1\t1\t1\t1"] * 2,
        "true\t0\t0\t0\t0",
    ]
    write_controls(tmp_path / "controls.json", {"swd": 0.1, "swd_untrained": 0.2, "depth_swd": 0.3, "samples": 4})
    controls = (tmp_path / "controls.json").read_text()
    assert controls.count('"metric": "swd"') == 2
    assert "depth_swd" not in controls  # it has no control here
