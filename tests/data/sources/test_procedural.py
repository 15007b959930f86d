"""Source `procedural`: what is rendered is what is read, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from threedgp.config import DatasetConfig, DownloadConfig
from threedgp.data.shards import ShardFolder
from threedgp.data.source import Source, open_source
from threedgp.data.sources import procedural
from threedgp.data.sources.procedural import render_shards
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import CLASS_NAMES, draw_scene


def world(folder: Path, count: int = 80, workers: int = 2, seed: int = 3) -> Source:
    render_shards(DownloadConfig(count=count, resolution=16, seed=seed), folder, workers)
    return open_source(DatasetConfig(name="toy", source="procedural", resolution=16), folder)


def test_reads_images_with_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedural, "SHARD_ROWS", 50)
    source = world(tmp_path / "raw")
    entries = source.entries()
    assert entries.num_rows == 80 and source.class_names == CLASS_NAMES
    assert entries["id"].to_pylist() == sorted(entries["id"].to_pylist())
    pictures = list(source.read(entries))
    for index in (0, 31, 32, 49, 50, 79):
        scene = draw_scene(3, index)
        rendering = render_picture(scene, 16)
        picture = pictures[index]
        assert picture.id == entries["id"][index].as_py() and picture.label == scene.label
        np.testing.assert_array_equal(picture.rgb, rendering.rgb)
        np.testing.assert_array_equal(picture.depth, rendering.depth)
        np.testing.assert_array_equal(picture.mask, rendering.mask)
        np.testing.assert_allclose(picture.normals, rendering.normals, atol=0.5 / 127 + 1e-6)  # eight bits
        np.testing.assert_array_equal(picture.cameras, scene.camera.astype(np.float32))
    few = list(source.read(entries.take([79, 5, 6, 60])))
    assert [picture.id for picture in few] == entries.take([79, 5, 6, 60])["id"].to_pylist()
    np.testing.assert_array_equal(few[1].rgb, pictures[5].rgb)


def test_raw_images_are_read_without_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a change of the world's code alone re-runs only the stages that render (`ONLY_IN` of dependencies.py)."""
    world(tmp_path / "raw", count=8)
    for name in ("draw_scene", "render_picture", "render_background"):
        monkeypatch.delattr(procedural, name)
    source = open_source(DatasetConfig(name="toy", source="procedural", resolution=16), tmp_path / "raw")
    assert len(list(source.read(source.entries()))) == 8


def test_workers_and_count_change_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = world(tmp_path / "one")
    ids = source.entries()["id"].to_pylist()[:5]
    backgrounds = [picture.rgb for picture in source.read_backgrounds(ids, 2)]
    monkeypatch.setattr(procedural, "MIN_FOR_PROCESSES", 1)
    monkeypatch.setattr(procedural, "render_picture", None)  # two new processes render
    monkeypatch.setattr(procedural, "render_background", None)
    world(tmp_path / "two", workers=2)
    one, two = (tmp_path / name / "part-00000.parquet" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    np.testing.assert_array_equal([picture.rgb for picture in source.read_backgrounds(ids, 2)], backgrounds)
    monkeypatch.undo()
    fewer = world(tmp_path / "fewer", count=40)
    assert ShardFolder(tmp_path / "one").read(0).slice(0, 40).equals(ShardFolder(tmp_path / "fewer").read(0))
    assert fewer.entries().num_rows == 40


def test_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedural, "SHARD_ROWS", 20)
    world(tmp_path / "whole")
    render = procedural._render

    def stop_at_50(seed: int, resolution: int, index: int) -> pa.Table:
        if index == 50:
            raise KeyboardInterrupt
        return render(seed, resolution, index)

    monkeypatch.setattr(procedural, "_render", stop_at_50)
    with pytest.raises(KeyboardInterrupt):
        world(tmp_path / "stopped")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "stopped").glob("part-*")}
    assert len(kept) == 2
    monkeypatch.setattr(procedural, "_render", render)
    world(tmp_path / "stopped")
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in kept.items())
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "stopped" / file.name).read_bytes()


def test_backgrounds_are_those_of_the_images(tmp_path: Path) -> None:
    source = world(tmp_path / "raw")
    entries = source.entries().take([4, 70, 9])
    backgrounds = source.read_backgrounds(entries["id"].to_pylist(), 1)
    for alone, picture in zip(backgrounds, source.read(entries), strict=True):
        assert (alone.id, alone.label) == (picture.id, picture.label)
        assert alone.rgb.shape == picture.rgb.shape and alone.rgb.dtype == np.uint8
        animal = cv2.dilate(picture.mask.astype(np.uint8), np.ones((3, 3))) == 1  # with pixels that show its edge
        sky = (picture.depth == np.float32(1.25)) & ~animal  # no shadow falls there
        inner = cv2.erode(sky.astype(np.uint8), np.ones((3, 3))) == 1
        assert inner.sum() > 15
        np.testing.assert_array_equal(alone.rgb[inner], picture.rgb[inner])
        assert (alone.rgb != picture.rgb).any(axis=-1)[picture.mask].mean() > 0.95
