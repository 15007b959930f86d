"""Scores of depth maps against naive code and a scene of known depth; estimators against folders of true depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from threedgp.config import DepthConfig
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Estimate, Rejected, build_estimator
from threedgp.depth.evaluation import Result, Score, align, evaluate_estimator, find_pairs, mean_score, score
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)


class Reader:
    """Reads the depth that `draw` stored in an image, off by scale and shift."""

    name, looks_at_pixels = "reader", True

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def estimate(self, pictures: Sequence[RawPicture]) -> list[Estimate | Rejected]:
        self.shapes += [picture.rgb.shape for picture in pictures]
        found = [picture.rgb[..., 0] * np.float32(7) - 100 for picture in pictures]
        return [
            Rejected("too dark") if picture.rgb.max() == 0 else Estimate(one)
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
    assert all(pair.depth.name == f"{pair.image.stem}_depth.png" for pair in pairs)


def test_no_pairs(tmp_path: Path) -> None:
    draw(tmp_path, "images/one", scene())
    with pytest.raises(UserError, match=r"images: no true depth of the images .*_depth.png or .npy"):
        find_pairs(tmp_path / "images")
    with pytest.raises(UserError, match="nowhere: no such folder"):
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


def test_images_without_a_score_have_a_reason(tmp_path: Path) -> None:
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
        "bad picture": "no known image format",
        "black": "too dark",
        "good": None,
        "holes": "no pixel of the true depth is known",
        "object": "object_depth.npy is not an array of numbers",
        "other shape": "the true depth has 30x40 pixels, the image 40x30",
        "words": "words_depth.npy is not an array of numbers",
    }
    scored = [result for result in results if result.score]
    assert [result.name for result in scored] == ["good"] and mean_score(results) == scored[0].score
    assert mean_score([result for result in results if not result.score]) is None


@pytest.mark.parametrize("damage", ["npz", "zip", "header"])
def test_a_damaged_map_is_rejected(damage: str, tmp_path: Path) -> None:
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
    assert [result.reason for result in results] == ["bad_depth.npy is not an array of numbers", None]


def test_mean() -> None:
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
    with pytest.raises(UserError, match="'sidecar' does not estimate"):
        evaluate_estimator(build_estimator(DepthConfig(estimator="sidecar")), find_pairs(tmp_path))


def motorcycle() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """True disparity in pixels and depth in millimeters, by the calibration in scikit-image's documentation."""
    from skimage.data import stereo_motorcycle  # ships with the package

    disparity = stereo_motorcycle()[2]
    return disparity, (994.978 * 193.001 / (disparity + 31.086)).astype(np.float32)


def test_alignment_is_least_squares() -> None:
    estimate, truth = RNG.normal(3, 2, 500), RNG.normal(10, 1, 500)
    truth += 0.7 * estimate
    design = np.stack([estimate, np.ones(500)], axis=1)
    solution = np.linalg.lstsq(design, truth, rcond=None)[0]
    np.testing.assert_allclose(align(estimate, truth), design @ solution, rtol=1e-10)


def test_scale_and_shift_do_not_matter() -> None:
    truth = RNG.uniform(1, 5, (20, 20)).astype(np.float32)
    found = score(3 * truth - 40, truth)
    # float32 keeps 24 bits of numbers around 40
    assert found.abs_rel < 1e-5 and found.delta1 == 1 and found.correlation == pytest.approx(1) and found.known == 1


def test_scores_against_a_loop_over_pixels() -> None:
    truth = RNG.uniform(1, 5, (12, 15)).astype(np.float32)
    estimate = (truth + RNG.normal(0, 1, truth.shape)).astype(np.float32)
    aligned = align(estimate.ravel().astype(float), truth.ravel().astype(float)).reshape(truth.shape)
    errors, hits = [], 0
    for row in range(12):
        for column in range(15):
            a, d = aligned[row, column], float(truth[row, column])
            errors.append(abs(a - d) / d)
            hits += a > 0 and max(a / d, d / a) < 1.25
    found = score(estimate, truth)
    assert found.abs_rel == pytest.approx(sum(errors) / 180) and found.delta1 == hits / 180
    assert 0.1 < found.delta1 < 0.9
    assert found.correlation == pytest.approx(np.corrcoef(estimate.ravel(), truth.ravel())[0, 1], abs=1e-6)


@pytest.mark.parametrize("hole", [0.0, -1.0, np.nan, np.inf])
def test_holes_of_the_truth_count_nowhere(hole: float) -> None:
    truth = RNG.uniform(1, 5, (10, 10)).astype(np.float32)
    estimate = (truth + RNG.normal(0, 1, truth.shape)).astype(np.float32)
    whole = score(estimate[:, :6], truth[:, :6])
    truth[:, 6:] = hole
    estimate[:, 6:] = 1e6
    assert score(estimate, truth) == Score(whole.abs_rel, whole.delta1, whole.correlation, known=0.6)
    truth[:] = hole
    assert score(estimate, truth) is None


def test_upside_down_is_no_better_than_constant() -> None:
    truth = RNG.uniform(1, 5, (10, 10)).astype(np.float32)
    reverse, constant = score(-truth, truth), score(np.ones_like(truth), truth)
    assert reverse.correlation == pytest.approx(-1) and constant.correlation == 0
    expected = np.mean(np.abs(truth.mean() - truth) / truth)
    assert reverse.abs_rel == pytest.approx(constant.abs_rel) == pytest.approx(float(expected), rel=1e-5)


def test_aligned_depth_behind_the_camera_fails() -> None:
    truth = np.array([[1, 1, 1, 1, 10]], np.float32)
    estimate = np.array([[-5, 2, 2, 2, 10]], np.float32)
    aligned = align(estimate[0].astype(float), truth[0].astype(float))
    assert aligned[0] < 0
    assert score(estimate, truth).delta1 <= 0.8


def test_negated_inverse_depth_beats_a_guessed_shift() -> None:
    """Why inverse depth is negated: on a real scene, dividing by disparity without its shift is worse."""
    disparity, depth = motorcycle()
    known = np.isfinite(disparity)
    low, high = disparity[known].min(), disparity[known].max()
    relative = (disparity - low) / (high - low)  # what an estimator of inverse depth gives, at its best
    negated = score(-relative, depth)
    divided = [score(1 / (relative + shift), depth) for shift in (1e-3, 1e-2, 1e-1)]
    assert negated.known == pytest.approx(known.mean()) and negated.delta1 == 1
    assert negated.abs_rel < 0.05 < min(one.abs_rel for one in divided)
    assert divided[0].abs_rel > divided[1].abs_rel > divided[2].abs_rel
    right = (low + 31.086) / (high - low)  # the shift that nobody tells
    assert score(1 / (relative + right), depth).abs_rel < 1e-5
