"""Pictures that are there, that will be fetched, and that cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genuine_formats import imagenet_files, write_imagenet_tar
from threedgp.config import Config
from threedgp.data.source import download_source
from threedgp.needs.data import missing_pictures, pictures_finding
from threedgp.runtime.errors import UserError

Settings = Callable[..., Config]


def at(settings: Settings, path: str | None, **dataset: Any) -> Config:
    values = {"source": "imagenet", "path": path} | dataset
    return settings(dataset=values)


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [
        ({}, ["ILSVRC2012_img_train.tar", "image-net.org/download-images.php", "HF_TOKEN"]),
        ({"source": "lsun", "subset": "horse"}, ["http://dl.yf.io/lsun/objects/horse.zip", "null"]),
        ({"source": "sdip", "subset": "dogs"}, ["rmokady/SDIP_dog", "null"]),
        ({"source": "folder"}, ["put the pictures there"]),
        ({"source": "rgbd"}, ["put the pictures there"]),
    ],
)
def test_missing_or_empty_path_says_what_to_fetch(
    settings: Settings, dataset: dict[str, str], advice: list[str]
) -> None:
    config = at(settings, "pictures", **dataset)
    for what in ("there is no 'pictures'", "there is nothing in the folder 'pictures'"):
        problem = missing_pictures(config)
        assert problem is not None and problem.startswith(f"dataset.path: {what}; ") and "\n" not in problem
        assert all(part in problem for part in advice)
        finding = pictures_finding(config)
        assert finding.needed and not finding.fine and finding.advice == problem
        Path("pictures").mkdir(exist_ok=True)
    Path("pictures/a.jpg").touch()
    assert missing_pictures(config) is None


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ({"source": "folder"}, "dataset.path: source 'folder' needs the folder"),
        ({"source": "sdip", "subset": "cats"}, "dataset.subset: source 'sdip' has dogs and elephants"),
        ({"source": "lsun"}, "dataset.subset: source 'lsun' has horse"),
        ({"subset": "dogs"}, "dataset.subset: source 'imagenet' has no "),
    ],
)
def test_settings_that_do_not_fit_the_source(
    settings: Settings, dataset: dict[str, str], problem: str, tmp_path: Path
) -> None:
    config = at(settings, None, **dataset)
    assert missing_pictures(config).startswith(problem)
    assert pictures_finding(config).advice.startswith(problem)
    with pytest.raises(UserError, match=f"^{problem}"):
        download_source(config, tmp_path / "raw")


def test_home_is_where_the_stage_looks(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.jpg").touch()
    assert missing_pictures(at(settings, "~/mine")) is None


def test_imagenet_of_the_hub_needs_a_token(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = pictures_finding(at(settings, None))
    assert finding.needed and not finding.fine and "no token is set" in finding.found
    assert "HF_TOKEN" in finding.advice and "ILSVRC2012_img_train.tar" in finding.advice
    assert missing_pictures(at(settings, None)) is None  # a mirror or a later login will do
    mirrored = settings(machine={"mirror": "/mnt/mirror"})
    assert pictures_finding(mirrored).fine and "/mnt/mirror" in pictures_finding(mirrored).found
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    finding = pictures_finding(at(settings, None))
    assert finding.fine and "with your token" in finding.found and "hf_secret" not in finding.found


def test_sets_that_anybody_may_fetch(settings: Settings) -> None:
    dogs = pictures_finding(at(settings, None, source="sdip", subset="dogs"))
    assert dogs.fine and "https://huggingface.co/datasets/rmokady/SDIP_dog" in dogs.found
    horse = pictures_finding(at(settings, None, source="lsun", subset="horse"))
    assert horse.fine and "http://dl.yf.io/lsun/objects/horse.zip (2,000,340 images, 69.0 GB)" in horse.found


def test_local_tar_is_counted(settings: Settings) -> None:
    """The nominal size of ImageNet says nothing about a part of it."""
    Path("sets").mkdir()
    tar = Path("sets/ILSVRC2012_img_train.tar")
    write_imagenet_tar(tar, imagenet_files())
    for path in ("sets", str(tar)):
        finding = pictures_finding(at(settings, path))
        assert finding.fine and f"(12 images, {tar.stat().st_size / 1e6:,.1f} MB)" in finding.found
    tar.write_bytes(tar.read_bytes()[:3000])
    finding = pictures_finding(at(settings, str(tar)))
    assert not finding.fine and str(tar) in finding.advice and "truncated" in finding.advice


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"machine": {"mirror": "/no/where"}}, "machine.mirror: there is no folder '/no/where'"),
        ({"dataset": {"source": "folder", "path": "~nouser/x"}}, "dataset.path: there is no '~nouser/x'"),
        ({"depth": {"estimator": "simulated"}}, "depth.estimator: 'simulated' needs depth maps that source 'imagenet'"),
        (
            {"dataset": {"source": "folder", "path": "."}, "depth": {"estimator": "sidecar"}},
            "depth.estimator: 'sidecar' needs depth maps that source 'folder' does not have",
        ),
    ],
)
def test_folders_that_are_not_there(settings: Settings, sections: dict[str, object], sentence: str) -> None:
    problem = missing_pictures(settings(**{"depth": {"estimator": "leres"}} | sections))
    assert problem is not None and problem.startswith(sentence)
