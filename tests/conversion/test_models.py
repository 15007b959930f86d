"""Published snapshots become model folders that render what the published network renders."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from command_line import Command
from golden_arrays import assert_matches, load
from threedgp.camera.geometry import Patches
from threedgp.cli import app
from threedgp.config import ModelConfig
from threedgp.conversion import models
from threedgp.conversion.models import convert_snapshot, convert_trusted
from threedgp.models.discriminator import Discriminator
from threedgp.models.generator import Scenes
from threedgp.models.loading import load_model
from threedgp.models.sampler import sample_scenes
from threedgp.render import RayRandomness
from threedgp.runtime.errors import UserError
from threedgp.training.transfer import start_from

CAMERA: dict[str, Any] = {
    "ray": {"start": 0.75, "end": 1.25},
    "fov": {"dist": "uniform", "min": 10.0, "max": 45.0},
    "origin": {
        "radius": {"dist": "normal", "mean": 1.0, "std": 0.0},
        "angles": {
            "dist": "uniform",
            "yaw": {"min": -1.57, "max": 1.57, "mean": 0.0, "std": 0.4},
            "pitch": {"min": 0.785398163, "max": 2.35619449, "mean": 1.57, "std": 0.2},
        },
    },
    "look_at": {"radius": {"dist": "uniform", "min": 0.0, "max": 0.2}, "angles": {"dist": "spherical_uniform"}},
    "cube_scale": 0.5,
}
SETTINGS: dict[str, Any] = {
    "num_ray_steps": 8,
    "use_inf_depth": True,
    "clamp_mode": "softplus",
    "camera": CAMERA,
    "dataset": {"resolution": 64, "last_back": False, "white_back": False},
    "depth_adaptor": {"near_plane_offset_max_fraction": 0.25},
    "camera_adaptor": {"lr_multiplier": 0.1, "residual": False},
}


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Tensor]:
    return load(golden, "networks_conditional.npz")


def _weights(arrays: dict[str, Tensor], without: str = "never", network: str = "G") -> dict[str, Tensor]:
    prefix = f"state/{network}."
    names = {name.removeprefix(prefix): name for name in arrays if name.startswith(prefix)}
    return {short: arrays[name] for short, name in names.items() if without not in short}


def _snapshot(path: Path, published: Any, weights: dict[str, Tensor], settings: Any, **content: Any) -> Path:
    network = published.nested("Generator", weights, cfg=settings, img_resolution=64)
    content = content or {"stats": {"cur_nimg": 25_000_000}}
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": network, **content}))
    return path


def _changed(key: str, value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    *path, last = key.split(".")
    place = settings
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value
    return settings


def test_converted_model_renders_what_the_published_one_does(
    arrays: dict[str, Tensor], tmp_path: Path, published: Any
) -> None:
    easy = published.easy_dict(SETTINGS)
    path = _snapshot(tmp_path / "published.pkl", published, _weights(arrays), easy)
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "model")])
    assert done.exit_code == 0 and "now holds the generator" in done.output
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["resolution"], config["num_classes"], config["kimg"]) == (64, 5, 25_000)

    generator = load_model(tmp_path / "model")
    randomness = RayRandomness(arrays["u_coarse"], arrays["u_fine"])
    scenes = Scenes(arrays["z"], arrays["c"].argmax(dim=1), arrays["prior"])
    out = generator(scenes, Patches(arrays["patch_scales"], arrays["patch_offsets"]), 16, randomness)
    assert_matches(out.rgb, arrays["rgb"])
    assert_matches(out.cameras, arrays["posterior"])
    assert_matches(out.candidates, arrays["depth_candidates"])


def test_converted_discriminator_judges_as_the_published_one_does(
    arrays: dict[str, Tensor], tmp_path: Path, published: Any
) -> None:
    """And training starts from it: `start_from` takes all of its weights."""
    judge = published.nested("Discriminator", _weights(arrays, network="D"), cfg={"patch": {"resolution": 16}})
    content = {"stats": {"cur_nimg": 1000}, "D": judge}
    path = _snapshot(tmp_path / "published.pkl", published, _weights(arrays), SETTINGS, **content)
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "model")])
    assert done.exit_code == 0 and "now holds the generator and the discriminator of" in done.output

    settings = json.loads((tmp_path / "model" / "config.json").read_text())["model"]["discriminator"]
    assert {key: settings[key] for key in ("patch_resolution", "channel_base", "channel_max")} == {
        "patch_resolution": 16, "channel_base": 1024, "channel_max": 32,
    }  # fmt: skip
    discriminator = Discriminator(ModelConfig.model_validate({"discriminator": settings}), 64, 5, 12)
    generator = copy.deepcopy(load_model(tmp_path / "model"))
    assert start_from(tmp_path / "model", generator, discriminator, ["a", "b", "c", "d", "e"]) == []
    patch = torch.cat([arrays["patch_scales"][:, :1], arrays["patch_offsets"]], dim=1)
    images = torch.cat([arrays["rgb"], arrays["depth_candidates"][:, -1]], dim=1)
    logits, features = discriminator(images, patch, arrays["c"].argmax(dim=1))
    assert_matches(logits, arrays["logits"])
    assert_matches(features, arrays["features"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"b4.extra.weight": torch.zeros(1)},
            r"'b4\.extra\.weight' is not a parameter of a published",
        ),
        ({"b8.conv0.bias": torch.zeros(20)}, r"are not min\(cbase / resolution, cmax\)"),
        ({"b4.fc.bias": torch.zeros(3)}, r"its parameters are not those of ours \(RuntimeError"),
        ({"head_mapping.embed.weight": torch.zeros(32, 10)}, r"its parameters are not those of ours"),
    ],
)
def test_an_odd_discriminator_is_left_out(
    arrays: dict[str, Tensor], tmp_path: Path, published: Any, change: dict[str, Tensor], words: str
) -> None:
    judge = published.nested("Discriminator", _weights(arrays, network="D") | change, cfg={})
    content = {"stats": {"cur_nimg": 1000}, "D": judge}
    path = _snapshot(tmp_path / "odd.pkl", published, _weights(arrays), SETTINGS, **content)
    assert re.search(words, convert_trusted(path, tmp_path / "model"))
    assert not (tmp_path / "model" / "discriminator.safetensors").exists()
    load_model(tmp_path / "model")


def test_names_in_a_snapshot_do_not_control_the_terminal(threedgp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "convert_snapshot", lambda snapshot, folder: "'\x1b[2J' is not a parameter")
    code, out, _ = threedgp("convert", "a.pkl", "model")
    assert code == 0 and "The discriminator was left out: '\\x1b[2J' is not a parameter." in out


def test_settings_in_omegaconf_nodes_are_read(arrays: dict[str, Tensor], tmp_path: Path, published: Any) -> None:
    def wrapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {"_metadata": {}, "_parent": None, "_content": {k: wrapped(v) for k, v in value.items()}}
        return {"_metadata": {}, "_val": value}

    settings = _changed("dataset.camera", CAMERA) | {"camera": "${camera}"}
    convert_trusted(_snapshot(tmp_path / "a.pkl", published, _weights(arrays), wrapped(settings)), tmp_path / "model")
    generator = load_model(tmp_path / "model")
    assert generator.camera_config.yaw == (-1.57, 1.57)
    assert generator.model_config.generator.cube_half_width == 0.5


def test_epigraf_has_neither_camera_generator_nor_depth(
    arrays: dict[str, Tensor], tmp_path: Path, published: Any
) -> None:
    weights = _weights(arrays, "_adaptor")
    settings = {
        "num_ray_steps": 6,
        "dataset": {
            "cube_scale": 0.2, "white_back": False, "last_back": True,
            "sampling": {
                "fov": 12.0, "ray_start": 0.88, "ray_end": 1.12, "radius": 1.0, "dist": "gaussian",
                "horizontal_mean": 0.0, "horizontal_stddev": 0.3, "vertical_mean": math.pi / 2,
                "vertical_stddev": 0.155,
            },
        },
    }  # fmt: skip
    convert_trusted(_snapshot(tmp_path / "epigraf.pkl", published, weights, settings), tmp_path / "model")
    generator = load_model(tmp_path / "model")
    assert generator.camera_generator is None and generator.depth_adaptor is None
    settings = generator.model_config.generator
    assert (settings.coarse_samples, settings.cube_half_width, settings.last_back) == (6, 0.2, True)
    scenes = sample_scenes(generator, 2, 0)
    assert torch.equal(generator.posterior(scenes.prior_cameras, scenes.z), scenes.prior_cameras)
    cameras = sample_scenes(generator, 4000, 0).prior_cameras
    # Standard errors of mean and deviation of 4,000 draws are below 0.005.
    assert cameras[:, 0].std().item() == pytest.approx(0.3, abs=0.02)
    assert cameras[:, 1].mean().item() == pytest.approx(math.pi / 2, abs=0.01)
    assert cameras[:, 1].std().item() == pytest.approx(0.155, abs=0.01)
    assert (cameras[:, 3] == 12).all() and (cameras[:, 7] == 0).all()
    with torch.no_grad():
        planes = generator.make_content(generator.map(scenes.z, scenes.labels))
    assert torch.isfinite(generator.render(planes, scenes.prior_cameras, 8).rgb).all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("clamp_mode", "relu", r"clamp_mode is 'relu', and our generator only has 'softplus'"),
        ("dataset.white_back", True, r"dataset\.white_back is True"),
        ("bg_model.type", "sphere", r"bg_model\.type is 'sphere'"),
        ("camera_adaptor.adjust.radius", True, r"adjust\.radius is True"),
        ("camera.origin.radius.std", 0.1, "changes its distance"),
        (
            "camera.origin.angles.dist",
            "spherical_uniform",
            r"camera prior is 'spherical_uniform'; our generator has normal, trunc",
        ),
        ("camera.fov", {"dist": "normal", "mean": 12.0, "std": 2.0}, r"camera\.fov is normal with a deviation"),
        ("camera.cube_scale", None, r"lack the number camera\.cube_scale"),
        ("num_ray_steps", "${steps}", "lack the number num_ray_steps"),
        ("num_ray_steps", math.nan, "num_ray_steps is nan, not a finite number"),
        ("num_ray_steps", math.inf, "num_ray_steps is inf, not a finite number"),
        ("num_ray_steps", 10**400, "num_ray_steps is 1000.*, not a finite number"),
        ("camera.origin.angles.dist", ["uniform"], r"camera prior is \['uniform'\]; our"),
        ("camera.origin.angles.dist", {"uniform": 1}, "camera prior is None; our"),
        ("camera.origin.angles.yaw.std", math.nan, "yaw_std: Input should be "),
        ("camera.ray", [0.75, 1.25], r"lack the number ray\.start"),
        ("camera.ray.end", 0.1, "0.1 is not greater than ray_start"),
    ],
)
def test_other_kinds_are_refused_with_a_sentence(
    arrays: dict[str, Tensor], tmp_path: Path, published: Any, key: str, value: Any, words: str
) -> None:
    path = _snapshot(tmp_path / "odd.pkl", published, _weights(arrays), _changed(key, value))
    with pytest.raises(UserError, match=rf"odd\.pkl: .*{words}"):
        convert_trusted(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_odd_parameters_are_refused_with_a_sentence(arrays: dict[str, Tensor], tmp_path: Path, published: Any) -> None:
    weights = _weights(arrays)
    more = weights | {"synthesis.tri_plane_mlp.model.2.weight": torch.zeros(4, 16)}
    fewer = {name: tensor for name, tensor in weights.items() if name != "synthesis.tri_plane_mlp.model.1.bias"}
    wider = dict(weights)
    wider["synthesis.tri_plane_decoder.b8.conv1.bias"] = torch.zeros(20)
    for odd, words in (
        (more, r"model\.2\.weight' is not a parameter of a published 3DGP generator"),
        (fewer, r"are not those of our generator .*decoder\.output\.bias"),
        (wider, r"are not min\(cbase / resolution, cmax\)"),
        (weights | {"mapping.w_avg": torch.zeros(())}, "are not those of our generator .*unpack"),
        # Parameters of this w would take half a GiB.
        (
            weights | {"mapping.w_avg": torch.zeros(1 << 13), "mapping.fc0.weight": torch.zeros(1, 1 << 14)},
            "are not those of our generator .*size mismatch",
        ),
        (
            weights | {"mapping.embed.weight": torch.zeros(0, 1 << 40)},
            r"not those of our generator .*embed\.linear\.weight",
        ),
        (
            weights | {"synthesis.depth_adaptor.layers.0.weight": torch.zeros(1)},
            "are not those of our generator .*unpack",
        ),
        (
            weights | {"synthesis.camera_adaptor.origin_adaptor.main.0.weight": torch.zeros(())},
            "settings or parameters are not those of our generator",
        ),
        ({"mapping.w_avg": torch.zeros(4)}, "its generator has no parameters of blocks"),
    ):
        with pytest.raises(UserError, match=words):
            convert_trusted(_snapshot(tmp_path / "odd.pkl", published, odd, SETTINGS), tmp_path / "model")


def test_settings_within_themselves_are_no_settings(arrays: dict[str, Tensor], tmp_path: Path, published: Any) -> None:
    settings = copy.deepcopy(SETTINGS)
    settings["camera"]["origin"]["angles"] = settings
    with pytest.raises(UserError, match="its settings contain themselves"):
        convert_trusted(_snapshot(tmp_path / "a.pkl", published, _weights(arrays), settings), tmp_path / "model")


def test_images_are_counted_in_either_place(arrays: dict[str, Tensor], tmp_path: Path, published: Any) -> None:
    path = _snapshot(tmp_path / "a.pkl", published, _weights(arrays), SETTINGS, cur_nimg=3000)
    convert_trusted(path, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["kimg"] == 3
    for value, words in (("abc", "'abc'"), (None, "None"), (-1, "-1"), (10**4400, "a huge number"), ([1], r"\[1\]")):
        _snapshot(path, published, {}, SETTINGS, stats={"cur_nimg": value})
        with pytest.raises(UserError, match=rf"a\.pkl: its cur_nimg is {words}, not a number of images"):
            convert_trusted(path, tmp_path / "other")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"convert: .*file cannot be written \(Not a directory\)"):
        convert_snapshot(tmp_path / "any.pkl", tmp_path / "file")


def test_a_model_is_not_overwritten(arrays: dict[str, Tensor], tmp_path: Path, published: Any) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(UserError, match="already holds a model"):
        convert_snapshot(tmp_path / "any.pkl", tmp_path)
