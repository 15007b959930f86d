"""The measures of the small presets order image sets whose quality is known: features of the packaged network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.features.moments import Moments
from threedgp.features.network import build_extractor
from threedgp.metrics.frechet import frechet_distance
from threedgp.metrics.precision_recall import precision_recall

COUNT = 320
"""Images of a set. The thresholds below also hold for 1,024 images of the data of preset `toy`."""


def _world() -> tuple[np.ndarray, np.ndarray]:
    """Toy animals at the resolution of preset `toy`, uint8 `[2 * COUNT, 32, 32, 3]`, and their classes."""
    scenes = [draw_scene(0, index) for index in range(2 * COUNT)]
    return np.stack([render_picture(scene, 32).rgb for scene in scenes]), np.array([scene.label for scene in scenes])


@pytest.fixture(scope="module")
def scores() -> dict[str, tuple[float, float, float]]:
    """Fréchet distance, precision and recall of sets of images against the first half of the world."""
    images, labels = _world()
    others, labels = images[COUNT:], labels[COUNT:]
    noise = np.random.default_rng(0).normal(0, 25, others.shape)
    noisy = (others + noise).clip(0, 255).astype(np.uint8)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in others])
    network = build_extractor("efficientnet_lite0", input_size=64)  # as in presets/toy.yaml

    def features(batch: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
        return np.concatenate([network(part).pooled.numpy() for part in pixels.split(64)])

    reference, real, noisy, blurred = map(features, (images[:COUNT], others, noisy, blurred))
    first = {label: np.flatnonzero(labels == label)[0] for label in np.unique(labels)}
    sets = {
        "real": real,
        "blurred": blurred,
        "half_noisy": np.where(np.arange(COUNT)[:, None] % 2, real, noisy),
        "noisy": noisy,
        "collapsed": real[[first[label] for label in labels]],
    }
    moments = Moments.of(reference)
    return {
        name: (frechet_distance(moments, Moments.of(own)), *precision_recall(own, reference))
        for name, own in sets.items()
    }


def test_frechet_distance_grows_with_the_damage(scores: dict[str, tuple[float, float, float]]) -> None:
    distance = {name: score[0] for name, score in scores.items()}
    assert 1.5 * distance["real"] < min(distance[name] for name in scores if name != "real")
    assert distance["half_noisy"] < distance["noisy"]


def test_precision_sees_damaged_images(scores: dict[str, tuple[float, float, float]]) -> None:
    precision = {name: score[1] for name, score in scores.items()}
    assert precision["real"] > precision["blurred"] > precision["noisy"]
    assert precision["real"] > precision["half_noisy"] > precision["noisy"]
    assert precision["collapsed"] > 0.5  # each of its images is real


def test_recall_sees_missing_images(scores: dict[str, tuple[float, float, float]]) -> None:
    """A collapsed set of genuine images and blurred images have no or little recall; half of a set suffices."""
    recall = {name: score[2] for name, score in scores.items()}
    assert recall["collapsed"] == 0
    assert 3 * recall["blurred"] < recall["real"]
    assert recall["half_noisy"] > 0.7 * recall["real"]
