"""``threedgp check`` finds before anything runs what a stage would find hours later."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from threedgp.commands.preset import preset_values, write_values

Refused = Callable[..., str]
pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes preset `toy` with other values into params.yaml."""

    def write(**sections: dict[str, Any]) -> None:
        (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
        values = preset_values("toy", root / "presets")
        for section, changes in sections.items():
            values[section] |= changes
        write_values(values, tmp_path / "params.yaml")

    return write


def photographs(folder: Path, count: int) -> str:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (40, 40)).save(folder / f"{number}.png")
    return str(folder)


def test_more_samples_than_images(settings, threedgp, refused: Refused, tmp_path: Path) -> None:
    dataset = {"source": "folder", "path": photographs(tmp_path / "images", 26)}
    depth, select = {"estimator": "leres"}, {"keep_fraction": 1.0}
    settings(dataset=dataset, depth=depth, select=select, train={"metric_samples": 32})
    message = refused("check")
    assert "train.metric_samples: 32 images are more than the 26 that training will have" in message
    for train in ({"metric_samples": 26}, {"metric_samples": 32, "best_by": "frechet"}):
        settings(dataset=dataset, depth=depth, select=select, train=train)
        assert threedgp("check").code == 0
    settings(dataset=dataset, depth=depth, select={"keep_fraction": 0.5}, train={"metric_samples": 26})
    assert "the 13 that training will have" in refused("check"), "after selection"


def test_package_of_the_estimator(settings, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "moge" else find(name, *rest))
    settings(dataset={"source": "folder", "path": photographs(tmp_path / "images", 1000)}, depth={"estimator": "moge"})
    message = refused("check")
    assert "depth.estimator: 'moge' needs package moge; run `pip install git+" in message


def test_package_of_the_features(settings, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without(package: str) -> str:
        if package.startswith("efficientnet"):
            raise importlib.metadata.PackageNotFoundError
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without)
    settings()
    assert "features.network: 'efficientnet_lite0' needs package" in refused("check")


def test_network_without_weights(settings, refused: Refused) -> None:
    settings(embed={"network": "resnet51"})
    assert "embed.weights: timm has no weights for resnet51" in refused("check")


def test_data_behind_terms(settings, threedgp, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"dataset": {"source": "imagenet"}, "depth": {"estimator": "leres"}}
    settings(**sections)
    assert "accept the terms at https://huggingface.co/datasets/ILSVRC/imagenet-1k" in refused("check")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert threedgp("check").code == 0
