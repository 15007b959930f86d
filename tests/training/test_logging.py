"""Histograms of learned cameras against NumPy's."""

from __future__ import annotations

import numpy as np
import torch

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.camera.priors import prior_cameras
from threedgp.config import CameraConfig
from threedgp.training.logging import BINS, FIELDS, CameraHistograms, bin_edges

CONFIG = CameraConfig()


def _cameras(seed: int, count: int = 500) -> torch.Tensor:
    return prior_cameras(CONFIG, torch.rand(count, 6, generator=torch.Generator().manual_seed(seed)))


def test_counts_are_those_of_numpy() -> None:
    histograms = CameraHistograms(CONFIG, torch.device("cpu"))
    first, second = _cameras(0), _cameras(1)
    histograms.add(first)
    histograms.add(second)
    line = histograms.end_line()
    both = torch.cat([first, second]).double().numpy()
    for index, field in enumerate(FIELDS):
        expected, _ = np.histogram(both[:, CAMERA_FIELDS.index(field)], bin_edges(CONFIG)[field])
        assert line[index].tolist() == expected.tolist(), field
    assert histograms.counts.sum() == 0


def test_borders_belong_to_the_outer_bins() -> None:
    histograms = CameraHistograms(CONFIG, torch.device("cpu"))
    camera = _cameras(0, 2)
    camera[0, CAMERA_FIELDS.index("fov")], camera[1, CAMERA_FIELDS.index("fov")] = CONFIG.fov
    histograms.add(camera)
    counts = histograms.end_line()[FIELDS.index("fov")]
    assert counts[0] == counts[BINS - 1] == 1


def test_goes_on_from_a_state() -> None:
    whole, first, second = (CameraHistograms(CONFIG, torch.device("cpu")) for _ in range(3))
    for histograms in (whole, first):
        histograms.add(_cameras(0))
        histograms.end_line()
        histograms.add(_cameras(1))
    second.load_state_dict(first.state_dict())
    for histograms in (whole, second):
        histograms.add(_cameras(2))
        histograms.end_line()
    expected, found = whole.arrays(CONFIG), second.arrays(CONFIG)
    assert expected["yaw"].shape == (2, BINS)
    for name, values in expected.items():
        np.testing.assert_array_equal(values, found[name])


def test_a_parameter_that_cannot_move_has_one_bin() -> None:
    config = CameraConfig(look_at_radius=(0.0, 0.0))
    histograms = CameraHistograms(config, torch.device("cpu"))
    histograms.add(prior_cameras(config, torch.rand(10, 6)))
    assert histograms.end_line()[FIELDS.index("look_at_radius")].tolist() == [10] + [0] * (BINS - 1)
