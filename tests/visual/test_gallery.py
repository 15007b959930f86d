"""The gallery has all its files, and the same ones each time."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest
import trimesh

from threedgp.config import RenderConfig
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.visual.gallery import draw_gallery, real_pictures
from threedgp.visual.grids import GAP

SETTINGS = RenderConfig(grid=(2, 4), views=3, flights=2, flight_frames=4, meshes=1, mesh_resolution=12)


@pytest.fixture
def gallery(tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "renders")
    return tmp_path / "renders"


def test_files_and_sizes(gallery):
    names = {"samples.png", "depth.png", "pairs.png", "real.png", "views.png", "flight.mp4", "mesh-000.glb"}
    assert {file.name for file in gallery.iterdir()} == names
    factor = 96 // 16
    sizes = {name: cv2.imread(str(gallery / f"{name}.png")).shape[:2] for name in ("samples", "pairs", "views")}
    assert sizes["samples"] == tuple(factor * (count * (16 + GAP) + GAP) for count in (2, 4))
    assert sizes["pairs"] == (factor * (2 * (16 + GAP) + GAP), factor * (2 * (32 + GAP) + GAP))
    assert sizes["views"] == tuple(factor * (count * (16 + GAP) + GAP) for count in (4, 3))
    film = cv2.VideoCapture(str(gallery / "flight.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert len(trimesh.load(gallery / "mesh-000.glb", force="mesh").faces) > 0


def test_same_bytes(gallery, tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "again")
    for file in gallery.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_one_scene_without_film_or_mesh(tmp_path, tiny_generator, training_shards):
    settings = RenderConfig(grid=(1, 1), views=1, flights=0, meshes=0)
    draw_gallery(tiny_generator, 16, training_shards, settings, tmp_path / "renders")
    assert len(list((tmp_path / "renders").iterdir())) == 5


def test_shards_without_depth_show_their_pictures(tmp_path, tiny_generator, training_shards):
    meta = training_shards.meta | {"estimator": "none"}
    writer = ShardWriter(tmp_path / "bare", training_shards.schema, "shards", meta)
    rows = [row | {"depth": b""} for row in training_shards.read(0).to_pylist()]
    writer.write(0, pa.Table.from_pylist(rows, training_shards.schema))
    writer.finish()
    bare = ShardFolder(tmp_path / "bare")
    assert real_pictures(bare, 4)[1] is None
    draw_gallery(tiny_generator, 16, bare, SETTINGS, tmp_path / "renders")
    factor = 96 // 16
    assert cv2.imread(str(tmp_path / "renders" / "real.png")).shape[1] == factor * (2 * (16 + GAP) + GAP)


def test_real_pictures(training_shards):
    pictures, depth = real_pictures(training_shards, 4)
    assert pictures.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(depth[0, 0], np.linspace(0, 1, 16), atol=1e-4)
