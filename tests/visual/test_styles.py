"""Truncation pulls to the center it names; interpolation is straight, even, and passes its anchors."""

from __future__ import annotations

import pytest
import torch

from threedgp.models.sampler import draw_scenes, sample_scenes
from threedgp.visual import styles


@pytest.fixture
def generator(tiny_generator, monkeypatch):
    """With an average of w that is none of its styles."""
    average = torch.linspace(-1, 1, tiny_generator.mapping.w_average.numel())
    monkeypatch.setitem(tiny_generator.mapping._buffers, "w_average", average)
    return tiny_generator


def test_truncation_towards_all_is_the_mappings_own(generator):
    scenes = sample_scenes(generator, 5, seed=0)
    for truncation in (0.0, 0.3, 1.0):
        expected = generator.map(scenes.z, scenes.labels, truncation)
        torch.testing.assert_close(styles.scene_styles(generator, scenes, truncation), expected, rtol=0, atol=0)


def test_truncation_towards_the_class_ends_at_the_mean_of_its_styles(generator):
    labels = torch.tensor([1, 0, 1])
    scenes = sample_scenes(generator, 3, seed=0, labels=labels)
    centers = styles.scene_styles(generator, scenes, 0.0, "class")
    torch.testing.assert_close(centers[0], centers[2], rtol=0, atol=0)
    assert (centers[0] - centers[1]).norm() > 0.01 * centers[0].norm()
    # Another sample of the class has the same mean, to the precision of a mean: five standard errors of both together.
    other = draw_scenes(generator, 7, "elsewhere", torch.arange(4096), torch.ones(4096, dtype=torch.int64))
    w = generator.map(other.z, other.labels)
    assert ((w.mean(0) - centers[0]).abs() < 5 * w.std(0) * (2 / 4096) ** 0.5 + 1e-6).all()
    half = styles.scene_styles(generator, scenes, 0.5, "class")
    torch.testing.assert_close(half, (centers + generator.map(scenes.z, scenes.labels)) / 2)


def test_a_scene_does_not_depend_on_its_neighbors(generator):
    scenes = sample_scenes(generator, 4, seed=0, labels=[0, 1, 1, 0])
    alone = sample_scenes(generator, 1, seed=0, start=2, labels=[1])
    together = styles.scene_styles(generator, scenes, 0.6, "class")[2:3]
    torch.testing.assert_close(styles.scene_styles(generator, alone, 0.6, "class"), together)


def test_without_classes_both_centers_are_the_average(generator, monkeypatch):
    scenes = sample_scenes(generator, 2, seed=0)
    w = generator.map(scenes.z, scenes.labels)
    average = generator.mapping.w_average
    monkeypatch.setattr(generator, "map", lambda z, labels, truncation, cameras: average.lerp(w, truncation))
    for towards in ("all", "class"):
        found = styles.scene_styles(generator, scenes._replace(labels=None), 0.0, towards)
        torch.testing.assert_close(found, average.expand(2, -1))


def test_interpolation_is_straight_even_and_closed():
    anchors = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 6.0]])
    path = styles.interpolate_styles(anchors, 9)
    torch.testing.assert_close(path[::3], anchors)
    torch.testing.assert_close(path[1], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(path[8], torch.tensor([1.0, 2.0]))  # on the way back to the first


def test_interpolation_of_one_stands_still():
    anchor = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(styles.interpolate_styles(anchor, 4), anchor.expand(4, -1))
