"""``threedgp fly`` renders the requested scenes along the requested cameras."""

from __future__ import annotations

import tracemalloc

import av
import numpy as np
import pytest

from films import decode
from threedgp.camera.trajectories import front_circle, line, points
from threedgp.commands import fly
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.progress import progress
from threedgp.visual.grids import depth_colors, normal_colors
from threedgp.visual.styles import interpolate_styles, scene_styles
from threedgp.visual.views import Views, posterior_cameras, render_views

SIZE = 32
FINE = ("--crf", 1, "--size", SIZE)
TOLERANCE = 0.7
"""Mean difference of gray pixels at the best quality, which rounds three times. Other scenes of the tiny model differ
by almost twice as much."""


def rendered(generator, styles, cameras):
    with progress("test", 1) as bar:
        return render_views(generator, styles, cameras, SIZE, bar)


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean difference of the gray images, which a video keeps at full resolution."""
    return float(np.abs(found.mean(-1) - wanted.mean(-1)).mean())


def test_front_circle_is_the_default(threedgp, model_folder, tiny_generator, tmp_path):
    outcome = threedgp("fly", model_folder, "--seeds", "0,5", "--frames", 5, "--depth", *FINE, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "fly: 10/10 frames" in outcome.out and f"{tmp_path}: 2 videos; 2 files written." in outcome.out
    scenes = sample_scenes(tiny_generator, 1, 0, start=5)
    name = f"seed0005_class{int(scenes.labels):03d}_front_circle.mp4"
    found = decode(tmp_path / name)
    assert found.shape == (5, SIZE, 2 * SIZE, 3)
    path = front_circle(tiny_generator.camera_config, 5, posterior_cameras(tiny_generator, scenes)[0])
    seen = rendered(tiny_generator, scene_styles(tiny_generator, scenes), path[None])
    assert difference(found[:, :, :SIZE], seen.images[0]) < TOLERANCE
    assert difference(found[:, :, SIZE:], depth_colors(seen.depth)[0]) < 2 * TOLERANCE  # steep colors
    other = decode(next(tmp_path.glob("seed0000*.mp4")))
    assert difference(other[:, :, :SIZE], seen.images[0]) > 1.9 * TOLERANCE


def test_given_cameras_one_a_frame_and_smooth(threedgp, model_folder, tiny_generator, tmp_path):
    (tmp_path / "cameras.csv").write_text("yaw,fov\n0.5,20\n0,30\n-0.5,20\n")
    options = ("--seeds", 0, "--classes", 1, "--cameras", tmp_path / "cameras.csv", *FINE, "--normals")
    for number, extra in enumerate([(), ("--frames", 5)]):
        outcome = threedgp("fly", model_folder, *options, *extra, "--out", tmp_path / str(number))
        assert outcome.code == 0, outcome.err
    exact, smooth = (decode(tmp_path / str(number) / "seed0000_class001_cameras.mp4") for number in (0, 1))
    assert (len(exact), len(smooth)) == (3, 5)
    assert difference(exact, smooth[::2]) < TOLERANCE


def test_truncation_normals_and_speed(threedgp, model_folder, tiny_generator, tmp_path):
    options = ("--seeds", 2, "--classes", 1, "--path", "line", "--frames", 3, "--truncation", 0.3, "--towards", "class")
    outcome = threedgp("fly", model_folder, *options, "--normals", "--fps", 10, *FINE, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    film = tmp_path / "seed0002_class001_truncation0.3_line.mp4"
    scenes = sample_scenes(tiny_generator, 1, 0, start=2, labels=[1])
    path = line(tiny_generator.camera_config, 3, posterior_cameras(tiny_generator, scenes)[0])
    seen = rendered(tiny_generator, scene_styles(tiny_generator, scenes, 0.3, "class"), path[None])
    found = decode(film)
    assert difference(found[:, :, :SIZE], seen.images[0]) < 1.5 * TOLERANCE  # noise beside it takes the bits
    plain = rendered(tiny_generator, scene_styles(tiny_generator, scenes), path[None])
    assert difference(found[:, :, :SIZE], plain.images[0]) > 4 * TOLERANCE
    assert difference(found[:, :, SIZE:], normal_colors(seen.normals)[0]) < 2 * TOLERANCE
    assert difference(found[:, :, SIZE:], seen.images[0]) > 4 * TOLERANCE
    with av.open(str(film)) as opened:
        assert opened.streams.video[0].average_rate == 10


def test_interpolation_passes_all_scenes(threedgp, model_folder, tiny_generator, tmp_path):
    options = ("--seeds", "0-2", "--classes", 0, "--interpolate", "--frames", 6, *FINE)
    outcome = threedgp("fly", model_folder, *options, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    found = decode(tmp_path / "seed0000_class000_to_seed0002_class000_interpolation.mp4")
    scenes = sample_scenes(tiny_generator, 3, 0, labels=[0, 0, 0])
    styles = interpolate_styles(scene_styles(tiny_generator, scenes), 6)
    path = points(posterior_cameras(tiny_generator, scenes), 6, closed=True)
    seen = rendered(tiny_generator, styles, path[:, None])
    assert difference(found, seen.images[:, 0]) < TOLERANCE
    assert difference(found[0], seen.images[2, 0]) > 1.9 * TOLERANCE


def test_depth_and_normals_of_long_videos_fit_in_memory():
    """Seven bytes per pixel of all frames are in memory already."""
    depth = np.linspace(0.8, 1.2, 32 * SIZE**2, dtype=np.float32).reshape(1, 32, SIZE, SIZE)
    views = Views(np.zeros((*depth.shape, 3), np.uint8), depth, np.full((1, 32), 20, np.float32))
    tracemalloc.start()
    frames = fly._frames(views, depth=True, normals=True)
    assert sum(frame.shape == (SIZE, 3 * SIZE, 3) for frame in frames) == 32
    assert tracemalloc.get_traced_memory()[1] < 20 * depth.size
    tracemalloc.stop()


def test_run_again_makes_nothing_and_other_settings_anew(threedgp, model_folder, tmp_path):
    command = ("fly", model_folder, "--seeds", 0, "--frames", 3, "--size", 16, "--out", tmp_path)
    threedgp(*command)
    (film,) = tmp_path.glob("*.mp4")
    content, made = film.read_bytes(), film.stat().st_mtime_ns
    outcome = threedgp(*command)
    assert "fly: 3/3 frames" in outcome.out and "1 video; 0 files written, 1 there already." in outcome.out
    assert film.stat().st_mtime_ns == made
    told = threedgp(*command, "--crf", 40).out
    assert "1 file written, 1 of the written ones replaced others, made with other settings." in told
    assert film.read_bytes() != content
    threedgp(*command)
    assert film.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--path", "line", "--cameras", "c.csv"), "--path and --cameras: "),
        (("--cameras", "c.csv"), "c.csv: the cameras cannot be read (No such file or directory)"),
        (("--seeds", "0-3", "--interpolate", "--frames", 3), "--frames: 4 scenes need"),
        (("--frames", 100_000, "--size", 256), "--frames: 100,000 frames of 256 x 256 pixels"),
    ],
)
def test_options_that_cannot_be(refused, model_folder, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("fly", model_folder, *options)
    assert not list(tmp_path.iterdir())
