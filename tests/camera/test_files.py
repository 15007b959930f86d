"""Cameras that people write down arrive as they were written; what cannot be is named in one sentence."""

from __future__ import annotations

import json
import math

import pytest
import torch

from threedgp.camera.files import read_cameras
from threedgp.camera.geometry import CAMERA_FIELDS, FOV, PITCH, YAW
from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig
from threedgp.runtime.errors import UserError

CONFIG = CameraConfig()
ROWS = [{"yaw": 0.4, "fov": 20}, {"yaw": -0.4, "fov": 30.5}]


def test_csv_and_json_say_the_same(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffyaw, fov\n0.4, 20\n-0.4, 30.5\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.json").write_text(json.dumps({"cameras": ROWS}))
    expected = frontal_cameras(CONFIG, 2)
    expected[:, YAW], expected[:, FOV] = torch.tensor([0.4, -0.4]), torch.tensor([20, 30.5])
    for name in ("a.csv", "a.json", "b.json"):
        torch.testing.assert_close(read_cameras(tmp_path / name, CONFIG), expected, rtol=0, atol=0)


def test_every_column_is_read(tmp_path):
    values = [0.1, 1.2, 0.05, 33.0, 1.5, -0.4, 2.0, 0.2]
    (tmp_path / "a.csv").write_text(",".join(CAMERA_FIELDS) + "\n" + ",".join(map(str, values)) + "\n")
    torch.testing.assert_close(read_cameras(tmp_path / "a.csv", CONFIG)[0], torch.tensor(values))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[", r"a\.json: not valid JSON"),
        ("a.json", "[" * 100_000, r"a\.json: not valid JSON"),
        ("a.json", "[1, 2]", "expected a list of cameras"),
        ("a.json", '{"yaw": 1}', "expected a list of cameras"),
        ("a.json", "[]", "contains no camera"),
        ("a.csv", "yaw,pitch\n", "contains no camera"),
        ("a.csv", "", "contains no camera"),
        ("a.csv", "yaw,pitch\n0.1,1.5\n0.1\n", "camera 2: expected 2 values"),
        ("a.csv", "yaw,pitch\n0.1,1.5,3\n", "camera 1: expected 2 values"),
        ("a.csv", "yaw,fov,yaw\n0.1,20,0.2\n", "the header names column 'yaw' twice; remove one of them"),
        ("a.csv", "yaw,pich\n0.1,1.5\n", "camera 1: unknown column 'pich'; choose among yaw, pitch, roll"),
        ("a.csv", "yaw\nleft\n", "camera 1: yaw is 'left', which is not a finite number"),
        ("a.csv", "yaw\nnan\n", "yaw is 'nan', which is not a finite number"),
        ("a.json", '[{"yaw": true}]', "yaw is True, which is not a finite number"),
        ("a.json", '[{"yaw": null}]', "yaw is None, which is not a finite number"),
        ("a.csv", "pitch\n0\n", "pitch 0 does not lie between 0 and 3.142"),
        ("a.csv", "fov\n180\n", "fov 180 does not lie between 0 and 180 degrees"),
        ("a.csv", "radius\n-1\n", "radius -1 does not lie between"),
        ("a.csv", "look_at_radius\n-1\n", "look_at_radius -1 is negative"),
        ("a.csv", f"yaw,look_at_yaw,look_at_radius\n0,0,{CONFIG.radius}\n", "coincides with its look-at point"),
    ],
)
def test_bad_files_are_told(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as told:
        read_cameras(tmp_path / name, CONFIG)
    assert "\n" not in str(told.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"cameras cannot be read \(No such file"):
        read_cameras(tmp_path / "a.csv", CONFIG)
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_cameras(tmp_path, CONFIG)
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a text file"):
        read_cameras(tmp_path / "a.json", CONFIG)


def test_pitch_bounds_are_those_of_the_poles(tmp_path):
    (tmp_path / "a.csv").write_text(f"pitch\n{math.pi - 0.01}\n")
    assert read_cameras(tmp_path / "a.csv", CONFIG)[0, PITCH] == pytest.approx(math.pi - 0.01)
