"""All numbers of an evaluation, each beside its controls, and the small files that show where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from threedgp.data.images import decode_images
from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation import exhibits, scene_metrics
from threedgp.evaluation.contests import MODEL, OTHER_HALF, depth_contest, named, normal_contest, swd_metrics
from threedgp.evaluation.evaluation import Evaluation
from threedgp.evaluation.feature_metrics import frechet, metric_name, pairwise
from threedgp.evaluation.reals import take_rows
from threedgp.evaluation.summary import rounded
from threedgp.features.registry import same_network
from threedgp.metrics.camera_emd import camera_distances, total_distance
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.neighbors import memory
from threedgp.metrics.shape_matching import match_shapes, unit_maps
from threedgp.runtime.atomic import write_json

MOST_JUDGED = 2048
"""Pictures whose nearest training pictures, and depth maps whose nearest true maps, are looked for."""
MOST_TURNED = 128
"""Scenes of which two views are compared."""
SHOWN, NEIGHBOURS_SHOWN = 8, 5
"""The most copy-like pictures that are shown, and how many training pictures beside each."""

Values = dict[str, Any]


def measure(
    evaluation: Evaluation, training_rows: np.ndarray, estimator: DepthEstimator | None, folder: Path
) -> Values:
    """Every number that the settings ask for, by name; controls have the name of their set at the end.

    Args:
        evaluation: whose scenes and features are made.
        training_rows: rows of the prepared pictures that the model was trained on.
        estimator: of depth; None = there is none that looks at pixels.
        folder: for plots and pictures.
    """
    settings = evaluation.settings
    wanted = set(settings.metrics)
    exhibits.write_strips(folder, evaluation.pictures)
    values: Values = {"samples": settings.samples}
    if "swd" in wanted:
        values |= swd_metrics("swd", evaluation.pictures, settings.seed)
    values |= _feature_metrics(evaluation, folder)
    if "neighbors" in wanted:
        values |= _neighbors(evaluation, training_rows, folder)
    if "nfs" in wanted:
        values |= named("nfs", _of_each(evaluation, settings.nfs_samples, scene_metrics.relief))
    if "views" in wanted:
        values |= _views(evaluation)
    if "depth_consistency" in wanted and estimator:
        values |= _depth_consistency(evaluation, estimator)
    return values | _against_truth(evaluation, folder)


def _of_each(evaluation: Evaluation, count: int, measured: Callable[..., Any]) -> dict[str, Any]:
    """What `measured` says of every generator, given count, seed, resolution and batch size."""
    settings = evaluation.settings
    how = count, settings.seed, evaluation.resolution, settings.batch_size
    return {name: measured(generator, *how) for name, generator in evaluation.generators.items()}


def _views(evaluation: Evaluation) -> Values:
    found = _of_each(evaluation, min(evaluation.settings.nfs_samples, MOST_TURNED), scene_metrics.views)
    metrics = dict.fromkeys(metric for values in found.values() for metric in values)
    return {
        key: value
        for metric in metrics
        for key, value in named(metric, {name: some[metric] for name, some in found.items() if metric in some}).items()
    }


def _depth_consistency(evaluation: Evaluation, estimator: DepthEstimator) -> Values:
    count = evaluation.settings.depth_samples
    errors = {
        name: scene_metrics.depth_consistency(scenes, count, estimator, f"evaluate: depth of {name}")
        for name, scenes in evaluation.scenes.items()
    }
    return named("depth_consistency", {name: error for name, error in errors.items() if error is not None})


def _feature_metrics(evaluation: Evaluation, folder: Path) -> Values:
    settings, real = evaluation.settings, evaluation.real
    if not (real.networks.main or real.networks.neighbor):
        return {}
    reference, values = real.feature_reference, {}

    def add(name: str, found: dict[str, float]) -> None:
        for metric, value in found.items():
            if name == MODEL or not metric.endswith("_std"):
                values.update(named(metric, {name: value}))

    if "frechet" in settings.metrics:
        for name in evaluation.pictures.contestants:
            some = evaluation.features(name)
            if name == OTHER_HALF:
                rest = np.delete(np.arange(real.prepared.manifest.rows), real.fresh_rows)
                halves = some.main.moments(), real.stored_features(rest).moments()
                add(name, {metric_name("fd", reference.network): frechet_distance(*halves)})
            else:
                extrapolate = settings.extrapolate and name == MODEL
                add(name, frechet(some, reference, extrapolate=extrapolate, seed=settings.seed))
        learned = evaluation.real.config.embed.network
        values[f"{metric_name('fd', reference.network)}_distilled"] = same_network(learned, reference.network)
    for name in (*evaluation.scenes, *([OTHER_HALF] if settings.controls else [])):
        asked = set(settings.metrics) - ({"inception_score"} if name == OTHER_HALF else set())
        found, scores = pairwise(
            asked, evaluation.features(name), reference, seed=settings.seed, device=evaluation.device
        )
        add(name, found)
        if name == MODEL and scores:
            exhibits.write_classes(folder / "classes.tsv", scores, real.class_names)
    return values


def _neighbors(evaluation: Evaluation, training_rows: np.ndarray, folder: Path) -> Values:
    """Authenticity, and a picture of the most copy-like samples beside their nearest training pictures."""
    real, seed = evaluation.real, evaluation.settings.seed
    name = metric_name("authenticity", real.networks.main.name)
    k = min(NEIGHBOURS_SHOWN, len(training_rows) - 3)
    if k < 1:
        return {}
    training = real.stored_features(training_rows)
    made = evaluation.features(MODEL).main.column("pooled")[:MOST_JUDGED]
    found = memory(made, training.batches, k, device=evaluation.device)
    own = np.sort(np.random.default_rng(seed).permutation(len(training_rows))[:MOST_JUDGED])
    fresh = memory(
        real.stored_features(training_rows[own]).column("pooled"), training.batches, own=own, device=evaluation.device
    )
    copies = np.argsort(found.closeness, kind="stable")[:SHOWN]
    rows = training_rows[found.nearest.rows[copies]]
    images = evaluation.scenes[MODEL].column("image").head(len(made))[copies]
    exhibits.write_neighbors(folder / "neighbors.png", images, _pictures(evaluation, rows))
    values = {name: float(found.authentic.mean()), f"{name}_real": float(fresh.authentic.mean())}
    closest = {"closest_copy": float(found.closeness.min()), "closest_copy_real": float(fresh.closeness.min())}
    # Where every training picture is there twice, nothing is close in this sense.
    return values | {key: value for key, value in closest.items() if np.isfinite(value)}


def _pictures(evaluation: Evaluation, rows: np.ndarray) -> np.ndarray:
    """Prepared pictures of rows `[N, k]`, uint8 `[N, k, 3, R, R]`."""
    once, place = np.unique(rows, return_inverse=True)
    tables = take_rows(evaluation.real.prepared, once, ["image"])
    pictures = np.concatenate([decode_images(table["image"]) for table in tables])
    return pictures.transpose(0, 3, 1, 2)[place.reshape(rows.shape)]


def _against_truth(evaluation: Evaluation, folder: Path) -> Values:
    """Cameras and geometry, where the source knows the true ones."""
    real, settings = evaluation.real, evaluation.settings
    scenes, wanted, values = evaluation.scenes[MODEL], set(settings.metrics), {}
    cameras = {"learned": scenes.whole("camera"), "prior": scenes.whole("prior")}
    if real.reference.knows_truth():
        if "cameras" in wanted:
            cameras["true"] = real.reference.true_cameras()
            values |= _cameras(evaluation, cameras, folder)
        if "depth" in wanted:
            values |= swd_metrics(
                "depth_swd", depth_contest(real.reference, real.other, evaluation.scenes), settings.seed
            )
            values |= swd_metrics(
                "normal_swd", normal_contest(real.reference, real.other, evaluation.scenes), settings.seed
            )
            values |= _shapes(evaluation)
    exhibits.write_cameras(folder / "cameras.tsv", cameras)
    return values


def _cameras(evaluation: Evaluation, cameras: dict[str, np.ndarray], folder: Path) -> Values:
    distances = camera_distances(cameras["learned"], cameras["prior"], cameras["true"])
    write_json(folder / "camera_distances.json", rounded(distances))
    prior = evaluation.generators[MODEL].camera_config
    ranges = {name: getattr(prior, name) for name in distances}
    return {
        "camera_emd": total_distance(distances, ranges, "emd"),
        "camera_emd_prior": total_distance(distances, ranges, "emd_prior"),
        **{f"camera_emd_{name}": row["emd"] for name, row in distances.items()},
    }


def _shapes(evaluation: Evaluation) -> Values:
    """Shapes of each set against the true ones."""
    real, values = evaluation.real, {}
    count = min(len(real.reference.rows), MOST_JUDGED)
    sets = {name: scenes.column("depth") for name, scenes in evaluation.scenes.items()}
    if real.other:
        sets[OTHER_HALF] = real.other.true_depth()
    true = unit_maps(real.reference.true_depth(), count)
    for name, depth in sets.items():
        found = match_shapes(unit_maps(depth, count), true)
        values |= named("shape_distance", {name: found.distance}) | named("shape_coverage", {name: found.coverage})
    return values
