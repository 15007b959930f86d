import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from threedgp.config import batch_problem, load_config, parse_config
from threedgp.config.reading import parse_yaml, read_yaml
from threedgp.runtime.errors import UserError

VALID: dict[str, Any] = {
    "dataset": {"name": "toy", "source": "procedural", "resolution": 32},
    "model": {"discriminator": {"patch_resolution": 16}},
}


def with_value(key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(VALID)
    *sections, last = key.split(".")
    place = changed
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return changed


def test_base_is_valid() -> None:
    assert parse_config(VALID).dataset.resolution == 32


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("train.batchsize", 3, "train.batch_size"),
        ("trian", {}, "train"),
        ("train.camera_regularizer.anneel", 3, "train.camera_regularizer.anneal"),
        ("kimg", 3, "train.kimg"),
        ("model.zdim", 3, "model.generator.z_dim"),
        ("qqq", 3, None),
    ],
)
def test_unknown_key_is_named_with_the_nearest_one(key: str, value: Any, nearest: str | None) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(with_value(key, value), "params.yaml")
    advice = f"did you mean '{nearest}'?" if nearest else "remove it."
    assert str(caught.value) == f"params.yaml: unknown key '{key}'; {advice}"


@pytest.mark.parametrize(
    ("settings", "key", "parts"),
    [
        ("train: {kimg: -1}", "train.kimg", ["greater than 0", "-1"]),
        ("train: {kimg: null}", "train.kimg", ["number", "None"]),
        ("train: {seed: -1}", "train.seed", ["greater than or equal to 0", "-1"]),
        ("train: {batch_size: 6}", "train.batch_size", ["6", "minibatch_std_group 4"]),
        ("train: {accumulation: 3}", "train.batch_size", ["64", "12", "train.accumulation 3"]),
        (
            "train: {blur_sigma: {start: 1, end: -1, over: 9}}",
            "train.blur_sigma.end",
            ["-1", "greater than or equal to 0"],
        ),
        ("train: {blur_sigma: {start: 1, end: 0, over: 120%}}", "train.blur_sigma.over", ["120%", "5000", "20%"]),
        ("train: {blur_sigma: 3}", "train.blur_sigma", ["'start', 'end'", "3"]),
        (
            "train: {raw_depth_probability: {start: 0.6, end: 0.1, over: 9}}",
            "train.raw_depth_probability.start",
            ["0.6", "[0, 0.5]"],
        ),
        ("train: null", "train", ["a section with keys such as '", "None"]),
        ("render: {seed: 9999999999999999999}", "render.seed", [str(2**62)]),
        ("dataset: {name: a/b}", "dataset.name", ["'a/b'"]),
        ("dataset: {resolution: 48}", "dataset.resolution", ["48", "power of two"]),
        ("dataset: {resolution: '24'}", "dataset.resolution", ["integer", "'24'"]),
        ("dataset: {resolution: 24.0}", "dataset.resolution", ["integer", "24.0"]),
        ("dataset: {resolution: 4}", "dataset.resolution", ["8", "4"]),
        ("dataset: {source: web}", "dataset.source", ["'folder', 'hub', 'imagenet', ", "'web'"]),
        ("camera: {fov: [0, 45]}", "camera.fov", ["[0.0, 45.0]", "(0, 180)"]),
        ("camera: {fov: [10]}", "camera.fov", ["two numbers", "[10]"]),
        ("camera: {fov: 10}", "camera.fov", ["two numbers", "10"]),
        ("evaluate: {metrics: frechet}", "evaluate.metrics", ["expected a list, but", "'frechet'"]),
        ("render: {truncations: 1}", "render.truncations", ["expected a list, but"]),
        ("render: {grid: [1, 2, 3]}", "render.grid", ["two numbers", "[1, 2, 3]"]),
        ("train: {seed: 0x1" + "0" * 9999 + "}", "train.seed", ["a huge number"]),
        ("report: {title: [" + "x" * 9999 + "]}", "report.title", ["string", "xxx...xxx"]),
        ("camera: {yaw: [1, -1]}", "camera.yaw", ["1.0", "-1.0"]),
        ("camera: {ray_end: 0.5}", "camera.ray_end", ["0.5", "ray_start (0.75)"]),
        (
            "model: {discriminator: {patch_resolution: 64}}",
            "model.discriminator.patch_resolution",
            ["64", "dataset.resolution is 32"],
        ),
        (
            "model: {generator: {channel_base: 256}}",
            "model.generator.channel_base",
            ["256", "512", "model.generator.plane_resolution"],
        ),
        (
            "model: {discriminator: {channel_base: 31, patch_resolution: 16}}",
            "model.discriminator.channel_base",
            ["31", "32", "dataset.resolution"],
        ),
        ("model: {depth_adaptor: {kernel_size: 4}}", "model.depth_adaptor.kernel_size", ["4", "odd"]),
        ("model: {kind: epigraf, discriminator: {patch_resolution: 16}}", "model.kind", ["model.depth to false"]),
        (
            "model: {depth: false, discriminator: {normals: true, patch_resolution: 16}}",
            "model.discriminator.normals",
            ["model.depth is false", "set normals to false"],
        ),
        (
            "{model: {kind: epigraf, depth: false, discriminator: {normals: true, patch_resolution: 16}}, "
            "camera: {learned: false}, train: {distillation: {loss: none}}}",
            "model.discriminator.normals",
            ["model.depth is false", "set normals to false"],
        ),
        ("features: {network: efficientnet_lite0, weights: x.pth}", "features.weights", ["set it to null"]),
        ("embed: {network: inception}", "embed.network", ["'inception'", "timm"]),
        ("embed: {network: efficientnet_lite0, weights: x.pth}", "embed.weights", ["tf_efficientnet_lite0"]),
        ("machine: {mirror: 'http://host:port/'}", "machine.mirror", ["http://host:port/", "https://host:8080/path"]),
        ("machine: {mirror: 'ftp://host/x'}", "machine.mirror", ["ftp://host/x", "file://"]),
    ],
)
def test_wrong_value_is_reported_with_its_key(settings: str, key: str, parts: list[str]) -> None:
    changes = parse_yaml(settings.encode(), "changes")
    values = {key: {**VALID.get(key, {}), **change} if change else change for key, change in changes.items()}
    with pytest.raises(UserError) as caught:
        parse_config(VALID | values, "params.yaml")
    message = str(caught.value)
    assert message.startswith(f"params.yaml: {key}: ") and message.endswith(".") and "\n" not in message
    assert all(part in message for part in parts), message


def test_missing_key_is_named() -> None:
    with pytest.raises(UserError, match=r"key 'train\.density_noise\.over' is missing"):
        parse_config(with_value("train.density_noise", {"start": 1, "end": 0}))


def test_number_of_processes_that_does_not_divide_the_batch_concerns_training_alone() -> None:
    config = parse_config(with_value("machine.processes", 3))
    assert batch_problem(config, 2) is None
    problem = batch_problem(config, config.machine.processes)
    assert problem.startswith("train.batch_size: 64 ") and "12" in problem and "processes 3" in problem


def test_misspelled_key_is_reported_before_the_key_that_it_leaves_missing() -> None:
    values = copy.deepcopy(VALID)
    values["datset"] = values.pop("dataset")
    with pytest.raises(UserError, match="unknown key 'datset'; did you mean 'dataset'"):
        parse_config(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found nothing"),
        (b"- 1", "found list"),
        (b"dataset: [", "not valid YAML"),
        (b"\xff\xfe\xfa", "not valid YAML"),
        (b"a: 2024-13-01", r"month must be in 1\.\.12.* line 1"),
        (b"a: 1\nb: !!int seven", "'seven'.* line 2"),
        (b"a: !!float seven", "'seven'"),
        (b"a: " + b"9" * 5000, "5000 digits.* line 1"),
        (b"[" * 5000, "recursion"),
        (
            b"a: &a [0]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b"*%c," % (c - 1) * 9) for c in b"bcdefghij"),
            "10000 values",
        ),
        (b"&a [*a]", "10000 values"),
        (b"#" * 2**18, "larger than"),
        (b"{1: 2, dataset: {}}", "keys"),
    ],
)
def test_file_that_holds_no_settings(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_file_that_lacks_a_key(root: Path, tmp_path: Path) -> None:
    values = read_yaml(root / "params.yaml")
    del values["machine"], values["train"]["seed"]
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    assert load_config(file).train.seed == 0
    with pytest.raises(UserError, match=r"params\.yaml: key 'train\.seed' is missing"):
        load_config(file, complete=True)
    values["train"]["seed"] = 1
    file.write_text(yaml.safe_dump(values))
    assert load_config(file, complete=True).train.seed == 1


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_config(tmp_path)
