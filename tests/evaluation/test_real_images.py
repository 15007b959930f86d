"""Halves of the real set, their truth, and the controls made of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from threedgp.camera.normals import depth_normals
from threedgp.config import DatasetConfig, PrepareConfig
from threedgp.data.images import decode_images
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder
from threedgp.data.source import open_source
from threedgp.data.sources.rgbd import download
from threedgp.evaluation.real_images import RealImages, blurred, draw_sets


@pytest.fixture
def some(world) -> RealImages:
    """Rows of three shards."""
    return RealImages(world.prepared, world.source, np.array([0, 2, 6, 7, 23]))


IDS = ["00000000", "00000002", "00000006", "00000007", "00000023"]


def test_sets_are_disjoint_and_seeded():
    first, second = draw_sets(24, 10, 9, seed=0)
    assert len({*first, *second}) == 19
    assert (np.diff(first) > 0).all()
    again = draw_sets(24, 10, 9, seed=0)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert first.tolist() != draw_sets(24, 10, 9, seed=1)[0].tolist()
    assert {*draw_sets(24, 4, 0, seed=0)[0]} < {*first}
    assert len(draw_sets(24, 99, 5, seed=0)[1]) == 0


def test_images_are_the_prepared_ones(world, some):
    assert some.ids() == IDS
    everything = decode_images(world.prepared.column("image"))
    found = np.concatenate(list(some.images())).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found, np.stack([everything[row] for row in some.rows]))


def test_truth_comes_from_the_source(world, some):
    pictures = {picture.id: picture for picture in world.source.read(world.source.entries())}
    assert some.has_truth()
    np.testing.assert_array_equal(some.cameras(), np.stack([pictures[name].cameras for name in IDS]))
    depth = np.concatenate(list(some.depth()))
    assert depth.shape == (5, 1, 16, 16)
    # 32x32 maps at 16x16: means of 2x2 pixels.
    expected = np.stack([pictures[name].depth.reshape(16, 2, 16, 2).mean((1, 3)) for name in IDS])
    np.testing.assert_allclose(depth[:, 0], expected, rtol=1e-5)


def test_true_normals_are_those_of_the_depth(world, some):
    normals = np.concatenate(list(some.normals()))
    depth, fov = np.concatenate(list(some.depth()))[:, 0], some.cameras()[:, 3]
    np.testing.assert_allclose(normals, depth_normals(depth, fov).transpose(0, 3, 1, 2), atol=1e-6)
    assert normals.shape == (5, 3, 16, 16)


def test_backgrounds_differ_from_the_images_only_at_the_object(tmp_path, some):
    some.render_backgrounds(tmp_path / "kept", 1)
    backgrounds = some.backgrounds(tmp_path / "kept").whole()
    pictures = np.concatenate(list(some.images()))
    far = scipy.ndimage.minimum_filter(np.concatenate(list(some.depth()))[:, 0], size=(1, 7, 7)) > 1.2499
    assert 0.05 < far.mean() < 1
    apart = np.abs(pictures.astype(int) - backgrounds).max(axis=1)
    assert apart[far].max() <= 2  # Lanczos reaches three pixels far, with little weight
    assert apart[~far].max() > 30
    kept = next((tmp_path / "kept").iterdir())
    np.save(kept, backgrounds[:, ::-1])
    some.render_backgrounds(tmp_path / "kept", 1)  # what is kept is not made again
    np.testing.assert_array_equal(some.backgrounds(tmp_path / "kept").whole(), backgrounds[:, ::-1])


def test_blur_is_a_pixel_at_32():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    expected = scipy.ndimage.gaussian_filter(pictures.astype(float), (0, 0, 2, 2), mode="mirror")
    # OpenCV cuts the kernel off at three deviations and rounds.
    assert np.abs(blurred(pictures) - expected).max() < 3


def test_sidecar_depth_is_not_ground_truth(real_rgbd, tmp_path):
    download(real_rgbd, tmp_path / "raw")
    source = open_source(DatasetConfig(name="real", source="rgbd", path=str(real_rgbd)), tmp_path / "raw")
    prepare_set(source, tmp_path / "prepared", PrepareConfig(shard_rows=8), 16, 1)
    assert not RealImages(ShardFolder(tmp_path / "prepared"), source, np.arange(3)).has_truth()
