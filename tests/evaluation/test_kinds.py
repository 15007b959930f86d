"""Models of every kind are scored by the same evaluation."""

from __future__ import annotations

import math

import pytest
from evaluation.conftest import evaluation_config, measure_rows, numbers

from threedgp.config import KINDS
from threedgp.models.initialization import initial_generator
from threedgp.models.saving import write_model
from training.worlds import kind_config

IMAGES = {"fd_means", "kd_means", "swd", "precision", "recall", "class_accuracy_means", "authenticity_means"}
GEOMETRY = {"nfs", "depth_levels", "depth_swd", "normal_swd", "camera_emd", "view_judged", "shape_distance"}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_scores_it(kind, open_evaluation, tmp_path):
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, 2, [0.5, 0.5], seed=1)
    write_model(tmp_path / "model", generator, resolution=16, class_names=["a", "b"], seed=1, kimg=2.0)
    evaluation = open_evaluation(evaluation_config(), model=tmp_path / "model")
    evaluation.make()
    found = numbers(measure_rows(evaluation, tmp_path / "shown"))
    assert set(found) >= IMAGES and all(math.isfinite(value) for value in found.values())
    if generator.has_density:
        assert set(found) >= GEOMETRY and not evaluation.without_density()
    else:
        assert not GEOMETRY & set(found)
        assert {"nfs", "depth_levels", "depth_swd", "cameras", "views"} <= set(evaluation.without_density())
