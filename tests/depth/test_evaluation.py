"""An estimator against folders of true depth, and the command that does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from threedgp.commands import depth_eval as evaluation_command
from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Rejected
from threedgp.depth.estimators import leres
from threedgp.depth.estimators.leres import Leres
from threedgp.depth.estimators.sidecar import SidecarDepth
from threedgp.depth.evaluation import evaluate_estimator, find_pairs, mean_score
from threedgp.depth.scores import score
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)


class Reader:
    """Reads the depth that `draw` hid in a picture, off by scale and shift."""

    name, looks_at_pixels = "reader", True

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def estimate(self, pictures: Sequence[RawPicture]) -> list[NDArray[np.float32] | Rejected]:
        self.shapes += [picture.rgb.shape for picture in pictures]
        found = [picture.rgb[..., 0] * np.float32(7) - 100 for picture in pictures]
        return [
            Rejected("too dark") if picture.rgb.max() == 0 else one
            for picture, one in zip(pictures, found, strict=True)
        ]


def draw(place: Path, name: str, depth: NDArray[np.uint8]) -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(depth[..., None], 3, axis=2)).save(place / f"{name}.png")


def scene(height: int = 30, width: int = 40) -> NDArray[np.uint8]:
    return RNG.integers(10, 200, (height, width), dtype=np.uint8)


def test_pairs_of_two_folders(tmp_path: Path) -> None:
    images, depth = tmp_path / "images", tmp_path / "depth"
    for name in ("a/one", "a/two", "three", "four", "alone"):
        draw(images, name, scene())
    (depth / "a").mkdir(parents=True)
    for name in ("a/one.npy", "a/two.png", "three_depth.png", "three.npy", "four_depth.npy", "other.npy"):
        (depth / name).touch()
    (images / "notes.txt").touch()
    pairs = find_pairs(images, depth)
    assert [(pair.name, pair.depth.relative_to(depth).as_posix()) for pair in pairs] == [
        ("a/one", "a/one.npy"), ("a/two", "a/two.png"), ("four", "four_depth.npy"), ("three", "three_depth.png"),
    ]  # fmt: skip


def test_pairs_of_one_folder_are_those_of_the_source_rgbd(real_rgbd: Path) -> None:
    pairs = find_pairs(real_rgbd)
    assert len(pairs) == 24
    assert all(pair.depth.name == f"{pair.picture.stem}_depth.png" for pair in pairs)


def test_no_pairs(tmp_path: Path) -> None:
    draw(tmp_path, "images/one", scene())
    with pytest.raises(UserError, match=r"images: no picture of .* must be called <picture>_depth.png or .npy"):
        find_pairs(tmp_path / "images")
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        find_pairs(tmp_path / "images", tmp_path / "nowhere")


def test_scores_of_the_centre_crop(tmp_path: Path) -> None:
    depth = scene()
    draw(tmp_path, "one", depth)
    truth = depth.astype(np.float32) + RNG.normal(0, 5, depth.shape).astype(np.float32)
    truth[3, 20:] = np.nan
    np.save(tmp_path / "one_depth.npy", truth)
    reader = Reader()
    (result,) = evaluate_estimator(reader, find_pairs(tmp_path))
    assert reader.shapes == [(30, 30, 3)]
    expected = score(depth[:, 5:35].astype(np.float32), truth[:, 5:35])
    assert result.score.abs_rel == pytest.approx(expected.abs_rel, rel=1e-5) and 0 < expected.abs_rel < 0.3
    assert result.score.known == expected.known == 1 - 15 / 900


def test_sixteen_bit_maps_in_which_zero_is_unknown(tmp_path: Path) -> None:
    depth = scene(20, 20)
    draw(tmp_path / "images", "one", depth)
    truth = depth.astype(np.uint16) * 256
    truth[:5] = 0
    (tmp_path / "depth").mkdir()
    Image.fromarray(truth).save(tmp_path / "depth/one.png")
    (result,) = evaluate_estimator(Reader(), find_pairs(tmp_path / "images", tmp_path / "depth"))
    assert result.score.abs_rel < 1e-5 and result.score.known == 0.75


@pytest.mark.parametrize("factor", [2, 0.5])
def test_truth_of_another_size(factor: float, tmp_path: Path) -> None:
    """Smooth depth, so that the resize costs little."""
    ramp = np.tile(np.linspace(20, 200, 40), (40, 1)).astype(np.uint8)
    draw(tmp_path, "one", ramp)
    side = int(40 * factor)
    np.save(tmp_path / "one_depth.npy", np.tile(np.linspace(20, 200, side, dtype=np.float32), (side, 1)))
    (result,) = evaluate_estimator(Reader(), find_pairs(tmp_path))
    assert result.score.abs_rel < 0.03 and result.score.delta1 == 1


def test_what_cannot_be_scored_has_a_reason(tmp_path: Path) -> None:
    for name in ("bad picture", "black", "good", "holes", "object", "other shape", "words"):
        draw(tmp_path, name, scene())
        np.save(tmp_path / f"{name}_depth.npy", scene().astype(np.float32))
    (tmp_path / "bad picture.png").write_bytes(b"broken")
    draw(tmp_path, "black", np.zeros((30, 40), np.uint8))
    np.save(tmp_path / "holes_depth.npy", np.zeros((30, 40), np.float32))
    np.save(tmp_path / "object_depth.npy", np.array([[print]]), allow_pickle=True)
    np.save(tmp_path / "other shape_depth.npy", np.ones((40, 30), np.float32))
    (tmp_path / "words_depth.npy").write_text("1 2 3")
    results = evaluate_estimator(Reader(), find_pairs(tmp_path))
    assert {result.name: result.reason for result in results} == {
        "bad picture": "no known picture format",
        "black": "too dark",
        "good": None,
        "holes": "no pixel of the true depth is known",
        "object": "object_depth.npy is no array of numbers",
        "other shape": "the true depth has 30x40 pixels, the picture 40x30",
        "words": "words_depth.npy is no array of numbers",
    }
    scored = [result for result in results if result.score]
    assert [result.name for result in scored] == ["good"] and mean_score(results) == scored[0].score
    assert mean_score([result for result in results if not result.score]) is None


@pytest.mark.parametrize("damage", ["npz", "zip", "header"])
def test_an_odd_map_is_a_bad_picture(damage: str, tmp_path: Path) -> None:
    for name in ("bad", "good"):
        draw(tmp_path, name, scene())
        np.save(tmp_path / f"{name}_depth.npy", scene().astype(np.float32))
    file = tmp_path / "bad_depth.npy"
    if damage == "npz":
        with file.open("wb") as stream:
            np.savez(stream, depth=np.ones((30, 40), np.float32))
    else:
        broken = file.read_bytes().replace(b"}", b" ")
        file.write_bytes(broken if damage == "header" else b"PK\x03\x04" + bytes(30))
    results = evaluate_estimator(Reader(), find_pairs(tmp_path))
    assert [result.reason for result in results] == ["bad_depth.npy is no array of numbers", None]


def test_mean() -> None:
    from threedgp.depth.evaluation import Result
    from threedgp.depth.scores import Score

    results = [
        Result("a", Score(0.1, 0.5, 0.2, 1.0)),
        Result("b", reason="bad"),
        Result("c", Score(0.3, 1.0, 0.6, 0.5)),
    ]
    mean = mean_score(results)
    assert list(vars(mean).values()) == pytest.approx([0.2, 0.75, 0.4, 0.75])


def test_maps_that_come_with_the_source_are_no_estimate(tmp_path: Path) -> None:
    draw(tmp_path, "one", scene())
    np.save(tmp_path / "one_depth.npy", scene())
    with pytest.raises(UserError, match="'sidecar' looks at no picture"):
        evaluate_estimator(SidecarDepth(), find_pairs(tmp_path))


def test_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        depth = scene()
        draw(tmp_path, name, depth)
        np.save(tmp_path / f"{name}_depth.npy", depth)
    draw(tmp_path, "black", np.zeros((30, 40), np.uint8))
    np.save(tmp_path / "black_depth.npy", scene())
    settings: list[DepthConfig] = []
    monkeypatch.setattr(
        evaluation_command, "build_estimator", lambda config, device: settings.append(config) or Reader()
    )
    given = {"estimator": "dpt", "weights": "some/model", "batch_size": 3}
    evaluation_command.compare(tmp_path, None, tmp_path / "out.json", given, "cpu")
    assert settings == [DepthConfig(**given)]
    lines = capsys.readouterr().out.splitlines()
    assert any("AbsRel" in line and "delta1" in line for line in lines)
    assert any("black" in line and "too dark" in line for line in lines)
    assert any("mean of 2" in line and "0.000" in line and "1.000" in line for line in lines)
    written = json.loads((tmp_path / "out.json").read_text())
    assert {key: written[key] for key in given} == given
    assert [one["picture"] for one in written["pictures"]] == ["one", "two"] and written["mean"]["delta1"] == 1
    assert written["rejected"] == [{"picture": "black", "reason": "too dark"}]


def test_names_and_reasons_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path, "a[/b]", scene())
    np.save(tmp_path / "a[/b]_depth.npy", scene())
    draw(tmp_path, "[red]c:100:", scene())
    (tmp_path / "[red]c:100:_depth.npy").touch()
    monkeypatch.setattr(evaluation_command, "build_estimator", lambda config, device: Reader())
    evaluation_command.compare(tmp_path, None, None, {"estimator": "dpt"}, "cpu")
    printed = capsys.readouterr().out
    assert "a[/b] " in printed and "[red]c:100: " in printed and "[red]c:100:_depth.npy" in printed


@pytest.mark.parametrize("target", ["folder", "one.png/out.json", "/proc/out.json"])
def test_a_target_that_cannot_be_written_costs_no_work(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "one", scene())
    np.save(tmp_path / "one_depth.npy", scene())
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(evaluation_command, "build_estimator", lambda *arguments: pytest.fail("work began"))
    with pytest.raises(UserError, match=rf"^--json: .*{target} (is not a file|cannot be written)"):
        evaluation_command.compare(tmp_path, None, tmp_path / target, {"estimator": "dpt"}, "cpu")
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize("printed", [True, False])
def test_a_failure_at_the_end_costs_not_both_file_and_table(
    printed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    draw(tmp_path, "one", scene())
    np.save(tmp_path / "one_depth.npy", scene())
    monkeypatch.setattr(evaluation_command, "build_estimator", lambda config, device: Reader())
    monkeypatch.setattr(evaluation_command, *(("write_json", fail) if printed else ("_table", fail)))
    error, message = (UserError, r"--json: .*out.json cannot be written \(No space") if printed else (OSError, "space")
    with pytest.raises(error, match=message):
        evaluation_command.compare(tmp_path, None, tmp_path / "out.json", {"estimator": "dpt"}, "cpu")
    assert ("mean of 1" in capsys.readouterr().out) == printed and (tmp_path / "out.json").exists() != printed


def test_leres_on_a_real_picture(
    real_rgbd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the command's work, with random weights of LeReS in the published layout."""
    monkeypatch.setattr(leres, "INPUT_SIZE", 64)  # 50 times quicker
    torch.manual_seed(0)
    state = {f"module.{name}": value for name, value in Leres("resnet50").state_dict().items()}
    torch.save({"depth_model": state}, tmp_path / "res50.pth")
    (tmp_path / "images").mkdir()
    for name in ("1551.jpg", "1551_depth.png"):
        (tmp_path / "images" / name).symlink_to(real_rgbd / name)
    given = {"estimator": "leres", "weights": str(tmp_path / "res50.pth"), "batch_size": 3}
    evaluation_command.compare(tmp_path / "images", None, tmp_path / "out.json", given, "cpu")
    assert "mean of 1" in capsys.readouterr().out
    (scored,) = json.loads((tmp_path / "out.json").read_text())["pictures"]
    # Noise knows nothing: about as far from LeReS' own map as the best constant, whose correlation is 0.
    assert scored["picture"] == "1551" and abs(scored["correlation"]) < 0.8 and scored["known"] > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lores"], "--estimator: 'lores': Input should be 'none', 'sidecar'"),
        (["leres", "--batch-size", "0"], "--batch-size: 0: Input should be greater than or equal to 1"),
        (["leres", "--device", "tpu"], "--device: 'tpu': Input should be 'auto', 'cpu' or 'cuda'"),
        (["leres", "--weights", "nowhere.pth"], "depth.weights: "),
    ],
)
def test_command_refuses_with_one_sentence(arguments: list[str], message: str, tmp_path: Path, root: Path) -> None:
    draw(tmp_path, "one", scene())
    np.save(tmp_path / "one_depth.npy", scene())
    result = command(root, *arguments, "--images", str(tmp_path))
    assert result.returncode == 2 and result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1 and not result.stdout


def command(root: Path, estimator: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "threedgp", "depth-eval", "--estimator", estimator, *more]
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
