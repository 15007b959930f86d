"""`threedgp invert` with the demonstration model and a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from threedgp.commands.options import DEMO
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene
from threedgp.models import inversion
from threedgp.models.loading import load_model
from threedgp.models.sampler import to_uint8
from threedgp.visual import meshes

FEW = ("--steps", 10, "--tune", 10, "--frames", 4, "--mesh-resolution", 24)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A toy animal with its depth beside it."""
    picture = render_picture(draw_scene(0, 5), 40)
    Image.fromarray(picture.rgb).save(tmp_path / "photo.png")
    np.save(tmp_path / "photo_depth.npy", picture.depth)
    return tmp_path / "photo.png"


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "CANDIDATES", 32)


def test_writes_images_video_mesh_and_quality(photo, tmp_path, threedgp) -> None:
    out = tmp_path / "out"
    options = (*FEW, "--class", "camel", "--depth", photo.with_name("photo_depth.npy"), "--out", out)
    result = threedgp("invert", "demo", photo, *options)
    assert result.code == 0, result.err
    about = json.loads((out / "photo.json").read_text())
    quality = about["quality"]
    assert list(quality) == ["start", "found", "tuned"]
    assert quality["tuned"]["psnr"] > quality["start"]["psnr"]
    assert all(0 <= one["depth_error"] <= 1 and -1 <= one["feature_similarity"] <= 1 for one in quality.values())
    assert len(about["w"]) == 64 and len(about["camera"]) == 8

    # Style and camera in the file give the stated similarity.
    model = load_model(DEMO, torch.device("cpu"))
    with torch.inference_mode():
        content = model.make_content(torch.tensor([about["w"]]))
        made = to_uint8(model.render(content, torch.tensor([about["camera"]]), 32).rgb)[0].permute(1, 2, 0).numpy()
    source = np.asarray(Image.open(photo).resize((32, 32), Image.Resampling.LANCZOS), float)
    psnr = 10 * np.log10(255**2 / np.square(made - source).mean())
    assert psnr == pytest.approx(quality["found"]["psnr"], abs=0.01)  # one level of rounding in a few pixels
    assert Image.open(out / "photo.png").width > 4 * 128

    with av.open(str(out / "photo_wiggle.mp4")) as video:
        assert len(list(video.decode(video=0))) == 4
    assert len(trimesh.load(out / "photo.glb", force="mesh").faces) > 0
    assert "4 files written" in result.out
    assert "0 files written, 4 there already" in threedgp("invert", "demo", photo, *options).out


def test_a_scene_without_surface_has_everything_else(photo, tmp_path, refused, monkeypatch) -> None:
    def empty(*_: object) -> None:
        raise meshes.NoSurface("the scene is empty, so it has no surface.")

    monkeypatch.setattr(meshes, "scene_mesh", empty)
    told = refused("invert", "demo", photo, *FEW, "--tune", 0, "--out", tmp_path / "out")
    assert told == "photo.glb: the scene is empty, so it has no surface."
    assert {"photo.png", "photo_wiggle.mp4", "photo.json"} < {file.name for file in (tmp_path / "out").iterdir()}


def test_the_photograph_is_not_replaced(photo, tmp_path, refused, monkeypatch) -> None:
    before = photo.read_bytes()
    told = refused("invert", "demo", photo, *FEW, "--out", tmp_path)
    assert told == f"--out: a result would replace {photo}; choose another folder."
    monkeypatch.chdir(tmp_path)
    assert "would replace photo.png" in refused("invert", "demo", "photo.png", *FEW, "--out", ".")
    assert photo.read_bytes() == before and not (tmp_path / "made.jsonl").exists()


def test_refusals(photo, tmp_path, refused) -> None:
    assert "there is no class 'cow'" in refused("invert", "demo", photo, "--class", "cow", "--out", tmp_path / "out")
    assert "there is no class 99" in refused("invert", "demo", photo, "--class", "99", "--out", tmp_path / "out")
    message = refused("invert", "demo", photo, "--class", "dog,cat", "--out", tmp_path / "out")
    assert message.startswith("--class: 'dog,cat' is more than one class")
    message = refused("invert", "demo", tmp_path / "missing.png", "--out", tmp_path)
    assert "missing.png: cannot be used (No such file or directory)" in message
    np.save(tmp_path / "photo_depth.npy", np.zeros((3, 40)))
    message = refused("invert", "demo", photo, "--depth", tmp_path / "photo_depth.npy", "--out", tmp_path / "out")
    assert "photo_depth.npy: is not a depth map" in message
