"""Each number of an evaluation against an independent computation of its definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
import torch
from evaluation.conftest import evaluation_config, measure_rows, numbers
from evaluation.networks import Corners, Means
from scipy.spatial.distance import cdist

from threedgp.data.images import decode_image, decode_images
from threedgp.evaluation.measuring import Row, split, write_comparisons
from threedgp.evaluation.scenes import frontal_depth, nfs_depth
from threedgp.metrics._declaration import Value
from threedgp.metrics.depth_consistency import aligned_error
from threedgp.runtime.errors import UserError

TRAINING = np.array([2, 5, 8, 11, 13, 17, 20])
"""Rows of the prepared images; not the first ones, so that an index into them is not a row."""


@pytest.fixture
def shown(tmp_path):
    return tmp_path / "shown"


@pytest.fixture
def measured(evaluation, shown) -> dict[str, float]:
    return numbers(measure_rows(evaluation, shown, TRAINING))


def real_images(evaluation) -> np.ndarray:
    """All prepared images, uint8 `[24, 3, 16, 16]`."""
    images = evaluation.reference.prepared.column("image")
    return decode_images(images).transpose(0, 3, 1, 2)


def seen_by(network, pictures: np.ndarray) -> np.ndarray:
    return network(torch.from_numpy(np.ascontiguousarray(pictures))).pooled.double().numpy()


def relief(depth: np.ndarray, near: float, far: float) -> float:
    """Mean of exp(entropy) over histograms of 64 bins."""
    counts = [np.histogram(one.clip(near, far), bins=64, range=(near, far))[0] for one in depth]
    return float(np.mean([np.exp(scipy.stats.entropy(count)) for count in counts]))


def test_non_flatness_is_that_of_frontal_views_between_the_ends_of_the_rays(evaluation, measured):
    for name, suffix in (("model", ""), ("untrained", "_untrained")):
        generator = evaluation.generators[name]
        ends = generator.camera_config.ray_start, generator.camera_config.ray_end
        found = {"depth_levels": frontal_depth(generator, 4, 0, 16, 5), "nfs": nfs_depth(generator, 4, 0, 16)}
        for metric, depth in found.items():
            assert measured[metric + suffix] == pytest.approx(relief(np.concatenate([*depth]), *ends), rel=1e-6)


def test_cameras_against_the_truth(evaluation, measured):
    scenes, true = evaluation.scenes["model"], evaluation.reference.half.cameras()
    camera = evaluation.generators["model"].camera_config
    shares = {"learned": [], "prior": []}
    for name, column in {"yaw": 0, "pitch": 1, "fov": 3, "look_at_radius": 7}.items():
        low, high = getattr(camera, name)
        apart = {
            kind: scipy.stats.wasserstein_distance(scenes.whole(stored)[:, column], true[:, column])
            for kind, stored in (("learned", "camera"), ("prior", "prior"))
        }
        assert measured[f"camera_emd_{name}"] == pytest.approx(apart["learned"], rel=1e-6)
        for kind, distance in apart.items():
            shares[kind].append(distance / (high - low))
    assert measured["camera_emd"] == pytest.approx(np.mean(shares["learned"]), rel=1e-6)
    assert measured["camera_emd_prior"] == pytest.approx(np.mean(shares["prior"]), rel=1e-6)
    assert measured["camera_emd"] != pytest.approx(measured["camera_emd_prior"], rel=1e-2)


def test_fields_of_view_of_classes_against_the_truth(evaluation, measured):
    scenes, half = evaluation.scenes["model"], evaluation.reference.half
    entries = half.source.entries()
    label_of = dict(zip(entries["id"].to_pylist(), entries["label"].to_pylist(), strict=True))
    true = {}
    for name, camera in zip(half.ids(), half.cameras(), strict=True):
        true.setdefault(label_of[name], []).append(camera[3])
    learned = {label: scenes.whole("camera")[scenes.whole("label") == label, 3] for label in true}
    means = np.array([(learned[label].mean(), np.mean(true[label])) for label in true if len(learned[label])]).T
    assert measured["class_fov_error"] == pytest.approx(np.abs(means[0] - means[1]).mean(), rel=1e-5)
    if len(means.T) > 1:
        assert measured["class_fov_correlation"] == pytest.approx(np.corrcoef(means)[0, 1], abs=1e-3)


def closeness(
    queries: np.ndarray, training: np.ndarray, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest of `training` over that one's distance to its own nearest, and the nearest three; `own`
    are places in `training` that do not count."""
    inside = cdist(training, training)
    np.fill_diagonal(inside, np.inf)
    apart = cdist(queries, training)
    ratios = []
    for index, distances in enumerate(apart):
        others = inside.copy()
        if own is not None:
            distances[own[index]] = np.inf
            others[:, own[index]] = np.inf
        nearest = distances.argmin()
        ratios.append(distances[nearest] / others[nearest].min())
    return np.array(ratios), apart.argsort(axis=1)[:, :3]


def test_neighbors_are_training_images(evaluation, measured, shown):
    pictures = real_images(evaluation)
    made = evaluation.scenes["model"].column("image").head(12)
    training = seen_by(Means(), pictures[TRAINING])
    ratios, nearest = closeness(seen_by(Means(), made), training)
    assert measured["authenticity_means"] == np.mean(ratios > 1)
    assert measured["closest_copy"] == pytest.approx(ratios.min(), rel=1e-5)
    fresh, _ = closeness(training, training, own=np.arange(len(TRAINING)))
    assert measured["authenticity_means_real"] == np.mean(fresh > 1)
    assert measured["closest_copy_real"] == pytest.approx(fresh.min(), rel=1e-5)
    # The image: the most copy-like first, and beside each the training images nearest to it.
    rows = [
        np.concatenate([made[index], *pictures[TRAINING][nearest[index]]], axis=-1) for index in ratios.argsort()[:8]
    ]
    sheet = decode_image((shown / "neighbors.png").read_bytes())
    wanted = np.concatenate(rows, axis=-2).transpose(1, 2, 0)
    np.testing.assert_array_equal(sheet[:, : wanted.shape[1]], wanted)
    distances = cdist(seen_by(Means(), made), training).min(axis=1)
    sheet, side = decode_image((shown / "atypical.png").read_bytes()), made.shape[-1]
    for row, index in enumerate((-distances).argsort(kind="stable")[:8]):
        tile = sheet[row * side : (row + 1) * side, :side]
        np.testing.assert_array_equal(tile, made[index].transpose(1, 2, 0))


def balls(centers: np.ndarray, queries: np.ndarray) -> float:
    """Fraction of queries within the distance from some center to its third nearest neighbor."""
    radius = np.sort(cdist(centers, centers), axis=1)[:, 3]
    return float((cdist(queries, centers) <= radius).any(axis=1).mean())


def test_precision_and_recall_of_model_and_controls(evaluation, measured):
    real, pictures = evaluation.reference, real_images(evaluation)
    assert not set(real.sample_rows) & set(real.other_rows)
    sample = seen_by(Corners(), pictures[real.sample_rows])
    sets = {
        "": evaluation.scenes["model"].column("image").head(12),
        "_untrained": evaluation.scenes["untrained"].column("image").head(12),
        "_other_half": pictures[real.other_rows],
    }
    for name, some in sets.items():
        features = seen_by(Corners(), some)
        assert measured[f"precision{name}"] == pytest.approx(balls(sample, features))
        assert measured[f"recall{name}"] == pytest.approx(balls(features, sample))


def test_shapes_of_model_and_controls(evaluation, measured):
    real = evaluation.reference
    true = real.half.depth().head(12)
    sets = {
        "": evaluation.scenes["model"].column("depth").head(12),
        "_untrained": evaluation.scenes["untrained"].column("depth").head(12),
        "_other_half": real.other_half.depth().head(12),
    }
    for name, some in sets.items():
        errors = np.stack([aligned_error(np.broadcast_to(one, true.shape), true) for one in some])
        assert measured[f"shape_distance{name}"] == pytest.approx(errors.min(axis=0).mean(), abs=2e-3)
        claimed = {int(row.argmin()) for row in errors if row.min() < 1}
        assert measured[f"shape_coverage{name}"] == len(claimed) / 12


def test_too_few_real_images_are_reported_first(open_evaluation):
    for number in (1, 3):
        with pytest.raises(
            UserError, match=rf"evaluate\.real_samples: .* greater than or equal to 4, but it is {number}"
        ):
            open_evaluation(evaluation_config(real_samples=number))
    evaluation = open_evaluation(evaluation_config(real_samples=4, samples=10))
    evaluation.make()
    values = numbers(measure_rows(evaluation, evaluation.scratch / "shown", TRAINING))
    assert all(np.isfinite(value) for value in values.values())


def row(key: str, column: int | None = None, published: str | None = None, **found: float) -> Row:
    value = Value(key, f"Title of {key} on {{network}}", "Description.", "lower", column, published)
    role = "main" if published else None
    return Row(value, value.name("net", role), "net" if published else None, found)


def test_results_are_ordered_by_column_and_details_by_name():
    rows = [row("b", 60, model=1 / 3, untrained=0.5), row("fd", 10, "fid", model=123456789.0), row("a", model=7.0)]
    head, details = split(rows, {"samples": 50, "kimg": 4.0})
    assert list(head.items()) == [("kimg", 4.0), ("fd_net", 123457000.0), ("b", 0.333333), ("samples", 50)]
    assert list(details.items()) == [("a", 7.0), ("b_untrained", 0.5)]


def test_chart_files(tmp_path):
    rows = [row("b", 60, model=0.1, untrained=0.2, flat=0.3), row("fd", 10, "fid", model=5.0), row("c", untrained=1.0)]
    write_comparisons(tmp_path, rows, "net")
    charts = json.loads((tmp_path / "comparisons.json").read_text())
    assert [chart["metric"] for chart in charts] == ["fd_net", "b"]
    assert charts[0]["title"] == "Title of fd on net" and charts[1]["values"] == {
        "model": 0.1,
        "untrained": 0.2,
        "flat": 0.3,
    }
    assert "no fid" in charts[0]["description"] and "favors the model" in charts[0]["description"]
    assert charts[1]["description"] == "Description."
