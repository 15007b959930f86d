"""Every command names what is wrong with a model in one sentence; scenes depend on seed and class only."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from threedgp.api import make_scene, open_model
from threedgp.commands.options import scene_list
from threedgp.models.sampler import sample_scenes

COMMANDS = ["generate", "fly", "mesh", "info"]


@pytest.fixture
def copy(model_folder, tmp_path) -> Path:
    """A model to be damaged."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(threedgp, command):
    outcome = threedgp(command, "--help")
    assert outcome.code == 0
    assert "Example" in outcome.out and f"threedgp {command} results/model" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_no_such_model(refused, tmp_path, command):
    assert "nowhere: no such folder; train a model first" in refused(command, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "config.json: no such file; train a model first" in refused(command, tmp_path / "empty")


def test_both_files_are_readable_as_the_umask_says(model_folder, tmp_path):
    (tmp_path / "any").touch()
    modes = {file.stat().st_mode for file in [*model_folder.iterdir(), tmp_path / "any"]}
    assert len(modes) == 1


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_weights(refused, copy, size):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert "model.safetensors: not the weights of" in refused("info", copy)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("command", [*COMMANDS, "view"])
def test_weights_that_are_no_numbers(refused, copy, command, value):
    weights = load_file(copy / "model.safetensors")
    weights["decoder.output.bias"][1] = value
    save_file(weights, copy / "model.safetensors")
    assert "'decoder.output.bias' holds values that are not finite" in refused(command, copy)


def test_configuration_that_is_a_folder(refused, copy):
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    assert "config.json: cannot be read (Is a directory)" in refused("info", copy)


def test_missing_and_foreign_weights(refused, copy):
    (copy / "model.safetensors").unlink()
    assert "model.safetensors: no such file" in refused("info", copy)
    (copy / "model.safetensors").mkdir()
    assert "model.safetensors" in refused("info", copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: not valid JSON"),
        ("[" * 100_000, "config.json: not valid JSON"),
        ("[]", "config.json: expected a section with keys such as 'camera', 'model', but it is []"),
        ("{}", "config.json: key 'camera' is missing"),
        ('"model"', "config.json: expected a section with keys such as 'camera', 'model', but it is 'model'"),
        (" " * 2**25, "config.json: not valid JSON"),
    ],
)
def test_broken_config(refused, copy, text, message):
    (copy / "config.json").write_text(text)
    assert message in refused("info", copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resolution", "large", "resolution: input should be a valid integer, but it is 'large'"),
        ("resolution", None, "resolution: input should be a valid integer, but it is None"),
        ("resolution", 1, "resolution: input should be greater than or equal to 8, but it is 1"),
        ("resolution", 1 << 16, "resolution: input should be less than or equal to 4096, but it is 65536"),
        ("resolution", True, "resolution: input should be a valid integer, but it is True"),
        ("num_classes", 3, "class_probabilities: expected 3 numbers"),
        ("num_classes", "two", "num_classes: input should be a valid integer, but it is 'two'"),
        ("num_classes", -2, "num_classes: input should be greater than or equal to 0, but it is -2"),
        ("num_classes", 10**15, "num_classes: input should be less than or equal to 100000"),
        ("class_probabilities", [0.5], "class_probabilities: expected 2 numbers"),
        ("class_probabilities", ["a", "b"], "class_probabilities.0: input should be a valid number"),
        ("class_probabilities", [-1, 2], "class_probabilities.0: input should be greater than or equal to 0"),
        ("class_probabilities", [math.nan, 1], "class_probabilities.0: input should be a finite number"),
        ("class_probabilities", [0, 0], "class_probabilities: expected 2 numbers with a positive sum"),
        ("seed", "one", "seed: input should be a valid integer, but it is 'one'"),
        ("camera", {"radius": "far"}, "camera.radius: input should be a valid number"),
        ("camera", {"radius": 1e300}, "camera.radius: input should be less than or equal to 1000"),
        ("camera", {"radios": 1}, "unknown key 'camera.radios'; did you mean 'camera.radius'"),
        ("camera", {"prior": "estimated"}, "fov_quantiles: expected 3 rows of equal length"),
        ("fov_quantiles", [[1, 2], [3]], "fov_quantiles.1: list should have at least 2 items"),
        ("kimg", 10**400, "kimg: input should be a valid number, but it is 100"),
        ("class_names", 3, "class_names: input should be a valid list"),
    ],
)
def test_wrong_values_in_config(refused, copy, key, value, message):
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(content | {key: value}))
    assert message in refused("generate", copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("depth_adaptor.layers", 10**8, "layers: input should be less than or equal to 32"),
        ("generator.coarse_samples", 10**18, "coarse_samples: input should be less than or equal to 1024"),
        ("generator.coarse_samples", 1024, "coarse_samples: .* are too many"),
        ("generator.plane_channels", 8192, "plane_resolution: .* are too many"),
        ("generator.channel_base", 1, "channel_base: 1 leaves layers without channels"),
        ("generator.w_dim", 8192, "model.safetensors: not the weights of"),
        ("generator.mapping_layers", 32, "model.safetensors: not the weights of"),
    ],
)
def test_sizes_that_no_weights_have(refused, copy, key, value, message):
    """Nothing of these sizes is built: they are bounded, and compared with the size of the weights."""
    content = json.loads((copy / "config.json").read_text())
    section, name = key.split(".")
    sizes = content["model"][section]
    sizes[name] = value
    if value == 1024:
        sizes["decoder_hidden"] = 64
    if value == 8192 and name == "plane_channels":
        sizes["plane_resolution"] = 4096
        sizes["channel_base"] = 4096
    (copy / "config.json").write_text(json.dumps(content))
    assert re.search(message, refused("info", copy))


def test_absent_device(refused, model_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = refused("generate", model_folder, "--device", "cuda")
    assert told.startswith("--device: 'cuda' is not available")


@pytest.mark.parametrize("command", ["generate", "fly", "mesh"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", "0-x", "--seeds: '0-x' is not a list of numbers"),
        ("--classes", "2", "--classes: there is no class 2; the model has 0 to 1 (box, ball)"),
        ("--classes", "cone", "--classes: there is no class 'cone'"),
    ],
)
def test_lists_that_cannot_be(refused, model_folder, tmp_path, command, option, value, message):
    assert message in refused(command, model_folder, option, value, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scene_depends_on_its_seed_only(model_folder):
    model = open_model(model_folder, "cpu")
    together = sample_scenes(model.generator, 4, seed=0)
    assert scene_list("3,1", None, model.class_names) == [(3, None), (1, None)]
    for index in (3, 1):
        scene = make_scene(model, index, None)
        torch.testing.assert_close(scene.inputs.z[0], together.z[index], rtol=0, atol=0)
        assert scene.label == together.labels[index]
        assert scene.name() == f"seed{index:04d}_class{scene.label:03d}"


def test_every_seed_in_every_class(model_folder):
    model = open_model(model_folder, "cpu")
    assert scene_list("0-1", "ball,0", model.class_names) == [(0, 1), (1, 1), (0, 0), (1, 0)]
    assert make_scene(model, 1, 0).inputs.labels.tolist() == [0]


def test_models_without_classes(tmp_path, tiny_generator, refused, threedgp):
    from threedgp.models.initialization import initial_generator
    from threedgp.models.saving import write_model

    generator = initial_generator(tiny_generator.camera_config, tiny_generator.model_config, 0, [], seed=0)
    write_model(tmp_path / "plain", generator, resolution=8, class_names=[], seed=0, kimg=0.0)
    assert refused("mesh", tmp_path / "plain", "--classes", "0").startswith("--classes: this model has no classes")
    assert make_scene(open_model(tmp_path / "plain", "cpu"), 12, None).name() == "seed0012"
    out = threedgp("info", tmp_path / "plain").out
    assert "classes     none" in out and "data set    unknown" in out
