"""``threedgp mesh`` writes closed meshes that other programs read."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import trimesh

from threedgp.camera.trajectories import front_circle
from threedgp.models.loading import load_model
from threedgp.models.sampler import sample_scenes
from threedgp.models.saving import write_model
from threedgp.runtime.progress import Progress
from threedgp.visual import meshes
from threedgp.visual.meshes import CAMERAS, scene_mesh
from threedgp.visual.styles import scene_content
from threedgp.visual.views import posterior_cameras


def test_formats_read_back_closed_and_colored(threedgp, model_folder, tmp_path):
    options = ("--seeds", "0-1", "--classes", "1", "--format", "glb, PLY,obj", "--resolution", 16)
    outcome = threedgp("mesh", model_folder, *options, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert f"{tmp_path}: 2 scenes as glb, ply, obj; 6 files written." in outcome.out
    names = {f"seed000{seed}_class001.{suffix}" for seed in (0, 1) for suffix in ("glb", "ply", "obj")}
    assert {file.name for file in tmp_path.iterdir()} == names | {"made.jsonl"}
    files = [tmp_path / f"seed0001_class001.{suffix}" for suffix in ("glb", "ply", "obj")]
    meshes = [trimesh.load(file, force="mesh", skip_materials=True) for file in files]
    for mesh in meshes:
        assert mesh.is_watertight
        assert np.abs(mesh.bounds).max() < 0.51
        assert len(np.unique(mesh.visual.vertex_colors[:, :3], axis=0)) > 10
        assert mesh.volume == pytest.approx(meshes[0].volume, rel=1e-3)


def test_run_again_makes_what_is_missing_only(threedgp, model_folder, tmp_path):
    command = ("mesh", model_folder, "--resolution", 12, "--out", tmp_path)
    threedgp(*command, "--format", "glb")
    (first,) = tmp_path.glob("*.glb")
    made = first.stat().st_mtime_ns
    threedgp(*command, "--format", "glb,ply")
    assert first.stat().st_mtime_ns == made and len(list(tmp_path.glob("*.ply"))) == 1
    threedgp(*command, "--format", "glb", "--whole-cube")
    assert first.stat().st_mtime_ns > made


def test_options_are_those_of_the_mesh(threedgp, model_folder, tmp_path):
    generator = load_model(model_folder)  # `tiny_generator` lies otherwise in memory, and its last bits differ
    scenes = sample_scenes(generator, 1, 0, start=1, labels=[1])
    planes = scene_content(generator, scenes, 0.5, "class")
    around = front_circle(generator.camera_config, CAMERAS, posterior_cameras(generator, scenes)[0])
    options = ("--seeds", 1, "--classes", 1, "--resolution", 16, "--format", "ply", "--truncation", 0.5)
    ways = ({}, {"whole_cube": True}, {"level": 0.6})
    for number, (way, extra) in enumerate(zip(ways, ((), ("--whole-cube",), ("--level", 0.6)), strict=True)):
        out = tmp_path / str(number)
        outcome = threedgp("mesh", model_folder, *options, "--towards", "class", *extra, "--out", out)
        assert outcome.code == 0, outcome.err
        found = trimesh.load(out / "seed0001_class001_truncation0.5.ply", process=False)
        wanted = scene_mesh(generator, planes, around, 16, Progress(), **way)
        np.testing.assert_allclose(found.vertices, wanted.vertices, atol=1e-4)
        colors = [mesh.visual.vertex_colors.astype(int) for mesh in (found, wanted)]
        assert np.abs(colors[0] - colors[1]).max() <= 1


def test_a_scene_without_surface_does_not_stop_the_others(refused, threedgp, model_folder, tmp_path, monkeypatch):
    made = meshes.scene_mesh
    calls = []

    def second_is_empty(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise meshes.NoSurface("the scene is empty, so it has no surface.")
        return made(*arguments, **options)

    monkeypatch.setattr(meshes, "scene_mesh", second_is_empty)
    command = ("mesh", model_folder, "--seeds", "0-2", "--classes", 0, "--resolution", 12, "--out", tmp_path)
    told = refused(*command)
    assert told == "seed0001_class000: the scene is empty, so it has no surface. (1 of 3 scenes have none.)"
    assert {file.name for file in tmp_path.glob("*.glb")} == {f"seed000{seed}_class000.glb" for seed in (0, 2)}
    assert threedgp(*command).code == 0 and len(calls) == 4  # only what is missing
    assert len(list(tmp_path.glob("*.glb"))) == 3


def test_an_empty_model_says_so(refused, tiny_generator, tmp_path):
    generator = copy.deepcopy(tiny_generator)
    generator.decoder.output.bias[3] = -1e6
    write_model(tmp_path / "empty", generator, resolution=8, class_names=["a", "b"], seed=0, kimg=0.0)
    told = refused("mesh", tmp_path / "empty", "--seeds", 0, "--classes", 0, "--resolution", 8, "--out", tmp_path)
    assert told == "seed0000_class000: the scene is empty, so it has no surface."
    assert not list(tmp_path.glob("*.glb"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "stl"), "--format: unknown format 'stl'; choose from glb, ply, obj."),
        (("--level", "-1"), "--level: expected a density above 0, got -1.0"),
        (("--level", "nan"), "--level: expected a density above 0, got nan"),
        (("--truncation", "nan"), "--truncation: expected a number from 0 to 1, got nan"),
        (("--truncation", "1.5"), "--truncation: expected a number from 0 to 1, got 1.5"),
        (("--level", "1e9"), "nothing in the scene is as dense as level 1e+09"),
        (("--level", "1e300"), "nothing in the scene is as dense as level 1e+300"),
    ],
)
def test_options_that_cannot_be(refused, model_folder, tmp_path, options, message):
    assert message in refused("mesh", model_folder, *options, "--resolution", 12, "--out", tmp_path)
