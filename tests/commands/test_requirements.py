"""Images, weights and disk space that the settings need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from threedgp.commands.preset import preset_values
from threedgp.commands.requirements import (
    DEFAULT_FEATURE_DIM,
    RESULTS_BYTES,
    DiskSpace,
    disk_space,
    freeze_problem,
    images_problem,
    required_weights,
    state_bytes,
)
from threedgp.config import Config, parse_config
from threedgp.config.choices import names
from threedgp.data.shards import ShardWriter
from threedgp.data.source import download_source
from threedgp.depth.estimator import NetworkKind, get_estimator
from threedgp.models.initialization import initial_generator, initial_networks
from threedgp.runtime.errors import UserError
from threedgp.training.checkpoints import RunState, save_state
from threedgp.training.step import Trainer

Settings = Callable[..., Config]
COUNT = 1_281_167
KEPT = 427_013
"""Share 0.3333 of `COUNT`, rounded up."""

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [
        ({}, ["ILSVRC2012_img_train.tar", "image-net.org/download-images.php", "HF_TOKEN"]),
        ({"source": "lsun", "subset": "horse"}, ["http://dl.yf.io/lsun/objects/horse.zip", "null"]),
        ({"source": "sdip", "subset": "dogs"}, ["rmokady/SDIP_dog", "null"]),
        ({"source": "folder"}, ["put the images there"]),
        ({"source": "rgbd"}, ["put the images there"]),
    ],
)
def test_missing_or_empty_path_tells_how_to_get_the_images(
    settings: Settings, dataset: dict[str, str], advice: list[str]
) -> None:
    config = settings(dataset={"source": "imagenet", "path": "images"} | dataset)
    for _ in range(2):
        problem = images_problem(config)
        assert problem is not None and problem.startswith("dataset.path: ") and "'images'" in problem
        assert "\n" not in problem and all(part in problem for part in advice)
        Path("images").mkdir(exist_ok=True)
    for number in range(16):  # of an RGB-D source, half of them count as depth maps
        Path(f"images/{number}.jpg").touch()
    (Path("images") / "horse.zip").touch()
    assert images_problem(config) is None


def test_archive_that_cannot_be_read(settings: Settings) -> None:
    Path("images.tar.gz").touch()
    config = settings(dataset={"source": "folder", "path": "images.tar.gz"})
    assert "is compressed" in str(images_problem(config)) and not str(images_problem(config)).endswith(".")


def test_too_few_images_in_a_folder(settings: Settings) -> None:
    Path("images").mkdir()
    for number in range(7):
        Path(f"images/{number}.jpg").touch()
    config = settings(dataset={"source": "folder", "path": "images"})
    assert images_problem(config) == "dataset.path: 'images' holds 7 images; add some, 8 are needed"


@pytest.mark.parametrize("path", ["data/x", "data/x/raw", "data/../data/x/depth"])
def test_images_among_the_outputs_are_refused(settings: Settings, path: str) -> None:
    """DVC removes an output before its stage runs, and with it the images."""
    Path(path).mkdir(parents=True)
    for number in range(8):
        Path(f"{path}/{number}.png").touch()
    problem = images_problem(settings(dataset={"name": "x", "source": "folder", "path": path}))
    assert problem is not None and problem.startswith(
        f"dataset.path: '{path}' is in data/x, where stages and DVC remove"
    )
    assert images_problem(settings(dataset={"name": "y", "source": "folder", "path": path})) is None


@pytest.mark.parametrize(
    ("dataset", "key"),
    [
        ({"source": "folder"}, "dataset.path"),
        ({"source": "sdip", "subset": "cats"}, "dataset.subset"),
        ({"source": "lsun"}, "dataset.subset"),
        ({"subset": "dogs"}, "dataset.subset"),
        ({"source": "procedural", "path": "images", "resolution": 64}, "dataset.path"),
    ],
)
def test_settings_that_do_not_fit_the_source(
    settings: Settings, dataset: dict[str, str], key: str, tmp_path: Path
) -> None:
    config = settings(dataset={"source": "imagenet"} | dataset)
    assert str(images_problem(config)).startswith(f"{key}: ")
    with pytest.raises(UserError, match=f"^{key}: "):
        download_source(config, tmp_path / "raw")


def test_estimator_that_needs_depth_of_the_source(settings: Settings) -> None:
    Path("images").mkdir()
    Path("images/a.jpg").touch()
    config = settings(dataset={"source": "folder", "path": "images"}, depth={"estimator": "sidecar"})
    assert str(images_problem(config)).startswith("depth.estimator: ")


@pytest.mark.parametrize(("estimator", "fits"), [("moge", True), ("depth_pro", True), ("leres", False)])
def test_prior_that_needs_fields_of_view(estimator: str, fits: bool, settings: Settings) -> None:
    Path("images").mkdir()
    Path("images/a.jpg").touch()
    changes = {"depth": {"estimator": estimator}, "camera": {"prior": "estimated"}}
    problem = str(images_problem(settings(dataset={"source": "folder", "path": "images"}, **changes)))
    assert problem.startswith("camera.prior: 'estimated' needs fields of view, which") != fits


def test_home_folder_in_a_path(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.jpg").touch()
    assert images_problem(settings(dataset={"source": "imagenet", "path": "~/mine"})) is None


def keys(config: Config) -> list[str]:
    return [weights.key for weights in required_weights(config)]


def test_published_settings_need_four_networks(settings: Settings) -> None:
    assert keys(settings()) == ["features.weights", "embed.weights", "depth.weights", "evaluate.neighbor_weights"]


@pytest.mark.parametrize(
    ("sections", "without"),
    [
        ({"features": {"network": "efficientnet_lite0"}}, "features.weights"),
        ({"embed": {"network": "efficientnet_lite0"}}, "embed.weights"),
        ({"embed": {"network": "none"}, "train": {"distillation": {"loss": "none"}}}, "embed.weights"),
        ({"depth": {"estimator": "sidecar"}}, "depth.weights"),
        ({"evaluate": {"metrics": ["frechet", "neighbors"]}}, "evaluate.neighbor_weights"),
        ({"evaluate": {"neighbor_network": "features"}}, "evaluate.neighbor_weights"),
    ],
)
def test_unused_networks_need_no_weights(settings: Settings, sections: dict[str, object], without: str) -> None:
    assert without not in keys(settings(**sections)) and without in keys(settings())


def test_every_network_among_the_estimators_needs_weights(settings: Settings) -> None:
    for name in names("threedgp.depth.estimators"):
        needs_weights = "depth.weights" in keys(settings(depth={"estimator": name}, model={"depth": name != "none"}))
        assert needs_weights == isinstance(get_estimator(name), NetworkKind)


def test_paths_of_weights(settings: Settings, tmp_path: Path) -> None:
    """A file, or for models of `from_pretrained` a folder with a configuration."""

    def make_model() -> None:
        Path("own").mkdir()
        Path("own/config.json").write_text("{}")

    for sections, make in (
        ({"depth": {"estimator": "leres", "weights": "own.pth"}}, lambda: Path("own.pth").touch()),
        ({"depth": {"estimator": "dpt", "weights": "./own"}}, make_model),
        ({"features": {"weights": f"file://{tmp_path}/inception.pth"}}, lambda: Path("inception.pth").touch()),
        ({"evaluate": {"neighbor_weights": "vgg.pth"}}, lambda: Path("vgg.pth").touch()),
    ):
        ((section, values),) = sections.items()
        (weights,) = [one for one in required_weights(settings(**sections)) if one.given]
        problem = weights.problem()
        assert problem is not None and problem.startswith(f"{section}.") and str(list(values.values())[-1]) in problem
        make()
        assert weights.problem() is None


@pytest.mark.parametrize("given", ["owner/repo", "owner/repo:file.pth", "https://example.org/w.pth?x=secret"])
def test_urls_and_hub_ids_are_not_looked_for_here(settings: Settings, given: str) -> None:
    (weights,) = [one for one in required_weights(settings(depth={"weights": given})) if one.given]
    assert weights.problem() is None


@pytest.mark.parametrize("given", ["https://host:abc/x.pth", "https://[x/x.pth", "ftp://host/x.pth", "~nouser/x.pth"])
@pytest.mark.parametrize("estimator", ["leres", "dpt"])
def test_invalid_urls_and_paths(settings: Settings, estimator: str, given: str) -> None:
    config = settings(depth={"estimator": estimator, "weights": given})
    (weights,) = [one for one in required_weights(config) if one.given]
    problem = weights.problem()
    assert problem is not None and problem.startswith("depth.weights: ") and given in problem


def test_network_that_timm_does_not_have(settings: Settings) -> None:
    (weights,) = [one for one in required_weights(settings(embed={"network": "resnet51"})) if one.network == "resnet51"]
    with pytest.raises(LookupError, match="timm"):
        weights.origin()


def outputs(space: DiskSpace | None) -> dict[str, int]:
    assert space is not None
    return {stage: round(size) for stage, size in space.outputs.items()}


def test_disk_space_of_imagenet(settings: Settings) -> None:
    space = disk_space(settings(dataset={"source": "imagenet", "path": "x.tar"}))
    shards = KEPT * (67_200 + 60_400 + 2 * 2048)
    assert outputs(space) == {
        "download": 0,
        "prepare": COUNT * 67_200,
        "features": COUNT * 8192,
        "select": 0,
        "depth": KEPT * 60_400,
        "embed": KEPT * 4096,
        "shards": shards,
    }
    assert space is not None and not space.download_unknown
    # 50,000 scenes with seven bytes per pixel, and the states: one of each million images, two and two.
    assert space.temporary["evaluate"] == 50_000 * 256**2 * 7
    assert space.temporary["train"] == pytest.approx(29 * 3.81e9, rel=0.01)
    total = RESULTS_BYTES + sum(outputs(space).values())
    assert space.peak == pytest.approx(total + space.temporary["train"])
    # Without an archive, stage shards needs most: it writes twice, sorted into buckets and shuffled.
    space = disk_space(settings(dataset={"source": "imagenet", "path": "x.tar"}, train={"archive_kimg": 0}))
    assert space is not None and space.peak == pytest.approx(total + shards)


def test_a_saved_state_has_the_announced_size(tmp_path: Path) -> None:
    config = parse_config(preset_values("toy"), "toy")
    networks = initial_networks(config, 0, [], DEFAULT_FEATURE_DIM)
    trainer = Trainer(config, networks, torch.device("cpu"))
    for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    best = {name: value.clone() for name, value in trainer.average.state_dict().items()}
    run = RunState(best_weights=best).state_dict()
    save_state(tmp_path, 0, {"trainer": trainer.state_dict(), "run": run}, keep=1)
    assert (tmp_path / "state-000000000.pt").stat().st_size == pytest.approx(state_bytes(config), rel=0.05)


@pytest.mark.parametrize(
    ("sections", "stage", "expected"),
    [
        ({"prepare": {"encoding": "jpeg"}}, "prepare", COUNT * 26_300),
        ({"select": {"keep_count": 10}}, "depth", 10 * 1000 * 60_400),
        ({"select": {"keep_count": 10**8}}, "depth", COUNT * 60_400),
        ({"features": {"network": "efficientnet_lite0"}}, "features", COUNT * 4 * 1280),
        ({"dataset": {"source": "imagenet", "resolution": 128}}, "prepare", COUNT * 67_200 // 4),
        ({"depth": {"estimator": "none"}, "model": {"depth": False}}, "depth", 0),
    ],
)
def test_disk_space_depends_on_the_settings(
    settings: Settings, sections: dict[str, Any], stage: str, expected: int
) -> None:
    assert outputs(disk_space(settings(**sections)))[stage] == expected


def test_lsun_exists_twice_while_it_is_unpacked(settings: Settings) -> None:
    dataset = {"source": "lsun", "subset": "horse", "resolution": 64}
    space = disk_space(settings(dataset=dataset, select={"keep_count": 100}, train={"archive_kimg": 0}))
    assert outputs(space)["download"] == 69 * 10**9
    assert sum(outputs(space).values()) < 2 * 69 * 10**9, "so that unpacking needs most"
    assert space is not None and space.peak == RESULTS_BYTES + 2 * 69 * 10**9
    Path("horse").mkdir()
    Path("horse/data.mdb").touch()
    assert outputs(disk_space(settings(dataset=dataset | {"path": "horse"})))["download"] == 0


@pytest.mark.parametrize(
    ("part", "model", "fits"),
    [
        ("background_decoder", {}, False),
        ("background_decoder", {"generator": {"background": "planes"}}, True),
        ("depth_adaptor", {"depth": False}, False),
        ("discriminator_blocks", {}, True),
    ],
)
def test_parts_that_are_frozen_exist(part: str, model: dict[str, Any], fits: bool, settings: Settings) -> None:
    config = settings(dataset={"source": "imagenet", "path": "x.tar"}, model=model, train={"freeze": [part]})
    problem = f"train.freeze: this model has no {part}; remove it from the list"
    assert freeze_problem(config) == (None if fits else problem)


def test_snapshots_of_averages_are_results(settings: Settings) -> None:
    dataset = {"source": "imagenet", "path": "x.tar"}
    off, on = (
        disk_space(settings(dataset=dataset, train={"kimg": 10, "posthoc_ema": {"snapshot_kimg": kimg}}))
        for kimg in (0, 3)
    )
    config = settings(dataset=dataset)
    with torch.device("meta"):
        generator = initial_generator(config.camera, config.model, 0, [], 0)
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    assert on.peak - off.peak == 4 * 2 * 2 * parameters, "after 3, 6, 9 and 10 thousand images, two of 16 bits"


def test_downloads_of_unknown_size(settings: Settings) -> None:
    for path in (None, "dogs.json"):
        space = disk_space(settings(dataset={"source": "sdip", "subset": "dogs", "path": path}))
        assert space is not None and space.download_unknown


def test_a_folder_is_counted_once_it_is_listed(settings: Settings) -> None:
    config = settings(dataset={"name": "mine", "source": "folder", "path": "images"}, depth={"estimator": "leres"})
    assert disk_space(config) is None
    writer = ShardWriter(Path("data/mine/raw"), pa.schema([("id", pa.string())]), "raw", {"class_names": ["a", "b"]})
    writer.write(0, pa.table({"id": [str(number) for number in range(30)]}))
    writer.finish()
    assert outputs(disk_space(config))["prepare"] == 30 * 67_200
    Path("data/mine/prepared").mkdir()
    assert "prepare" not in outputs(disk_space(config)), "it exists already"
