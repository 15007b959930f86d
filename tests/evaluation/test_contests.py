"""Contests of the sliced Wasserstein distance: which sets take part, and that known ones score what they must."""

from __future__ import annotations

import numpy as np
import pytest

from threedgp.camera.normals import depth_normals
from threedgp.evaluation.contests import (
    Contest,
    depth_contest,
    named,
    normal_contest,
    picture_contest,
    rendered_normals,
    swd_metrics,
)
from threedgp.evaluation.fakes import generate
from threedgp.evaluation.reals import RealSet, draw_sets


@pytest.fixture
def halves(world):
    return [RealSet(world.prepared, world.source, world.raw, rows) for rows in draw_sets(24, 12, 12, 0)]


@pytest.fixture
def fakes(tiny_generator, tmp_path):
    return {
        name: generate(tiny_generator, 12, seed, 16, batch_size=6, folder=tmp_path / name, label=name)
        for name, seed in {"model": 1, "untrained": 2}.items()
    }


@pytest.fixture
def pictures(halves, fakes, tmp_path) -> Contest:
    return picture_contest(*halves, fakes, tmp_path)


def test_picture_distances(pictures):
    metrics = swd_metrics("swd", pictures, seed=0)
    assert set(metrics) == {"swd", "swd_untrained", "swd_other_half", "swd_blurred", "swd_background"}
    assert metrics["swd_other_half"] < metrics["swd_background"]
    assert metrics["swd_other_half"] < metrics["swd"]


def test_controls_are_what_their_names_say(pictures, halves):
    """Each made of the other half, so that none shares a picture with the reference."""
    other = halves[1].pictures().head(12)
    sets = {name: stream.head(12) for name, stream in pictures.contestants.items()}
    np.testing.assert_array_equal(sets["other_half"], other)
    for name in ("blurred", "background"):
        assert sets[name].shape == other.shape and (sets[name] != other).any(axis=(1, 2, 3)).all(), name
    steps = {name: np.abs(np.diff(made.astype(float))).mean() for name, made in sets.items()}
    assert steps["blurred"] < 0.85 * steps["other_half"]
    assert np.abs(sets["blurred"].astype(float).mean(axis=(2, 3)) - other.mean(axis=(2, 3))).max() < 6
    assert not set(halves[0].ids()) & set(halves[1].ids())


def test_depth_distances(halves, fakes):
    metrics = swd_metrics("depth_swd", depth_contest(*halves, fakes), seed=0)
    assert set(metrics) == {"depth_swd", "depth_swd_untrained", "depth_swd_other_half", "depth_swd_flat"}
    assert metrics["depth_swd_other_half"] < metrics["depth_swd_flat"]


def test_normal_distances(halves, fakes):
    metrics = swd_metrics("normal_swd", normal_contest(*halves, fakes), seed=0)
    assert set(metrics) == {"normal_swd", "normal_swd_untrained", "normal_swd_other_half"}
    assert metrics["normal_swd_other_half"] < metrics["normal_swd"]


def test_normals_are_those_of_the_rendered_depth(fakes):
    scenes = fakes["model"]
    depth, cameras = scenes.column("depth").head(12), scenes.whole("camera")
    expected = depth_normals(depth[:, 0], cameras[:, 3]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate(list(rendered_normals(scenes))), expected, atol=1e-6)


def test_without_controls(halves, fakes, tmp_path):
    only = {"model": fakes["model"]}
    assert set(picture_contest(halves[0], None, only, tmp_path).contestants) == {"model"}
    assert set(depth_contest(halves[0], None, only).contestants) == {"model"}
    assert set(normal_contest(halves[0], None, only).contestants) == {"model"}


def test_names():
    assert named("nfs", {"model": 2.0, "untrained": 1.0}) == {"nfs": 2.0, "nfs_untrained": 1.0}
