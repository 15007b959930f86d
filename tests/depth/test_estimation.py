"""Depth of a data set: 16-bit encoding, selected images, original pixels inside the crop, rejects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from threedgp.config import DepthConfig, PrepareConfig
from threedgp.data import schemas
from threedgp.data.images import depth_from_bytes
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import RawPicture
from threedgp.depth.estimation import SelectedImages, encode, estimate_set
from threedgp.depth.estimator import DepthEstimator, Rejected, build_estimator
from threedgp.depth.estimators._network import DepthMap, NetworkDepth
from threedgp.runtime.errors import UserError

RNG = np.random.default_rng(0)
COUNT = 40
SIDECAR = build_estimator(DepthConfig(estimator="sidecar"))
BAD, FLAT, SELECTED = {5}, {8, 21}, {n for n in range(40) if n % 3 != 1}


def depth_of(number: int) -> np.ndarray:
    depth = np.random.default_rng(number).random((16, 20)).astype(np.float32)
    return np.zeros_like(depth) if number in FLAT else depth


class WideImages:
    """A source of wide images with depth maps."""

    name = "random"
    class_names = ("all",)

    def entries(self) -> pa.Table:
        return pa.table({"id": [f"{n:03d}" for n in range(COUNT)], "label": pa.array([0] * COUNT, pa.int32())})

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        for name in entries["id"].to_pylist():
            number = int(name)
            if number in BAD:
                yield RawPicture(name, 0, error="it is bad")
            else:
                yield RawPicture(name, 0, np.zeros((16, 20, 3), np.uint8), depth_of(number))


def run(
    place: Path, workers: int = 1, selected: set[int] = SELECTED, estimator: DepthEstimator = SIDECAR
) -> ShardFolder:
    if not (place / "prepared").exists():
        prepare_set(WideImages(), place / "prepared", PrepareConfig(shard_rows=15), 8, 1)
        writer = ShardWriter(place / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
        rows = [{"id": f"{n:03d}", "label": 0} for n in sorted(selected - BAD)]
        writer.write(0, pa.Table.from_pylist(rows, schemas.SELECTED))
        writer.finish()
    folder = place / f"work {workers}" / "depth"
    estimate_set(selected_images(place), estimator, 0.0, folder, workers)
    return ShardFolder(folder)


def selected_images(place: Path) -> SelectedImages:
    return SelectedImages(WideImages(), ShardFolder(place / "prepared"), ShardFolder(place / "selected"))


def test_selected_images_get_depth(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert len(folder) == 3 and folder.meta["estimator"] == "sidecar" and folder.meta["rejects"] == len(FLAT & SELECTED)
    rows = pa.concat_tables(folder.iterate()).to_pylist()
    assert [int(row["id"]) for row in rows] == sorted(SELECTED - BAD - FLAT)
    for row in rows:
        expected = encode(depth_of(int(row["id"]))[:, 2:18], 8).levels
        np.testing.assert_array_equal(depth_from_bytes(row["depth"], 8), expected)
        assert row["near"] is None and row["far"] is None  # the unit of the maps is unknown
    rejects = pq.read_table(folder.folder / "rejects.parquet").to_pylist()
    assert rejects == [{"id": f"{n:03d}", "reason": "the depth map is constant"} for n in sorted(FLAT & SELECTED)]


def test_levels_and_range_give_metric_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane whose depth is 2 m + 0.25 m for each column; the crop has columns 2 to 17, and each pixel two of them."""
    plane = np.tile(2 + 0.25 * np.arange(20, dtype=np.float32), (16, 1))
    monkeypatch.setattr(f"{__name__}.depth_of", lambda number: plane)
    estimator = build_estimator(DepthConfig(estimator="simulated_metric", strength=0))
    truth = 2 + 0.25 * np.arange(2.5, 18, 2)
    for row in run(tmp_path, estimator=estimator).read(0).to_pylist():
        assert (row["near"], row["far"]) == (2.625, 6.125)
        depth = row["near"] + depth_from_bytes(row["depth"], 8) / 65535 * (row["far"] - row["near"])
        np.testing.assert_allclose(depth, np.tile(truth, (8, 1)), atol=1e-4)


def test_a_range_that_is_not_in_front_of_the_camera_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.tile(np.arange(20, dtype=np.float32) - 2, (16, 1))  # its crop begins at 0, its pixels at 0.5
    estimator = build_estimator(DepthConfig(estimator="simulated_metric", strength=0))
    for shift, known in ((0.0, True), (-1.0, False)):
        monkeypatch.setattr(f"{__name__}.depth_of", lambda number, shift=shift: ramp + shift)
        rows = run(tmp_path, estimator=estimator, workers=1 + known).read(0).to_pylist()
        assert {row["near"] for row in rows} == {0.5 if known else None}


def test_workers_change_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, 1).manifest == run(tmp_path, 3).manifest


def test_no_usable_map_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth.estimator: 'sidecar' gave no usable map.*constant"):
        run(tmp_path, selected={8, 21})


def test_prepared_from_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    names = pa.array([f"x{n:03d}" for n in range(COUNT)])
    table = pa.table({"id": names, "label": pa.array([0] * COUNT, pa.int32())})
    monkeypatch.setattr(WideImages, "entries", lambda self: table)
    with pytest.raises(UserError, match="does not belong to the raw images; run `dvc repro prepare`"):
        run(tmp_path, 2)


class Brightness:
    """A network that returns the green channel and fails on images whose first red value is 9."""

    batches, metric = True, True

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        self.shapes |= {image.shape for image in images}
        if any(image[0, 0, 0] == 9 for image in images):
            raise ValueError("nine")
        # The first red value is the number of the image; NaN and 180 are no fields of view.
        fov = {2: float("nan"), 3: 180.0, 6: None}
        return [
            DepthMap(image[..., 1].astype(np.float32), None, fov.get(n := int(image[0, 0, 0]), n + 0.5))
            for image in images
        ]


def photograph(number: int) -> NDArray[np.uint8]:
    """24 x 40 pixels, of which the middle 24 columns are the crop."""
    rgb = np.random.default_rng(number).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    rgb[..., 0] = number
    return rgb


def test_a_network_sees_original_pixels_and_rejects_a_single_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: WideImages, entries: pa.Table) -> Iterator[RawPicture]:
        for name in entries["id"].to_pylist():
            yield RawPicture(name, 0, photograph(int(name)))

    monkeypatch.setattr(WideImages, "read", read)
    network = Brightness()
    folder = run(tmp_path, 3, SELECTED, NetworkDepth("brightness", network, 4))
    assert network.shapes == {(24, 24, 3)}  # not the 8 x 8 of the prepared set
    table = pa.concat_tables(folder.iterate()).to_pylist()
    rows = {int(row["id"]): row["depth"] for row in table}
    assert set(rows) == SELECTED - BAD - {9}
    ranges = {int(row["id"]): (row["near"], row["far"]) for row in table}
    fields_of_view = {int(row["id"]): row["fov"] for row in table}
    assert fields_of_view == {number: None if number in (2, 3, 6) else number + 0.5 for number in rows}
    for number, depth in rows.items():
        green = photograph(number)[:, 8:32, 1].astype(np.float64)
        small = green.reshape(8, 3, 8, 3).mean(axis=(1, 3))
        scaled = (small - small.min()) / (small.max() - small.min()) * 65535
        assert ranges[number] == pytest.approx((small.min(), small.max()), rel=1e-6)
        # Half a level of rounding, and rounding of float32.
        np.testing.assert_allclose(depth_from_bytes(depth, 8), scaled, atol=0.6)
    rejects = pq.read_table(folder.folder / "rejects.parquet").to_pylist()
    assert rejects == [{"id": "009", "reason": "the estimator failed: nine"}]


def test_min_max() -> None:
    depth = RNG.normal(size=(8, 8)).astype(np.float32)
    encoded = encode(depth, 8).levels
    expected = (depth.astype(np.float64) - depth.min()) / (float(depth.max()) - float(depth.min())) * 65535
    assert encoded.dtype == np.uint16 and encoded.min() == 0 and encoded.max() == 65535
    assert np.abs(encoded - expected).max() <= 0.5 + 1e-6


def test_larger_is_farther() -> None:
    encoded = encode(np.linspace(0.75, 1.25, 64, dtype=np.float32).reshape(8, 8), 8).levels
    assert (np.diff(encoded.ravel().astype(int)) > 0).all()


def test_scale_and_shift_do_not_matter() -> None:
    depth = RNG.random((16, 16)).astype(np.float32)
    assert np.abs(encode(depth, 8).levels.astype(int) - encode(depth * 30 - 5, 8).levels).max() <= 2  # float32 rounding


def test_area_average_comes_first() -> None:
    depth = RNG.random((16, 16)).astype(np.float32)
    means = depth.reshape(8, 2, 8, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(encode(depth, 8).levels, encode(means, 8).levels, atol=1)


def test_percentile_clip_saves_the_rest_from_an_outlier() -> None:
    depth = RNG.random((20, 20)).astype(np.float32)
    depth[0, 0] = 1000
    assert np.median(encode(depth, 20).levels) < 100
    clipped = encode(depth, 20, clip_percentile=1).levels
    assert 25_000 < np.median(clipped) < 40_000
    low, high = np.percentile(depth, [1, 99])
    np.testing.assert_array_equal(clipped == 65535, depth >= high)
    np.testing.assert_array_equal(clipped[depth <= low], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    depth = RNG.random((8, 8)).astype(np.float32)
    depth[3, 3] = value
    assert encode(depth, 4) == Rejected("the depth map has values that are not finite")


@pytest.mark.parametrize("value", [0.0, 1.25, 1e30])
def test_constant(value: float) -> None:
    assert encode(np.full((8, 8), value, np.float32), 4) == Rejected("the depth map is constant")
