"""The gallery has all its files, and the same ones each time."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
import trimesh

from threedgp.camera.trajectories import front_circle, line, points
from threedgp.config import RenderConfig
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import Progress
from threedgp.visual import gallery as gallery_module
from threedgp.visual.gallery import draw_gallery, real_images
from threedgp.visual.grids import GAP, LABEL_HEIGHT
from threedgp.visual.meshes import CAMERAS, NoSurface, scene_mesh
from threedgp.visual.styles import interpolate_styles, scene_content, scene_styles
from threedgp.visual.views import posterior_cameras, render_views

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
NAMES = ("samples", "classes", "depth", "normals", "pairs", "real", "views", "truncation")
PICTURES = {f"{name}.png" for name in NAMES}


@pytest.fixture
def gallery(tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "renders")
    return tmp_path / "renders"


def test_files_and_sizes(gallery):
    assert {file.name for file in gallery.iterdir()} == PICTURES | {"flight.mp4", "interpolation.mp4", "mesh-000.glb"}
    factor = 96 // 16
    sizes = {file.stem: cv2.imread(str(file)).shape[:2] for file in gallery.glob("*.png")}

    def size(rows: int, columns: int, width: int = 16, label: int = LABEL_HEIGHT) -> tuple[int, int]:
        return factor * (rows * (16 + GAP) + GAP) + rows * label, factor * (columns * (width + GAP) + GAP)

    assert sizes["samples"] == sizes["normals"] == sizes["depth"] == size(2, 4)
    assert sizes["classes"] == size(2, 4), "a row for each class"
    assert sizes["pairs"] == size(2, 2, width=32)
    assert sizes["views"] == size(4, 3, label=0)
    assert sizes["truncation"] == size(3, 4)
    for name, frames, across in (("flight", 4, 2), ("interpolation", 6, 1)):
        with av.open(str(gallery / f"{name}.mp4")) as film:
            stream = film.streams.video[0]
            assert (stream.frames, stream.width) == (frames, 192 // 16 * (across * (16 + GAP) + GAP))
    assert len(trimesh.load(gallery / "mesh-000.glb", force="mesh").faces) > 0


def test_same_bytes(gallery, tmp_path, tiny_generator, training_shards):
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS, tmp_path / "again")
    for file in gallery.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def picture(folder, name) -> np.ndarray:
    return cv2.imread(str(folder / f"{name}.png"))[..., ::-1].astype(int)


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """An image of 16 pixels from a labeled sheet of images that were enlarged to 96."""
    factor = 96 // 16
    top, left = (place * factor * (16 + GAP) + factor * GAP for place in (row, column))
    top += (row + 1) * LABEL_HEIGHT
    return sheet[top : top + 96 : factor, left : left + 96 : factor]


def test_every_setting_is_obeyed(tmp_path, tiny_generator, training_shards, monkeypatch):
    """Scenes of the seed, truncated towards their class; its flight path; as many meshes as asked for, each another."""
    films = {}

    def film(target, frames, frames_per_second, crf):
        films[target.stem] = list(frames), frames_per_second, crf

    monkeypatch.setattr("threedgp.visual.gallery.write_video", film)
    changed = {"seed": 5, "truncation": 0.4, "truncate_towards": "class", "flight_path": "line", "crf": 30, "meshes": 2}
    settings = SETTINGS.model_copy(update=changed)
    draw_gallery(tiny_generator, 16, training_shards, settings, tmp_path)

    scenes = sample_scenes(tiny_generator, 8, 5)
    cameras = posterior_cameras(tiny_generator, scenes)
    styles = scene_styles(tiny_generator, scenes, 0.4, "class")

    def look(w, paths) -> np.ndarray:
        return render_views(tiny_generator, w, paths, 16, Progress()).images.astype(int)

    wanted = look(styles, cameras[:, None])[:, 0]
    for index in range(8):
        assert np.abs(tile(picture(tmp_path, "samples"), *divmod(index, 4)) - wanted[index]).max() <= 1
    for label in range(2):
        scenes_of_class = sample_scenes(tiny_generator, 4, 5, labels=[label] * 4)
        shown = scene_styles(tiny_generator, scenes_of_class, 0.4, "class")
        own = posterior_cameras(tiny_generator, scenes_of_class)
        for column, image in enumerate(look(shown, own[:, None])[:, 0]):
            assert np.abs(tile(picture(tmp_path, "classes"), label, column) - image).max() <= 1
    half = look(scene_styles(tiny_generator, scenes, 0.5, "class")[:4], cameras[:4, None])[:, 0]
    for index in range(4):
        assert np.abs(tile(picture(tmp_path, "truncation"), 1, index) - half[index]).max() <= 1

    frames, speed, crf = films["flight"]
    assert (speed, crf, len(frames)) == (24, 30, 4)
    paths = torch.stack([line(tiny_generator.camera_config, 4, camera) for camera in cameras[:2]])
    flown, factor = look(styles[:2], paths), 192 // 16
    place = slice(factor * GAP, factor * (GAP + 16), factor)
    for found, expected in zip(frames, flown[0], strict=True):
        assert np.abs(found[place, place].astype(int) - expected).max() <= 1

    frames, _, _ = films["interpolation"]
    turned = look(interpolate_styles(styles[:3], 6), points(cameras[:3], 6, closed=True)[:, None])[:, 0]
    for found, expected in zip(frames, turned, strict=True):
        assert np.abs(found[place, place].astype(int) - expected).max() <= 1

    for number in (0, 1):
        planes = scene_content(tiny_generator, sample_scenes(tiny_generator, 1, 5, start=number), 0.4, "class")
        around = front_circle(tiny_generator.camera_config, CAMERAS, cameras[number])
        solid = scene_mesh(tiny_generator, planes, around, 12, Progress())
        found = trimesh.load(tmp_path / f"mesh-00{number}.glb", force="mesh", process=False)
        np.testing.assert_allclose(found.vertices, solid.vertices, atol=1e-4)
        assert found.metadata["yaw"] == pytest.approx(cameras[number, 0].item())


def test_a_scene_without_surface_leaves_out_its_mesh_alone(
    tmp_path, tiny_generator, training_shards, monkeypatch, capsys
):
    """A model that has learned little must not cost the stage."""
    made = gallery_module.scene_mesh
    calls = []

    def first_is_empty(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise NoSurface("the scene is empty, so it has no surface.")
        return made(*arguments)

    monkeypatch.setattr(gallery_module, "scene_mesh", first_is_empty)
    draw_gallery(tiny_generator, 16, training_shards, SETTINGS.model_copy(update={"meshes": 2}), tmp_path)
    assert [file.name for file in tmp_path.glob("*.glb")] == ["mesh-001.glb"]
    assert "mesh-000.glb is left out: the scene is empty, so it has no surface." in capsys.readouterr().out


def test_one_scene_without_film_or_mesh(tmp_path, tiny_generator, training_shards):
    settings = RenderConfig(grid=(1, 1), views=1, flights=0, interpolation=0, truncations=(), meshes=0)
    draw_gallery(tiny_generator, 16, training_shards, settings, tmp_path / "renders")
    assert {file.name for file in (tmp_path / "renders").iterdir()} == PICTURES - {"truncation.png"}


def test_sweep_ends_at_the_samples(gallery):
    """The last row of the sweep is the first row of the grid, for truncation 1 is none."""
    sheets = [cv2.imread(str(gallery / f"{name}.png")) for name in ("samples", "truncation")]
    side, gap = 96, 96 // 16 * GAP
    top = gap + LABEL_HEIGHT
    first, last = (sheets[0][top : top + side], sheets[1][-gap - side : -gap])
    assert np.abs(first.astype(int) - last).max() <= 1  # the same to rounding: batches of another size


def test_shards_without_depth_show_their_images(tmp_path, tiny_generator, training_shards):
    meta = training_shards.meta | {"estimator": "none"}
    writer = ShardWriter(tmp_path / "bare", training_shards.schema, "shards", meta)
    rows = [row | {"depth": b""} for row in training_shards.read(0).to_pylist()]
    writer.write(0, pa.Table.from_pylist(rows, training_shards.schema))
    writer.finish()
    bare = ShardFolder(tmp_path / "bare")
    assert real_images(bare, 4)[1] is None
    draw_gallery(tiny_generator, 16, bare, SETTINGS, tmp_path / "renders")
    factor = 96 // 16
    assert cv2.imread(str(tmp_path / "renders" / "real.png")).shape[1] == factor * (2 * (16 + GAP) + GAP)


def test_real_images(training_shards):
    pictures, depth = real_images(training_shards, 4)
    assert pictures.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(depth[0, 0], np.linspace(0, 1, 16), atol=1e-4)
