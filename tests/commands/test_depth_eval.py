"""`threedgp depth-eval`, with an estimator that reads the depth hidden in its images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Estimate, Rejected
from threedgp.depth.estimators import leres
from threedgp.depth.estimators.leres import Leres
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)
BUILD = "threedgp.depth.estimator.build_estimator"


class Reader:
    """Returns the depth that `write_pair` stored in an image, with another scale and shift."""

    name, looks_at_pixels = "reader", True

    def estimate(self, pictures: Sequence[RawPicture]) -> list[Estimate | Rejected]:
        depth = [picture.rgb[..., 0] * np.float32(7) - 100 for picture in pictures]
        return [Estimate(one) if one.max() > -100 else Rejected("too dark") for one in depth]


def write_pair(folder: Path, name: str) -> None:
    """An image and its depth map."""
    depth = RNG.integers(10, 200, (30, 40), dtype=np.uint8)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(depth[..., None], 3, axis=2)).save(folder / f"{name}.png")
    np.save(folder / f"{name}_depth.npy", depth)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> list[DepthConfig]:
    """Settings of the estimators that were built, all of them a `Reader`."""
    settings: list[DepthConfig] = []
    monkeypatch.setattr(BUILD, lambda config, device: settings.append(config) or Reader())
    return settings


def test_prints_and_writes(tmp_path, reader, threedgp) -> None:
    for name in ("one", "two", "black"):
        write_pair(tmp_path, name)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "black.png")
    given = {"estimator": "dpt", "weights": "some/model", "batch_size": 3}
    options = ["--estimator", "dpt", "--weights", "some/model", "--batch-size", 3, "--json", tmp_path / "out.json"]
    result = threedgp("depth-eval", *options, "--images", tmp_path)
    assert result.code == 0 and reader == [DepthConfig(**given)]
    lines = result.out.splitlines()
    assert any("AbsRel" in line and "delta1" in line for line in lines)
    assert any("black" in line and "too dark" in line for line in lines)
    assert any("mean of 2" in line and "0.000" in line and "1.000" in line for line in lines)
    written = json.loads((tmp_path / "out.json").read_text())
    assert {key: written[key] for key in given} == given
    assert [one["picture"] for one in written["pictures"]] == ["one", "two"] and written["mean"]["delta1"] == 1
    assert written["rejected"] == [{"picture": "black", "reason": "too dark"}]


def test_names_and_reasons_are_not_markup(tmp_path, reader, threedgp) -> None:
    for name in ("a[/b]", "[red]c:100:"):
        write_pair(tmp_path, name)
    (tmp_path / "[red]c:100:_depth.npy").write_bytes(b"")
    printed = threedgp("depth-eval", "--estimator", "dpt", "--images", tmp_path).out
    assert "a[/b] " in printed and "[red]c:100: " in printed and "[red]c:100:_depth.npy" in printed


@pytest.mark.parametrize("target", ["folder", "one.png/out.json", "/proc/out.json"])
def test_target_is_checked_before_the_work(target, tmp_path, monkeypatch, threedgp) -> None:
    write_pair(tmp_path, "one")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(BUILD, lambda *arguments: pytest.fail("the work began"))
    result = threedgp("depth-eval", "--estimator", "dpt", "--images", tmp_path, "--json", tmp_path / target)
    assert result.code == 2 and result.err.startswith("error: --json: ") and target in result.err
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize("fails", ["threedgp.runtime.atomic.write_json", "rich.console.Console.print"])
def test_if_one_of_file_and_table_fails_the_other_is_kept(fails, tmp_path, monkeypatch, reader, threedgp) -> None:
    def fail(*arguments: object) -> None:
        raise UserError("No space left on device")

    write_pair(tmp_path, "one")
    monkeypatch.setattr(fails, fail)
    result = threedgp("depth-eval", "--estimator", "dpt", "--images", tmp_path, "--json", tmp_path / "out.json")
    assert result.code == 2
    assert ("mean of 1" in result.out) == ("json" in fails) and (tmp_path / "out.json").exists() == ("print" in fails)


def test_leres_on_a_real_image(real_rgbd, tmp_path, monkeypatch, threedgp) -> None:
    """The whole command, with random weights of LeReS in the published format."""
    monkeypatch.setattr(leres, "INPUT_SIZE", 64)  # 50 times faster
    torch.manual_seed(0)
    state = {f"module.{name}": value for name, value in Leres("resnet50").state_dict().items()}
    weights = tmp_path / "res50.pth"
    torch.save({"depth_model": state}, weights)
    (tmp_path / "images").mkdir()
    for name in ("1551.jpg", "1551_depth.png"):
        (tmp_path / "images" / name).symlink_to(real_rgbd / name)
    options = ["--estimator", "leres", "--weights", weights, "--batch-size", 3, "--json", tmp_path / "out.json"]
    result = threedgp("depth-eval", *options, "--images", tmp_path / "images", "--device", "cpu")
    assert result.code == 0 and "mean of 1" in result.out
    (scored,) = json.loads((tmp_path / "out.json").read_text())["pictures"]
    # Random weights are about as far from LeReS' own map as the best constant, whose correlation is 0.
    assert scored["picture"] == "1551" and abs(scored["correlation"]) < 0.8 and scored["known"] > 0.99


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--estimator", "lores"], "--estimator"),
        (["--estimator", "leres", "--batch-size", "0"], "--batch-size"),
        (["--estimator", "leres", "--weights", "nowhere.pth"], "depth.weights"),
    ],
)
def test_wrong_options_are_named(options, key, tmp_path, threedgp) -> None:
    write_pair(tmp_path, "one")
    result = threedgp("depth-eval", *options, "--images", tmp_path)
    assert result.code == 2 and result.err.startswith(f"error: {key}: ") and result.err.count("\n") == 1
    assert not result.out
