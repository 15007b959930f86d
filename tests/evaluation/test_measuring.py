"""Each number of an evaluation against its definition, written out: a number under a wrong name, of a wrong set or in a
wrong unit would look like any other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from metrics.conftest import evaluation_config
from metrics.networks import Corners, Means
from scipy.spatial.distance import cdist

from threedgp.camera.geometry import rays
from threedgp.camera.priors import frontal_cameras
from threedgp.data.images import decode_image, decode_images
from threedgp.evaluation.fakes import frontal_depth
from threedgp.evaluation.measuring import measure
from threedgp.evaluation.scene_metrics import views
from threedgp.metrics.depth_agreement import aligned_error
from threedgp.models.generator import Rendering
from threedgp.runtime.errors import UserError

TRAINING = np.array([2, 5, 8, 11, 13, 17, 20])
"""Rows of the prepared pictures. Not the first ones, so that a place among them is no row."""


@pytest.fixture
def shown(tmp_path):
    return tmp_path / "shown"


@pytest.fixture
def measured(evaluation, shown) -> dict[str, float]:
    return measure(evaluation, TRAINING, None, shown)


def real_pictures(evaluation) -> np.ndarray:
    """All prepared ones, uint8 `[24, 3, 16, 16]`."""
    images = evaluation.real.prepared.column("image")
    return decode_images(images).transpose(0, 3, 1, 2)


def seen_by(network, pictures: np.ndarray) -> np.ndarray:
    return network(torch.from_numpy(np.ascontiguousarray(pictures))).pooled.double().numpy()


def relief(depth: np.ndarray, near: float, far: float) -> float:
    """Mean of exp(entropy) over histograms of 64 bins."""
    counts = [np.histogram(one.clip(near, far), bins=64, range=(near, far))[0] for one in depth]
    return float(np.mean([np.exp(scipy.stats.entropy(count)) for count in counts]))


def test_non_flatness_is_that_of_frontal_views_between_the_ends_of_the_rays(evaluation, measured):
    for name, key in (("model", "nfs"), ("untrained", "nfs_untrained")):
        generator = evaluation.generators[name]
        depth = frontal_depth(generator, 4, 0, 16, 5)
        ends = generator.camera_config.ray_start, generator.camera_config.ray_end
        assert measured[key] == pytest.approx(relief(depth, *ends), rel=1e-6)


def test_cameras_against_the_truth(evaluation, measured):
    scenes, true = evaluation.scenes["model"], evaluation.real.reference.true_cameras()
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


def test_neighbors_are_training_pictures(evaluation, measured, shown):
    pictures = real_pictures(evaluation)
    made = evaluation.scenes["model"].column("image").head(12)
    training = seen_by(Means(), pictures[TRAINING])
    ratios, nearest = closeness(seen_by(Means(), made), training)
    assert measured["authenticity_means"] == np.mean(ratios > 1)
    assert measured["closest_copy"] == pytest.approx(ratios.min(), rel=1e-5)
    fresh, _ = closeness(training, training, own=np.arange(len(TRAINING)))
    assert measured["authenticity_means_real"] == np.mean(fresh > 1)
    assert measured["closest_copy_real"] == pytest.approx(fresh.min(), rel=1e-5)
    # The picture: the most copy-like first, and beside each the training pictures nearest to it.
    rows = [
        np.concatenate([made[index], *pictures[TRAINING][nearest[index]]], axis=-1) for index in ratios.argsort()[:8]
    ]
    sheet = decode_image((shown / "neighbors.png").read_bytes())
    wanted = np.concatenate(rows, axis=-2).transpose(1, 2, 0)
    np.testing.assert_array_equal(sheet[:, : wanted.shape[1]], wanted)


def balls(centres: np.ndarray, queries: np.ndarray) -> float:
    """Share of queries within the distance of some centre to its third nearest fellow."""
    radius = np.sort(cdist(centres, centres), axis=1)[:, 3]
    return float((cdist(queries, centres) <= radius).any(axis=1).mean())


def test_precision_and_recall_of_model_and_controls(evaluation, measured):
    real, pictures = evaluation.real, real_pictures(evaluation)
    assert not set(real.sample_rows) & set(real.fresh_rows)
    sample = seen_by(Corners(), pictures[real.sample_rows])
    sets = {
        "": evaluation.scenes["model"].column("image").head(12),
        "_untrained": evaluation.scenes["untrained"].column("image").head(12),
        "_other_half": pictures[real.fresh_rows],
    }
    for name, some in sets.items():
        features = seen_by(Corners(), some)
        assert measured[f"precision{name}"] == pytest.approx(balls(sample, features))
        assert measured[f"recall{name}"] == pytest.approx(balls(features, sample))


def test_shapes_of_model_and_controls(evaluation, measured):
    real = evaluation.real
    true = real.reference.true_depth().head(12)
    sets = {
        "": evaluation.scenes["model"].column("depth").head(12),
        "_untrained": evaluation.scenes["untrained"].column("depth").head(12),
        "_other_half": real.other.true_depth().head(12),
    }
    for name, some in sets.items():
        errors = np.stack([aligned_error(np.broadcast_to(one, true.shape), true) for one in some])
        assert measured[f"shape_distance{name}"] == pytest.approx(errors.min(axis=0).mean(), abs=2e-3)
        claimed = {int(row.argmin()) for row in errors if row.min() < 1}
        assert measured[f"shape_coverage{name}"] == len(claimed) / 12


def test_two_views_disagree_by_what_was_put_in(tiny_generator, monkeypatch):
    """Rendered by a stand-in: the second view shows the wall 5 thousandths nearer and a tenth brighter."""
    begun = []

    def render(planes, cameras, resolution, **_):
        second = len(begun) % 2
        begun.append(cameras[:, 0])
        origins, directions = rays(cameras, resolution)
        depth = (-0.2 + 0.005 * second - origins[..., 2]) / directions[..., 2]
        picture = torch.full((len(cameras), 3, resolution, resolution), 0.1 * second)
        return Rendering(picture, depth.reshape(len(cameras), 1, resolution, resolution))

    def frontal(cameras, *_):
        return frontal_cameras(tiny_generator.camera_config, len(cameras))

    monkeypatch.setattr(tiny_generator, "render", render)
    monkeypatch.setattr(tiny_generator, "posterior", frontal)
    found = views(tiny_generator, 4, 0, 17, 2)
    assert found["view_color_error"] == pytest.approx(12.75, rel=1e-5)  # of 255, where pictures have 2
    camera = tiny_generator.camera_config
    share = 0.005 / (camera.ray_end - camera.ray_start)
    assert found["view_depth_error"] == pytest.approx(share, rel=0.1)  # seen aslant, by 0.2 radians and less
    assert [(second - first).tolist() for first, second in zip(begun[::2], begun[1::2], strict=True)] == [
        pytest.approx([0.2, -0.2])
    ] * 2


def test_too_few_real_pictures_are_told_before_the_work(open_evaluation):
    for number in (1, 3):
        with pytest.raises(UserError, match=rf"evaluate\.real_samples: {number} are too few"):
            open_evaluation(evaluation_config(real_samples=number))
    evaluation = open_evaluation(evaluation_config(real_samples=4, samples=10))
    evaluation.make()
    values = measure(evaluation, TRAINING, None, evaluation.scratch / "shown")
    assert all(np.isfinite(value) for value in values.values())
