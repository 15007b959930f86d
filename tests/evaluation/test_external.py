"""Samples of another system: the numbers of the real set itself are known, and equal those of the model's own path."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.conftest import evaluation_config, measure_rows, numbers
from evaluation.networks import Means
from PIL import Image

from threedgp.config import FeaturesConfig
from threedgp.data.images import decode_images
from threedgp.depth.estimator import Estimate
from threedgp.evaluation.evaluation import Evaluation
from threedgp.evaluation.external import listing_key, score
from threedgp.evaluation.measuring import load_metrics
from threedgp.evaluation.reference import Reference
from threedgp.evaluation.sample_files import Samples, open_samples
from threedgp.evaluation.streams import Stream
from threedgp.features.moments import Moments
from threedgp.features.network import Features
from threedgp.metrics.frechet_extrapolation import extrapolated_distance
from threedgp.runtime.errors import UserError


@pytest.fixture
def open_real(open_reference):
    return lambda **evaluate: open_reference(evaluation_config(**evaluate))


def scored(real: Reference, samples: Samples, scratch: Path, **options: object) -> dict[str, float]:
    """Numbers of all metrics of the settings."""
    metrics = load_metrics(real.config.evaluate.metrics)
    return numbers(score(metrics, real, samples, scratch, **{"depth_range": (0, 1)} | options))


def test_the_real_set_against_itself(world, open_real, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    names = world.prepared.column("id").to_pylist()
    for name, image in zip(names, decode_images(world.prepared.column("image")), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    samples = open_samples(folder, None, None, 16, tmp_path)
    samples = Samples(samples.images, world.prepared.column("label").to_numpy(), None)
    real = open_real(controls=False, real_samples=24)
    found = scored(real, samples, tmp_path / "scratch")
    assert found["fd_means"] == pytest.approx(0, abs=1e-5 * np.trace(real.statistics.covariance))
    assert found["precision"] == found["recall"] == 1
    # Unbiased, so below 0: the definition leaves out pairs of an image with itself within a set, not between sets.
    assert found["kd_means"] < 0
    assert found["swd"] < 0.2
    assert "nfs" not in found


def test_few_samples_are_compared_with_as_many_random_images(open_reference):
    """The first ones of a set that is sorted by class would be of some classes only."""
    whole, part = (open_reference(evaluation_config(), samples=samples) for samples in (None, 5))
    assert len(part.half.rows) == 5
    assert set(part.half.rows) < set(whole.half.rows)
    assert part.half.rows.tolist() != whole.half.rows[:5].tolist()
    assert part.other_half is None and not len(part.other_rows)
    np.testing.assert_array_equal(part.sample_rows, whole.sample_rows)


class SpatialMeans(Means):
    """Stands in for Inception: spatial features are the first row of the red channel."""

    name = "inception"

    def __call__(self, images: torch.Tensor) -> Features:
        return super().__call__(images)._replace(spatial=images[:, 0, 0].float())


def test_published_statistics_are_a_second_real_side(world, open_reference, tmp_path, monkeypatch):
    """Those of the samples themselves, with a mean that is 1 apart in every spatial feature."""
    images = decode_images(world.prepared.column("image")).transpose(0, 3, 1, 2)
    own = SpatialMeans()(torch.from_numpy(images))
    pooled, spatial = (Moments.of(features.numpy()) for features in (own.pooled, own.spatial))
    arrays = {"mu": pooled.mean, "sigma": pooled.covariance, "mu_s": spatial.mean + 1, "sigma_s": spatial.covariance}
    np.savez(tmp_path / "reference.npz", **arrays)
    sizes = {"": len(pooled.mean), "_s": len(spatial.mean)}  # of these features
    monkeypatch.setattr("threedgp.features.statistics.PUBLISHED_SIZES", sizes)
    features = FeaturesConfig(network="inception", reference=str(tmp_path / "reference.npz"), batch_size=4)
    config = evaluation_config(controls=False, metrics=["frechet", "frechet_reference"])
    real = open_reference(config.model_copy(update={"features": features}), networks={"main": SpatialMeans()})
    samples = Samples(Stream(24, [lambda: images]), None, None)
    found = scored(real, samples, tmp_path / "scratch")
    assert found["fid_reference"] == pytest.approx(0, abs=1e-5 * np.trace(pooled.covariance))
    assert found["sfid"] == pytest.approx(16, abs=1e-5 * np.trace(spatial.covariance))
    assert found["fid"] == pytest.approx(0, abs=1e-5 * np.trace(pooled.covariance))

    missing = features.model_copy(update={"reference": str(tmp_path / "nothing.npz")})
    with pytest.raises(UserError, match=r"^features\.reference: .*nothing\.npz does not exist"):
        open_reference(config.model_copy(update={"features": missing}), networks={"main": SpatialMeans()})


def test_samples_of_the_model_score_like_the_model(open_real, studio, tmp_path):
    real = open_real()
    metrics = load_metrics(real.config.evaluate.metrics)
    evaluation = Evaluation(real, metrics, studio.model, tmp_path / "model")
    evaluation.make()
    own = numbers(measure_rows(evaluation, tmp_path / "shown"))
    scenes = evaluation.scenes["model"]
    samples = Samples(scenes.column("image"), scenes.whole("label"), scenes.column("depth"))
    found = scored(real, samples, tmp_path / "scratch", depth_range=(0.75, 1.25))
    for metric in set(found) - {"nfs", "depth_levels"}:  # those of the model see frontal cameras
        assert found[metric] == pytest.approx(own[metric], rel=1e-9), metric
    assert {"swd", "fd_means", "kd_means", "precision", "depth_swd", "shape_distance"} <= set(found)


def test_depth(world, open_real, tmp_path):
    """A flat plane has no shape; the truth matches itself; the estimator returns the red channel."""

    class Red:
        name, looks_at_pixels = "red", True

        def estimate(self, pictures):
            return [Estimate(picture.rgb[..., 0].astype(np.float32)) for picture in pictures]

    real = open_real(
        metrics=["nfs", "depth_levels", "depth_swd", "shape_matching", "depth_consistency"],
        controls=False,
        depth_samples=14,
    )
    pictures, truth = real.half.images(), real.half.depth()
    images, depth = pictures.head(12), truth.head(12)

    def with_depth(maps: np.ndarray) -> dict[str, float]:
        samples = Samples(Stream(12, [lambda: images]), None, Stream(12, [lambda: maps]))
        return scored(real, samples, tmp_path / "scratch", depth_range=(0.75, 1.25), estimator=Red())

    found = with_depth(depth)
    assert found["depth_swd"] < 1e-6
    assert found["shape_distance"] < 2e-3
    assert found["shape_coverage"] == 1
    assert found["nfs"] > 1
    flat = with_depth(np.ones_like(depth))
    assert flat["nfs"] == flat["depth_levels"] == 1
    assert flat["shape_distance"] == flat["depth_consistency"] == 1
    assert with_depth(images[:, :1].astype(np.float32))["depth_consistency"] == pytest.approx(0, abs=1e-6)


def test_extrapolation_of_samples(world, open_real, tmp_path):
    images = world.prepared.column("image")
    pictures = decode_images(images).transpose(0, 3, 1, 2)
    samples = Samples(Stream(24, [lambda: pictures]), None, None)
    real = open_real(metrics=["frechet_extrapolation"], controls=False)
    found = scored(real, samples, tmp_path / "scratch")
    features = Means()(torch.from_numpy(pictures)).pooled.numpy()
    line = extrapolated_distance(features, real.statistics, seed=0)
    assert (found["fd_means_infinite"], found["fd_means_bias"]) == pytest.approx(line, rel=1e-6)


@pytest.mark.parametrize("label", [-1, 10, 10**30])
def test_classes_that_the_real_set_does_not_have(label, open_real, tmp_path):
    images = Stream(12, [lambda: np.zeros((12, 3, 16, 16), np.uint8)])
    samples = Samples(images, np.array([0] * 11 + [label]), None)
    with pytest.raises(UserError, match=rf"there is no class {label}, the real set has 0 to 9; correct the labels"):
        scored(open_real(), samples, tmp_path)
    assert not list(tmp_path.glob("means/*"))
    scored(open_real(metrics=["swd"]), samples, tmp_path)  # which asks for no classes


def test_too_few_samples(open_real, tmp_path):
    few = Samples(Stream(3, [lambda: np.zeros((3, 3, 16, 16), np.uint8)]), None, None)
    with pytest.raises(UserError, match="3 images are too few"):
        scored(open_real(), few, tmp_path)


def test_key_depends_on_the_files(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / os.fsdecode(b"not UTF-8 \xff.png")).touch()
    before = listing_key(tmp_path, None)
    assert listing_key(tmp_path, None) == before
    (tmp_path / "a.png").write_bytes(b"22")
    longer = listing_key(tmp_path, None)
    assert longer != before
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert listing_key(tmp_path, None) not in (before, longer)
    images, depth = tmp_path / "images", tmp_path / "depth"
    for place in (images, depth):
        place.mkdir()
        (place / "a.png").write_bytes(b"1")
    before = listing_key(images, depth)
    (depth / "a.png").write_bytes(b"22")
    assert listing_key(images, depth) != before != listing_key(images, None)
