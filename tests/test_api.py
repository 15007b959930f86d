"""The Python interface: scenes as arrays, the same as those of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import threedgp
from threedgp.runtime.errors import UserError


@pytest.fixture(scope="module")
def model() -> threedgp.Model:
    return threedgp.load("demo", "cpu")


def test_import_is_fast_and_loads_no_pytorch(root: Path) -> None:
    code = (
        "import sys, threedgp; heavy = {'torch', 'numpy', 'scipy', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy; print(threedgp.__version__); assert callable(threedgp.load)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr, result.stdout) == (0, "", f"{threedgp.__version__}\n")
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = threedgp.lode


def test_images_are_those_of_the_command(model: threedgp.Model, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scenes = model.sample(seeds=[3, 5], classes=["Dog", 4], truncation=0.7, towards="class")
    images = scenes.render(size=24)
    assert images.dtype == np.uint8 and images.shape == (4, 24, 24, 3)
    names = ["seed0003_class000", "seed0005_class000", "seed0003_class004", "seed0005_class004"]
    assert scenes.names == [f"{name}_truncation0.7" for name in names]
    command = ["generate", "demo", "--seeds", "3,5", "--classes", "dog,4", "--truncation", "0.7", "--towards", "class"]
    command += ["--size", "24", "--device", "cpu", "--out", str(tmp_path)]
    assert request.getfixturevalue("threedgp")(*command).code == 0
    for name, image in zip(scenes.names, images, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"{name}.png"))[..., ::-1], image)


def test_depth_views_and_meshes(model: threedgp.Model, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = model.sample(seeds=1, classes="giraffe")
    depth = scenes.depth(size=16)
    assert depth.dtype == np.float32 and depth.shape == (1, 16, 16)
    assert 0.75 <= depth.min() < depth.max() <= 1.25
    views = scenes.views("orbit", 4, 16)
    assert views.images.shape == (1, 4, 16, 16, 3) and views.normals.shape == (1, 4, 16, 16, 3)
    np.testing.assert_array_equal(views.images[:, 0], scenes.render(16))
    np.testing.assert_array_equal(scenes.views(cameras=scenes.cameras, size=16).depth[:, 0], depth)
    (mesh,) = scenes.meshes(24)
    assert mesh.is_watertight and len(mesh.faces) > 100
    assert capsys.readouterr() == ("", ""), "no progress unless it is asked for"
    scenes.render(8, progress=True)
    assert "render: 1/1 scenes" in capsys.readouterr().out


def test_a_set_of_scenes_is_a_sequence(model: threedgp.Model) -> None:
    scenes = model.sample(seeds=range(4))
    assert len(scenes) == 4 and [one.names for one in scenes] == [[name] for name in scenes.names]
    np.testing.assert_array_equal(scenes[1:3].render(8), scenes.render(8)[1:3])
    np.testing.assert_array_equal(scenes[-1].render(8), scenes.render(8)[3:])
    with pytest.raises(UserError, match="there are no scenes"):
        scenes[:0].render(8)
    assert scenes.labels == [scene.label for scene in scenes.scenes] and None not in scenes.labels


@pytest.mark.parametrize("form", [str, Path])
def test_strings_and_paths(form: type, tmp_path: Path, tiny_folder: Path) -> None:
    model = threedgp.load(form(tiny_folder), "cpu")
    assert (model.resolution, model.class_names) == (16, ["box", "ball"])


@pytest.fixture
def tiny_folder(tmp_path: Path, tiny_generator) -> Path:
    from threedgp.models.saving import write_model

    write_model(tmp_path / "tiny", tiny_generator, resolution=16, class_names=["box", "ball"], seed=0, kimg=1.5)
    return tmp_path / "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["cone"]}, r"classes: there is no class 'cone'; the model has 0 to 9 \(dog, cat"),
        ({"classes": [10]}, "classes: there is no class 10"),
        ({"classes": [-1]}, "classes: there is no class -1"),
        ({"classes": []}, "classes: expected at least one"),
        ({"seeds": [-1]}, "seeds: expected integers"),
        ({"seeds": []}, "seeds: expected integers"),
        ({"truncation": 2}, "truncation: expected a number from 0 to 1, got 2"),
        ({"truncation": float("nan")}, "truncation: expected a number from 0 to 1, got nan"),
        ({"towards": "none"}, "towards: expected 'all' or 'class', got 'none'"),
    ],
)
def test_wrong_arguments_are_named(model: threedgp.Model, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.sample(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "line", "cameras": np.zeros((2, 8))}, "path, cameras: both set the cameras"),
        ({"path": "line", "frames": 0}, "frames: expected 1, or a path and at least 1, got 0"),
        ({"frames": 5}, "frames: expected 1, or a path and at least 1, got 5"),
        ({"cameras": np.zeros((2, 7))}, r"cameras: expected \[F, 8\], got \[2, 7\]"),
        ({"cameras": np.zeros(8)}, r"cameras: expected \[F, 8\], got \[8\]"),
        ({"cameras": np.zeros((0, 8))}, r"cameras: expected \[F, 8\], got \[0, 8\]"),
        ({"cameras": np.full((1, 8), np.nan)}, "cameras: expected finite numbers"),
    ],
)
def test_wrong_cameras_are_named(model: threedgp.Model, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.sample(0).views(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0}, "level: expected a density above 0, got 0"),
        ({"level": float("nan")}, "level: expected a density above 0, got nan"),
        ({"resolution": 1}, "resolution: a grid has at least 2 points a side, got 1"),
    ],
)
def test_wrong_meshes_are_named(model: threedgp.Model, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.sample(0).meshes(**arguments)


def test_numbers_of_numpy_are_numbers(model: threedgp.Model) -> None:
    assert model.sample(np.int64(3), np.int64(2)).names == ["seed0003_class002"]
    assert model.sample(np.arange(2), np.array([1])).names == ["seed0000_class001", "seed0001_class001"]
    with pytest.raises(TypeError):
        model.sample([1.5])


def test_a_model_is_described_in_one_line(model: threedgp.Model) -> None:
    assert repr(model) == f"Model({str(model.folder)!r})"


def test_wrong_models_are_named(model: threedgp.Model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        threedgp.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"hf://x: not a model of the hub; write hf://owner/name"):
        threedgp.load("hf://x")
    with pytest.raises(UserError, match=r"it has to end in /model\.safetensors"):
        threedgp.load("https://127.0.0.1/model.zip")
    with pytest.raises(UserError, match="device: expected auto, cpu, cuda, got 'cuda:1'"):
        threedgp.load("demo", "cuda:1")
    with pytest.raises(UserError, match="path: there is no path 'spiral'"):
        model.sample(0).views("spiral", 3)
    with pytest.raises(UserError, match="size: an image has at least 2 pixels"):
        model.sample(0).render(1)
