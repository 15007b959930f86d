"""Depth of a whole set: the selected pictures, from the original pixels of the crop, with rejects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from threedgp.config import PrepareConfig
from threedgp.data import schemas
from threedgp.data.images import depth_from_bytes
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import RawPicture
from threedgp.depth.encoding import encode
from threedgp.depth.estimation import SelectedPictures, estimate_set
from threedgp.depth.estimator import DepthEstimator
from threedgp.depth.estimators._network import DepthMap, NetworkDepth
from threedgp.depth.estimators.sidecar import SidecarDepth
from threedgp.runtime.errors import UserError

COUNT = 40
SIDECAR = SidecarDepth()
BAD, FLAT, SELECTED = {5}, {8, 21}, {n for n in range(40) if n % 3 != 1}


def depth_of(number: int) -> np.ndarray:
    depth = np.random.default_rng(number).random((16, 20)).astype(np.float32)
    return np.zeros_like(depth) if number in FLAT else depth


class Pictures:
    """A source of wide pictures with depth maps."""

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
        prepare_set(Pictures(), place / "prepared", PrepareConfig(shard_rows=15), 8, 1)
        writer = ShardWriter(place / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
        rows = [{"id": f"{n:03d}", "label": 0} for n in sorted(selected - BAD)]
        writer.write(0, pa.Table.from_pylist(rows, schemas.SELECTED))
        writer.finish()
    folder = place / f"work {workers}" / "depth"
    estimate_set(chosen(place), estimator, 0.0, folder, workers)
    return ShardFolder(folder)


def chosen(place: Path) -> SelectedPictures:
    return SelectedPictures(Pictures(), ShardFolder(place / "prepared"), ShardFolder(place / "selected"))


def test_selected_pictures_get_depth(tmp_path: Path) -> None:
    folder = run(tmp_path)
    assert len(folder) == 3 and folder.meta["estimator"] == "sidecar" and folder.meta["rejects"] == len(FLAT & SELECTED)
    rows = pa.concat_tables(folder.iterate()).to_pylist()
    assert [int(row["id"]) for row in rows] == sorted(SELECTED - BAD - FLAT)
    for row in rows:
        expected = encode(depth_of(int(row["id"]))[:, 2:18], 8)
        np.testing.assert_array_equal(depth_from_bytes(row["depth"], 8), expected)
    rejects = pq.read_table(folder.folder / "rejects.parquet").to_pylist()
    assert rejects == [{"id": f"{n:03d}", "reason": "the depth map is constant"} for n in sorted(FLAT & SELECTED)]


def test_workers_change_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, 1).manifest == run(tmp_path, 3).manifest


def test_no_usable_map_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth.estimator: 'sidecar' gave no usable map.*constant"):
        run(tmp_path, selected={8, 21})


def test_prepared_from_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    names = pa.array([f"x{n:03d}" for n in range(COUNT)])
    table = pa.table({"id": names, "label": pa.array([0] * COUNT, pa.int32())})
    monkeypatch.setattr(Pictures, "entries", lambda self: table)
    with pytest.raises(UserError, match="does not belong to the raw pictures; run `dvc repro prepare`"):
        run(tmp_path, 2)


class Brightness:
    """A network that gives the green channel, and cannot take a picture whose red begins with 9."""

    batches = True

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[DepthMap]:
        self.shapes |= {picture.shape for picture in pictures}
        if any(picture[0, 0, 0] == 9 for picture in pictures):
            raise ValueError("nine")
        return [DepthMap(picture[..., 1].astype(np.float32)) for picture in pictures]


def photograph(number: int) -> NDArray[np.uint8]:
    """24 x 40 pixels, of which the middle 24 columns are the crop."""
    rgb = np.random.default_rng(number).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    rgb[..., 0] = number
    return rgb


def test_a_network_sees_original_pixels_and_fails_on_one_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Pictures, entries: pa.Table) -> Iterator[RawPicture]:
        for name in entries["id"].to_pylist():
            yield RawPicture(name, 0, photograph(int(name)))

    monkeypatch.setattr(Pictures, "read", read)
    network = Brightness()
    folder = run(tmp_path, 3, SELECTED, NetworkDepth("brightness", network, 4))
    assert network.shapes == {(24, 24, 3)}  # not the 8 x 8 of the prepared set
    rows = {int(row["id"]): row["depth"] for row in pa.concat_tables(folder.iterate()).to_pylist()}
    assert set(rows) == SELECTED - BAD - {9}
    for number, depth in rows.items():
        green = photograph(number)[:, 8:32, 1].astype(np.float64)
        small = green.reshape(8, 3, 8, 3).mean(axis=(1, 3))
        scaled = (small - small.min()) / (small.max() - small.min()) * 65535
        # Half a level of rounding, and what float32 leaves of 16 bits.
        np.testing.assert_allclose(depth_from_bytes(depth, 8), scaled, atol=0.6)
    rejects = pq.read_table(folder.folder / "rejects.parquet").to_pylist()
    assert rejects == [{"id": "009", "reason": "the estimator failed: nine"}]
