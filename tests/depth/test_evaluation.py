"""An estimator against folders of true depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Rejected
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


def test_scores_of_the_center_crop(tmp_path: Path) -> None:
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
