"""The presets of the real data sets run the whole pipeline, each on a miniature of the genuine data.

Sizes are cut, and networks whose weights have to be fetched get random ones from local files; all else, from the format
of the data to the estimator of depth, is as the preset has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from genuine_formats import (
    encoded,
    hub_table,
    imagenet_files,
    lsun_values,
    picture,
    write_hub_files,
    write_imagenet_tar,
    write_lsun_zip,
)
from threedgp.commands import preset as presets
from threedgp.data.shards import ShardFolder
from threedgp.depth.estimators.leres import Leres

SIDE = 64
SMALLER: dict[str, Any] = {
    "dataset": {"resolution": 16},
    "camera": {"hidden": 16},
    "model": {
        "generator": {
            "z_dim": 16, "w_dim": 16, "plane_resolution": 16, "plane_channels": 4, "channel_max": 16,
            "decoder_hidden": 8, "coarse_samples": 4, "fine_samples": 4,
        },
        "depth_adaptor": {"channels": 8},
        "discriminator": {"patch_resolution": 8, "channel_max": 16, "patch_encoding_width": 16},
    },
    "prepare": {"shard_rows": 8},
    "features": {"network": "efficientnet_lite0", "input_size": 32, "batch_size": 8},
    "depth": {"batch_size": 4},
    "embed": {"input_size": 32, "batch_size": 8},
    "shards": {"rows_per_shard": 8, "row_group_rows": 4},
    "train": {"kimg": 0.032, "batch_size": 8, "tick_kimg": 0.008, "save_kimg": 0.016, "pictures_kimg": 0.016},
    "evaluate": {
        "metrics": ["frechet", "precision_recall", "neighbors", "swd", "nfs", "views"], "samples": 16,
        "real_samples": 16, "neighbor_network": "features", "nfs_samples": 4, "depth_samples": 4,
    },
    "render": {
        "grid": [2, 2], "views": 3, "flights": 1, "flight_frames": 3, "interpolation": 2, "interpolation_frames": 2,
        "mesh_resolution": 16,
    },
}  # fmt: skip


def imagenet(place: Path) -> dict[str, Any]:
    """The official tar, where the preset expects it."""
    (place / "imagenet").mkdir()
    write_imagenet_tar(place / "imagenet" / "ILSVRC2012_img_train.tar", imagenet_files(per_class=9, side=SIDE))
    return {}


def imagenet_stable(place: Path) -> dict[str, Any]:
    """The files of the hub."""
    files = imagenet_files(per_class=9, side=SIDE)
    labels = [number // 9 for number in range(len(files))]
    table = hub_table(list(files.values()), labels, ["tench", "goldfish", "stork"])
    write_hub_files(place / "imagenet" / "data", [table.slice(0, 14), table.slice(14)])
    return {}


def sdip(repository: str) -> Callable[[Path], dict[str, Any]]:
    """A mirror of the hub."""

    def write(place: Path) -> dict[str, Any]:
        pictures = [encoded(picture(number, SIDE, SIDE), "PNG") for number in range(20)]
        tables = [hub_table(pictures[:12]), hub_table(pictures[12:])]
        write_hub_files(place / "mirror" / repository / "data", tables)
        return {"machine": {"mirror": "../mirror"}}

    return write


def lsun_horses(place: Path) -> dict[str, Any]:
    """A mirror of the zip; instance selection keeps a fixed number."""
    (place / "mirror").mkdir()
    write_lsun_zip(place / "mirror" / "horse.zip", lsun_values(24, SIDE))
    return {"machine": {"mirror": "../mirror"}, "select": {"keep_count": 16}}


DATA = {
    # preset: what makes its data, images that are kept, classes
    "imagenet": (imagenet, 9, ["n01440764", "n01443537", "n02129165"]),
    "imagenet_stable": (imagenet_stable, 9, ["tench", "goldfish", "stork"]),
    "sdip_dogs": (sdip("rmokady/SDIP_dog"), 20, ["dogs"]),
    "sdip_elephants": (sdip("rmokady/SDIP_elephant"), 20, ["elephants"]),
    "lsun_horses": (lsun_horses, 16, ["horse"]),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Random weights in the published layouts: LeReS with the smaller encoder, and the network that is distilled."""
    place = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    leres = {f"module.{name}": value for name, value in Leres("resnet50").state_dict().items()}
    torch.save({"depth_model": leres}, place / "res50.pth")
    save_file(timm.create_model("resnet50", num_classes=1000).state_dict(), place / "resnet50.safetensors")
    return {
        "depth": {"weights": str(place / "res50.pth")},
        "embed": {"weights": str(place / "resnet50.safetensors")},
    }


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """What `dvc exp run -S` would do for every key of `changes`."""
    for key, value in changes.items():
        if isinstance(value, dict):
            merge(values[key], value)
        else:
            assert key in values
            values[key] = value


def project(place: Path, root: Path) -> Path:
    """A copy of the pipeline without its history."""
    made = place / "a project"
    without = shutil.ignore_patterns("__pycache__", "tmp", "cache", "*.local")
    for name in ("threedgp", "stages", ".dvc"):
        shutil.copytree(root / name, made / name, ignore=without)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(root / name, made / name)
    (made / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (made / ".venv").symlink_to(sys.prefix)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_whole_pipeline(name: str, tmp_path: Path, root: Path, weights: dict[str, Any]) -> None:
    write, kept, classes = DATA[name]
    place = project(tmp_path, root)
    values = presets.preset_values(name, root / "presets")
    for changes in (SMALLER, weights, write(tmp_path)):
        merge(values, changes)
    (place / "params.yaml").write_text(yaml.safe_dump(values))

    run = [sys.executable, "-m", "dvc", "repro"]
    result = subprocess.run(
        run, cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]

    shards = ShardFolder(place / "data" / values["dataset"]["name"] / "shards")
    assert shards.manifest.rows == kept
    assert shards.meta["class_names"] == classes and shards.meta["estimator"] == "leres"
    assert shards.meta["embedding_dim"] == 2048
    model = json.loads((place / "results/model/config.json").read_text())
    assert model["camera"]["fov"] == values["camera"]["fov"]
    metrics = json.loads((place / "results/metrics.json").read_text())
    assert metrics["swd"] > 0 and metrics["fd_efficientnet_lite0"] > 0
    assert (place / "results/report.html").stat().st_size > 10_000
