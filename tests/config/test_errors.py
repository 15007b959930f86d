import copy
from pathlib import Path
from typing import Any

import pytest

from threedgp.config import batch_problem, load_config, parse_config
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
    ("key", "value", "sentence"),
    [
        ("train.batchsize", 3, "unknown key 'train.batchsize'; did you mean 'train.batch_size'?"),
        ("trian", {}, "unknown key 'trian'; did you mean 'train'?"),
        (
            "train.camera_regularizer.anneel",
            3,
            "unknown key 'train.camera_regularizer.anneel'; did you mean 'train.camera_regularizer.anneal'?",
        ),
        ("kimg", 3, "unknown key 'kimg'; did you mean 'train.kimg'?"),
        ("model.zdim", 3, "unknown key 'model.zdim'; did you mean 'model.generator.z_dim'?"),
        ("qqq", 3, "unknown key 'qqq'; remove it."),
        ("train.kimg", -1, "train.kimg: input should be greater than 0, but it is -1."),
        ("train.kimg", None, "train.kimg: input should be a valid number, but it is None."),
        ("dataset.resolution", 48, "dataset.resolution: 48 is no power of two of at least 4."),
        ("dataset.resolution", 4, "dataset.resolution: input should be greater than or equal to 8, but it is 4."),
        (
            "dataset.source",
            "web",
            "dataset.source: input should be 'folder', 'imagenet', 'lsun', 'procedural', 'rgbd' or 'sdip', "
            "but it is 'web'.",
        ),
        ("camera.fov", [0, 45], "camera.fov: [0.0, 45.0] degrees does not lie inside (0, 180)."),
        ("camera.fov", [10], "camera.fov: expected a list of two numbers, but it is [10]."),
        ("camera.fov", 10, "camera.fov: expected a list of two numbers, but it is 10."),
        ("camera.ray_end", 0.5, "camera.ray_end: 0.5 is not beyond ray_start (0.75)."),
        (
            "model.discriminator.patch_resolution",
            64,
            "model.discriminator.patch_resolution: a patch of 64 pixels is larger than the image "
            "(dataset.resolution is 32).",
        ),
        (
            "train.accumulation",
            3,
            "train.batch_size: 64 is no multiple of 12 (processes 1 x train.accumulation 3 x "
            "model.discriminator.minibatch_std_group 4).",
        ),
        (
            "embed.network",
            "inception",
            "embed.network: 'inception' measures and is not distilled; choose a model of timm.",
        ),
        (
            "embed",
            {"network": "efficientnet_lite0", "weights": "own.pth"},
            "embed.weights: efficientnet_lite0 comes with its own; set it to null, or network to "
            "tf_efficientnet_lite0.",
        ),
        ("model.kind", "epigraf", "model.kind: 'epigraf' has no such part; set model.depth to false."),
        ("train.seed", -1, "train.seed: input should be greater than or equal to 0, but it is -1."),
        (
            "render.seed",
            2**70,
            f"render.seed: input should be less than or equal to {2**62}, but it is {2**70}.",
        ),
        (
            "model.generator.channel_base",
            256,
            "model.generator.channel_base: 256 leaves layers without channels; set it to 512 or more "
            "(model.generator.plane_resolution).",
        ),
        (
            "model.discriminator.channel_base",
            31,
            "model.discriminator.channel_base: 31 leaves layers without channels; set it to 32 or more "
            "(dataset.resolution).",
        ),
        ("train", None, "train: expected a section with keys such as 'kimg', 'batch_size', but it is None."),
        (
            "train.blur_sigma",
            3,
            "train.blur_sigma: expected a section with keys such as 'start', 'end', but it is 3.",
        ),
        (
            "machine.mirror",
            "http://host:port/",
            "machine.mirror: 'http://host:port/' is no address; write it as https://host/path or "
            "https://host:8080/path, or give a path.",
        ),
        (
            "machine.mirror",
            "ftp://host/x",
            "machine.mirror: 'ftp://host/x' is of no known kind; give an address that begins with https://, http:// "
            "or file://, or a path.",
        ),
        ("train.density_noise", {"start": 1, "end": 0}, "key 'train.density_noise.over' is missing; add it."),
    ],
)
def test_sentence_names_the_key(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(with_value(key, value), "params.yaml")
    assert str(caught.value) == f"params.yaml: {sentence}"


def test_processes_that_cannot_share_a_batch_may_do_the_other_stages() -> None:
    config = parse_config(with_value("machine.processes", 3))
    assert batch_problem(config, 2) is None
    assert batch_problem(config, config.machine.processes) == (
        "train.batch_size: 64 is no multiple of 12 (processes 3 x train.accumulation 1 x "
        "model.discriminator.minibatch_std_group 4)"
    )


def test_misspelling_is_told_before_the_key_that_it_leaves_missing() -> None:
    values = copy.deepcopy(VALID)
    values["datset"] = values.pop("dataset")
    with pytest.raises(UserError, match="unknown key 'datset'; did you mean 'dataset'"):
        parse_config(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected sections such as 'dataset' and 'train', found nothing"),
        (b"- 1", "found list"),
        (b"dataset: [", "this is no YAML"),
        (b"\xff\xfe\xfa", "this is no YAML"),
    ],
)
def test_file_that_holds_no_settings(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_config(tmp_path)
