"""A whole evaluation of a model of random weights on a tiny world: made by several processes, killed, measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.conftest import evaluation_config, measure_rows, numbers
from evaluation.networks import Brightness, Corners, Means

from threedgp.evaluation.measuring import load_metrics
from threedgp.evaluation.reference import build_networks
from threedgp.features.moments import Moments
from threedgp.metrics.frechet import frechet_distance
from threedgp.runtime.processes import ProcessGroup


def test_every_metric_and_its_controls(evaluation, studio, tmp_path):
    training_rows = evaluation.reference.training_rows(studio.selected)
    assert training_rows.tolist() == list(range(6))
    values = numbers(measure_rows(evaluation, tmp_path / "shown", training_rows, Brightness()))
    for metric in (
        "swd",
        "fd_means",
        "kd_means",
        "class_score_means",
        "precision",
        "recall",
        "nfs",
        "depth_levels",
        "depth_swd",
        "normal_swd",
        "shape_distance",
        "shape_coverage",
        "view_color_error",
        "view_depth_error",
        "outer_view_color_error",
        "outer_view_depth_error",
        "depth_consistency",
    ):
        assert f"{metric}_untrained" in values, metric
        assert isinstance(values[metric], float), metric
    assert {"authenticity_means", "authenticity_means_real", "camera_emd", "camera_emd_prior"} < set(values)
    assert values["fd_means_distilled"] is False
    assert "kd_means_std" in values
    assert {"fd_means_infinite", "fd_means_bias"} < set(values)
    assert not any(name.startswith(("fd_means_infinite_", "kd_means_std_")) for name in values)
    # Controls of each metric, made of the half of the real set that is not the reference.
    for metric, controls in {"swd": 4, "fd_means": 4, "depth_swd": 3, "normal_swd": 3, "kd_means": 2, "nfs": 1}.items():
        names = {f"{metric}_{name}" for name in ("untrained", "other_half", "blurred", "background", "flat")}
        assert len(names & set(values)) == controls, metric
    assert values["swd_other_half"] < min(values["swd_background"], values["swd"])
    assert values["depth_swd_other_half"] < values["depth_swd_flat"]
    assert values["normal_swd_other_half"] < min(values["normal_swd"], values["normal_swd_flat"])
    assert {file.name for file in (tmp_path / "shown").iterdir()} == {
        "neighbors.png",
        "atypical.png",
        "camera_distances.json",
    }


def test_controls_are_made_of_the_other_half(evaluation):
    """Each made of the other half, so that none shares an image with the reference."""
    reference = evaluation.reference
    other = reference.other_half.images().head(12)
    sets = {name: stream.head(12) for name, stream in evaluation.images.items()}
    np.testing.assert_array_equal(sets["other_half"], other)
    for name in ("blurred", "background"):
        assert sets[name].shape == other.shape and (sets[name] != other).any(axis=(1, 2, 3)).all(), name
    steps = {name: np.abs(np.diff(images.astype(float))).mean() for name, images in sets.items()}
    assert steps["blurred"] < 0.85 * steps["other_half"]
    assert np.abs(sets["blurred"].astype(float).mean(axis=(2, 3)) - other.mean(axis=(2, 3))).max() < 6
    assert not set(reference.half.ids()) & set(reference.other_half.ids())


def test_frechet_distances_are_those_of_the_images(evaluation):
    values = numbers(measure_rows(evaluation, evaluation.scratch / "shown"))
    network, pictures = Means(), evaluation.images

    def moments(*sets: np.ndarray) -> Moments:
        return Moments.of(network(torch.from_numpy(np.concatenate(sets))).pooled.numpy())

    real = [half.images().head(12) for half in (evaluation.reference.half, evaluation.reference.other_half)]
    for name in ("model", "background"):
        expected = frechet_distance(moments(pictures[name].head(12)), moments(*real))
        assert values["fd_means" if name == "model" else f"fd_means_{name}"] == pytest.approx(expected, rel=1e-5)
    # The two halves are the whole set here.
    assert values["fd_means_other_half"] == pytest.approx(
        frechet_distance(moments(real[1]), moments(real[0])), rel=1e-5
    )
    assert values["fd_means_other_half"] < values["fd_means_background"]


def test_several_processes_give_the_same_numbers(evaluation, open_evaluation, tmp_path):
    config = evaluation_config()
    alone = numbers(measure_rows(evaluation, tmp_path / "shown"))
    for rank in range(3):  # in turn, with the files of the others there when this process looks at them
        shared = open_evaluation(config, "shared")
        for name, scenes in shared.scenes.items():
            for file in Path(evaluation.scratch / name).iterdir():
                target = shared.scratch / name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
            assert len(scenes) == 12
        shared.make(ProcessGroup(rank, 3))
    assert numbers(measure_rows(shared, tmp_path / "shared shown")) == alone


def test_only_the_chosen_metrics_are_computed(open_evaluation, tmp_path):
    config = evaluation_config(metrics=["nfs", "swd"], controls=False)
    networks = build_networks(config, load_metrics(config.evaluate.metrics).values())
    assert networks == {}
    evaluation = open_evaluation(config, networks=networks)
    evaluation.make()
    assert {path.name for path in evaluation.scratch.iterdir()} == {"model"}
    assert set(numbers(measure_rows(evaluation, tmp_path / "shown"))) == {"swd", "nfs"}


def test_settings_choose_the_networks():
    stand_in = {"neighbor_network": "features"}
    config = evaluation_config(**stand_in).model_copy(
        update={"features": evaluation_config().features.model_copy(update={"network": "efficientnet_lite0"})}
    )
    networks = build_networks(config, load_metrics(config.evaluate.metrics).values())
    assert networks["main"].name == "efficientnet_lite0"
    assert networks["neighbor"] is networks["main"]


@pytest.mark.parametrize(
    ("loss", "network", "expected"),
    [("l2", "means", "means"), ("kl", "resnet50", None), ("none", "means", None)],
    ids=["same network", "other network", "no distillation"],
)
def test_features_are_distilled_if_training_learned_from_them(open_evaluation, loss, network, expected):
    config = evaluation_config(metrics=["frechet"], controls=False)
    distillation = config.train.distillation.model_copy(update={"loss": loss})
    train = config.train.model_copy(update={"distillation": distillation})
    embed = config.embed.model_copy(update={"network": network})
    evaluation = open_evaluation(config.model_copy(update={"train": train, "embed": embed}))
    assert evaluation.distilled == expected
    assert evaluation.run_inputs(np.arange(6))["distilled"]() is (expected is not None)


def test_real_features_are_cached_for_the_next_model(evaluation, open_evaluation, tmp_path):
    corners = Corners()
    again = open_evaluation(evaluation_config(), "next", {"main": Means(), "neighbor": corners})
    (tmp_path / "scratch-cache").rename(tmp_path / "next-cache")
    again.make()
    assert corners.seen == 2 * 12  # two sets of fakes, and no real image


def test_model_without_classes_has_no_class_metrics(open_evaluation, monkeypatch, tmp_path):
    evaluation = open_evaluation(evaluation_config(metrics=["precision_recall", "class_diversity"], controls=False))
    evaluation.make()
    for generator in evaluation.generators.values():
        monkeypatch.setattr(generator, "num_classes", 0)
    assert set(numbers(measure_rows(evaluation, tmp_path / "shown"))) == {"precision", "recall"}
