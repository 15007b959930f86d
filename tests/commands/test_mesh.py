"""``threedgp mesh`` writes closed meshes that other programs read."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh


def test_formats_read_back_closed_and_colored(threedgp, model_folder, tmp_path):
    options = ("--seeds", "0-1", "--classes", "1", "--format", "glb, PLY,obj", "--resolution", 16)
    outcome = threedgp("mesh", model_folder, *options, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "now holds 2 scenes as glb, ply, obj." in outcome.out
    names = {f"seed000{seed}_class001.{suffix}" for seed in (0, 1) for suffix in ("glb", "ply", "obj")}
    assert {file.name for file in tmp_path.iterdir()} == names | {"made.jsonl"}
    meshes = [trimesh.load(tmp_path / f"seed0001_class001.{suffix}", force="mesh") for suffix in ("glb", "ply", "obj")]
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "stl"), "--format: there is no format 'stl'; choose among glb, ply, obj."),
        (("--level", "-1"), "--level: -1.0 is no density"),
        (("--level", "nan"), "--level: nan is no density"),
        (("--truncation", "nan"), "--truncation: nan does not lie between 0 and 1"),
        (("--truncation", "1.5"), "--truncation: 1.5 does not lie between 0 and 1"),
        (("--level", "1e9"), "nothing in the scene is as dense as level 1e+09"),
    ],
)
def test_options_that_cannot_be(refused, model_folder, tmp_path, options, message):
    assert message in refused("mesh", model_folder, *options, "--resolution", 12, "--out", tmp_path)
