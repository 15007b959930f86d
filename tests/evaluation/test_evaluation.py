"""A whole evaluation of a model of random weights on a tiny world: made by several processes, killed, measured."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from metrics.conftest import evaluation_config
from metrics.networks import Brightness, Corners, Means

from threedgp.evaluation.measuring import measure
from threedgp.evaluation.real_side import Networks, build_networks
from threedgp.evaluation.scene_metrics import depth_consistency, views
from threedgp.features.moments import Moments
from threedgp.metrics.frechet import frechet_distance
from threedgp.runtime.processes import Team
from threedgp.visual.readings import reading


def test_every_metric_is_there_beside_its_controls(evaluation, studio, tmp_path):
    training_rows = evaluation.real.training_rows(studio.selected)
    assert training_rows.tolist() == list(range(6))
    values = measure(evaluation, training_rows, Brightness(), tmp_path / "shown")
    for metric in (
        "swd",
        "fd_means",
        "kd_means",
        "class_score_means",
        "precision",
        "recall",
        "nfs",
        "depth_swd",
        "normal_swd",
        "shape_distance",
        "shape_coverage",
        "view_color_error",
        "view_depth_error",
        "depth_consistency",
    ):
        assert f"{metric}_untrained" in values, metric
        assert isinstance(values[metric], float), metric
    assert {"authenticity_means", "authenticity_means_real", "camera_emd", "camera_emd_prior"} < set(values)
    assert values["fd_means_distilled"] is False
    assert "kd_means_std" in values
    for name in [name.removesuffix("_untrained") for name in values if name.endswith("_untrained")]:
        assert reading(name, distilled=False).title  # the report has words for all that it draws
    assert values["samples"] == 12
    files = {file.name for file in (tmp_path / "shown").iterdir()}
    assert {"neighbors.png", "cameras.tsv", "camera_distances.json", "model.png", "real.png"} <= files


def test_frechet_distances_are_those_of_the_pictures(evaluation):
    values = measure(evaluation, np.arange(6), None, evaluation.scratch / "shown")
    network, pictures = Means(), evaluation.pictures.contestants

    def moments(*sets: np.ndarray) -> Moments:
        return Moments.of(network(torch.from_numpy(np.concatenate(sets))).pooled.numpy())

    real = [half.pictures().head(12) for half in (evaluation.real.reference, evaluation.real.other)]
    for name in ("model", "background"):
        expected = frechet_distance(moments(pictures[name].head(12)), moments(*real))
        assert values["fd_means" if name == "model" else f"fd_means_{name}"] == pytest.approx(expected, rel=1e-5)
    # The two halves are the whole set here.
    assert values["fd_means_other_half"] == pytest.approx(
        frechet_distance(moments(real[1]), moments(real[0])), rel=1e-5
    )
    assert values["fd_means_other_half"] < values["fd_means_background"]


def test_processes_make_the_same(evaluation, open_evaluation, tmp_path):
    config = evaluation_config()
    numbers = measure(evaluation, np.arange(6), None, tmp_path / "shown")
    for rank in range(3):  # in turn, with the files of the others there when this process looks at them
        shared = open_evaluation(config, "shared")
        for name, scenes in shared.scenes.items():
            for file in Path(evaluation.scratch / name).iterdir():
                target = shared.scratch / name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
            assert len(scenes) == 12
        shared.make(Team(rank, 3))
    assert measure(shared, np.arange(6), None, tmp_path / "shared shown") == numbers


def test_only_what_is_asked_for_is_done(open_evaluation, tmp_path):
    config = evaluation_config(metrics=["nfs", "swd"], controls=False)
    networks = build_networks(config)
    assert networks == Networks(None, None)
    evaluation = open_evaluation(config, networks=networks)
    evaluation.make()
    assert {path.name for path in evaluation.scratch.iterdir()} == {"model"}
    assert set(measure(evaluation, np.arange(6), None, tmp_path / "shown")) == {"swd", "nfs", "samples"}


def test_the_settings_choose_the_networks():
    stand_in = {"neighbor_network": "features"}
    config = evaluation_config(**stand_in).model_copy(
        update={"features": evaluation_config().features.model_copy(update={"network": "efficientnet_lite0"})}
    )
    networks = build_networks(config)
    assert networks.main.name == "efficientnet_lite0"
    assert networks.neighbor is networks.main


def test_real_features_are_kept_for_the_next_model(evaluation, open_evaluation, tmp_path):
    corners = Corners()
    again = open_evaluation(evaluation_config(), "next", Networks(Means(), corners))
    (tmp_path / "scratch-kept").rename(tmp_path / "next-kept")
    again.make()
    assert corners.seen == 2 * 12  # two sets of fakes, and no real picture


def test_a_model_without_classes_has_no_class_metrics(open_evaluation, monkeypatch, tmp_path):
    evaluation = open_evaluation(evaluation_config(metrics=["precision_recall", "class_diversity"], controls=False))
    evaluation.make()
    for generator in evaluation.generators.values():
        monkeypatch.setattr(generator, "num_classes", 0)
    assert set(measure(evaluation, np.arange(6), None, tmp_path / "shown")) == {"precision", "recall", "samples"}


def test_classes_are_shown_least_diverse_first(evaluation, tmp_path):
    from threedgp.evaluation.exhibits import write_classes
    from threedgp.metrics.class_diversity import ClassScore

    write_classes(tmp_path / "classes.tsv", [ClassScore(0, 9, 0.5, 0.8), ClassScore(1, 8, 0.25, 0.2)], ["cat", "dog"])
    rows = list(csv.reader((tmp_path / "classes.tsv").open(), delimiter="\t"))
    assert rows == [
        ["class", "pictures", "recall", "diversity"],
        ["dog", "8", "0.25", "0.2"],
        ["cat", "9", "0.5", "0.8"],
    ]


def test_two_views_of_a_flat_wall_agree(tiny_generator, monkeypatch):
    """Rendered by a stand-in: a grey plane through the origin."""
    from threedgp.camera.geometry import rays
    from threedgp.models.generator import Rendering

    def render(planes, cameras, resolution, **_):
        origins, directions = rays(cameras, resolution)
        depth = (-0.2 - origins[..., 2]) / directions[..., 2]
        size = (len(cameras), 1, resolution, resolution)
        return Rendering(torch.zeros(len(cameras), 3, resolution, resolution), depth.reshape(size))

    monkeypatch.setattr(tiny_generator, "render", render)
    monkeypatch.setattr(tiny_generator, "posterior", lambda cameras, *_: _frontal(tiny_generator, cameras))
    found = views(tiny_generator, 5, 0, 9, 2)
    assert found["view_color_error"] == 0
    assert found["view_depth_error"] < 1e-5
    assert 0.3 < found["view_judged"] < 1


def _frontal(generator, cameras):
    from threedgp.camera.priors import frontal_cameras

    return frontal_cameras(generator.camera_config, len(cameras))


def test_depth_consistency_of_the_first_pictures(evaluation):
    scenes = evaluation.scenes["model"]
    error = depth_consistency(scenes, 7, Brightness(), "test")
    from threedgp.metrics.depth_agreement import aligned_error, axis_depth

    images, depth = scenes.column("image").head(7), scenes.column("depth").head(7)
    along = axis_depth(depth, scenes.whole("camera")[:7])
    assert error == pytest.approx(np.mean(aligned_error(along[:, 0], images[:, 0])), rel=1e-6)
