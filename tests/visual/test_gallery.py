"""The gallery has all its files, and the same ones each time."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
import trimesh

from threedgp.config import RenderConfig
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.visual.gallery import draw_gallery, real_pictures
from threedgp.visual.grids import GAP

SETTINGS = RenderConfig(
    grid=(2, 4),
    views=3,
    flights=2,
    flight_frames=4,
    interpolation=3,
    interpolation_frames=2,
    truncations=(0, 0.5, 1),
    meshes=1,
    mesh_resolution=12,
)
PICTURES = {f"{name}.png" for name in ("samples", "depth", "normals", "pairs", "real", "views", "truncation")}


@pytest.fixture
def gallery(tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "renders")
    return tmp_path / "renders"


def test_files_and_sizes(gallery):
    assert {file.name for file in gallery.iterdir()} == PICTURES | {"flight.mp4", "interpolation.mp4", "mesh-000.glb"}
    factor = 96 // 16
    sizes = {file.stem: cv2.imread(str(file)).shape[:2] for file in gallery.glob("*.png")}
    assert sizes["samples"] == tuple(factor * (count * (16 + GAP) + GAP) for count in (2, 4))
    assert sizes["pairs"] == (factor * (2 * (16 + GAP) + GAP), factor * (2 * (32 + GAP) + GAP))
    assert sizes["views"] == tuple(factor * (count * (16 + GAP) + GAP) for count in (4, 3))
    assert sizes["normals"] == sizes["depth"] == sizes["samples"]
    assert sizes["truncation"] == tuple(factor * (count * (16 + GAP) + GAP) for count in (3, 4))
    for name, frames, across in (("flight", 4, 2), ("interpolation", 6, 1)):
        with av.open(str(gallery / f"{name}.mp4")) as film:
            stream = film.streams.video[0]
            assert (stream.frames, stream.width) == (frames, 192 // 16 * (across * (16 + GAP) + GAP))
    assert len(trimesh.load(gallery / "mesh-000.glb", force="mesh").faces) > 0


def test_same_bytes(gallery, tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "again")
    for file in gallery.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_one_scene_without_film_or_mesh(tmp_path, tiny_generator, training_shards):
    settings = RenderConfig(grid=(1, 1), views=1, flights=0, interpolation=0, truncations=(), meshes=0)
    draw_gallery(tiny_generator, 16, training_shards, settings, tmp_path / "renders")
    assert {file.name for file in (tmp_path / "renders").iterdir()} == PICTURES - {"truncation.png"}


def test_sweep_ends_at_the_samples(gallery):
    """The last row of the sweep is the first row of the grid, for truncation 1 is none."""
    sheets = [cv2.imread(str(gallery / f"{name}.png")) for name in ("samples", "truncation")]
    side, gap = 96, 96 // 16 * GAP
    first, last = (sheets[0][gap : gap + side], sheets[1][-gap - side : -gap])
    assert np.abs(first.astype(int) - last).max() <= 1  # the same to rounding: batches of another size


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
