"""Generated scenes: what they are, that batches do not matter, that a stopped run goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threedgp.camera.priors import frontal_cameras
from threedgp.evaluation import fakes
from threedgp.evaluation.fakes import frontal_depth, generate
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.processes import Team


def column(scenes: fakes.Fakes, name: str) -> np.ndarray:
    return np.concatenate(list(scenes.column(name)))


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(fakes, "CHUNK", 4)


def test_scenes_are_those_of_the_seed(tiny_generator, tmp_path, small_chunks):
    made = generate(tiny_generator, 10, 3, 8, batch_size=4, folder=tmp_path, label="test")
    assert len(made.column("image")) == 10
    images, depth = column(made, "image"), column(made, "depth")
    assert images.shape == (10, 3, 8, 8)
    assert images.dtype == np.uint8
    assert depth.shape == (10, 1, 8, 8)
    assert depth.min() >= tiny_generator.camera_config.ray_start

    scenes = sample_scenes(tiny_generator, 10, 3)
    np.testing.assert_array_equal(made.whole("label"), scenes.labels)
    np.testing.assert_allclose(made.whole("prior"), scenes.prior_cameras, rtol=1e-6)
    posterior = tiny_generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    np.testing.assert_allclose(made.whole("camera"), posterior, rtol=1e-4, atol=1e-5)
    planes = tiny_generator.make_planes(tiny_generator.map(scenes.z, scenes.labels))
    rgb = (tiny_generator.render(planes, posterior, 8).rgb.clamp(-1, 1) + 1) * 127.5
    assert np.abs(images - rgb.numpy()).max() <= 0.51  # rounded


def test_batch_size_does_not_matter(tiny_generator, tmp_path):
    whole, split = (
        generate(tiny_generator, 6, 0, 8, batch_size=size, folder=tmp_path / str(size), label="test") for size in (6, 4)
    )
    # Matrix products of other sizes add in another order.
    np.testing.assert_allclose(column(whole, "depth"), column(split, "depth"), rtol=1e-4)
    assert np.abs(column(whole, "image").astype(int) - column(split, "image")).max() <= 1


def test_processes_and_threads_share_the_files_and_make_the_same_bytes(tiny_generator, tmp_path, small_chunks):
    arguments = dict(batch_size=2, label="test")
    generate(tiny_generator, 10, 0, 8, folder=tmp_path / "one", **arguments)
    for rank in range(2):
        shared = generate(tiny_generator, 10, 0, 8, folder=tmp_path / "two", workers=3, team=Team(rank, 2), **arguments)
        assert len(list((tmp_path / "two").iterdir())) == 2 + rank  # of three files the first two are of the first
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert len(shared.column("image").head(99)) == 10


def test_finished_files_are_kept(tiny_generator, tmp_path, small_chunks, monkeypatch):
    make = fakes._batch
    made = []

    def stopped(generator, count, seed, start, resolution):
        if start >= 8:
            raise KeyboardInterrupt
        return make(generator, count, seed, start, resolution)

    def counted(generator, count, seed, start, resolution):
        made.append(start)
        return make(generator, count, seed, start, resolution)

    monkeypatch.setattr(fakes, "_batch", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "a", label="test")
    monkeypatch.setattr(fakes, "_batch", counted)
    generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "a", label="test")
    assert made == [8]
    generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "b", label="test")
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_frontal_depth_takes_the_frontal_camera_through_the_camera_generator(tiny_generator):
    depth = frontal_depth(tiny_generator, 3, 0, 8, batch_size=2)
    assert depth.shape == (3, 8, 8)
    scenes = sample_scenes(tiny_generator, 3, 0)
    cameras = tiny_generator.posterior(frontal_cameras(tiny_generator.camera_config, 3), scenes.z, scenes.labels)
    planes = tiny_generator.make_planes(tiny_generator.map(scenes.z, scenes.labels))
    expected = tiny_generator.render(planes, cameras, 8, cut_quantile=0.5).depth[:, 0]
    np.testing.assert_allclose(depth, expected, rtol=1e-4)
    assert not torch.allclose(expected, tiny_generator.render(planes, cameras, 8).depth[:, 0])
