"""Source `sdip`: Parquet files of the hub, fetched or local, with and without boxes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genuine_formats import decoded, encoded, hub_table, picture, read_all, write_hub_files
from threedgp.config import DatasetConfig
from threedgp.data.archives import parquet_files
from threedgp.data.source import Source, open_source
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
PICTURES = [encoded(picture(number, 32, 32), "PNG") for number in range(10)]


def assert_all_there(source: Source) -> None:
    pictures = list(read_all(source).values())
    assert len(pictures) == len(PICTURES)
    for found, data in zip(pictures, PICTURES, strict=True):
        assert found.label == 0 and found.error is None
        np.testing.assert_array_equal(found.rgb, decoded(data))


def test_local_files_are_used_in_place(opened: Opened, tmp_path: Path) -> None:
    write_hub_files(tmp_path / "in" / "data", [hub_table(PICTURES[:6]), hub_table(PICTURES[6:])])
    source = opened("sdip", tmp_path / "in", subset="dogs")
    assert_all_there(source)
    assert source.class_names == ["dogs"]
    assert not list((tmp_path / "scratch").rglob("train-*"))
    (tmp_path / "in/data/train-00001-of-00002.parquet").touch()
    config = DatasetConfig(name="x", source="sdip", subset="dogs", path=str(tmp_path / "in"))
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet: changed since stage download"):
        open_source(config, tmp_path / "scratch/raw")


def test_files_of_the_hub_are_downloaded(opened: Opened, tmp_path: Path) -> None:
    repository = tmp_path / "mirror" / "rmokady" / "SDIP_elephant"
    write_hub_files(repository / "data", [hub_table(PICTURES[:6]), hub_table(PICTURES[6:])])
    (repository / "README.md").write_text("about")
    assert_all_there(opened("sdip", None, subset="elephants", machine={"mirror": str(tmp_path / "mirror")}))
    moved = shutil.copytree(tmp_path / "scratch/raw", tmp_path / "as DVC puts it elsewhere", copy_function=shutil.copy)
    shutil.rmtree(tmp_path / "scratch")
    shutil.rmtree(tmp_path / "mirror")
    assert_all_there(open_source(DatasetConfig(name="x", source="sdip", subset="elephants"), moved))
    assert not list(moved.rglob("README*"))


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "picture"])
def test_bad_places(opened: Opened, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "picture":
        path.write_bytes(PICTURES[0])
    wanted = {"nothing": "does not exist", "empty folder": "holds no Parquet", "picture": "is neither a folder nor"}
    with pytest.raises(UserError, match=rf"dataset\.path: .*in {wanted[kind]}.*null to download rmokady/SDIP_dog"):
        opened("sdip", path, subset="dogs")


@pytest.mark.parametrize("name", ["bounding_box", "box"])
def test_boxes_and_other_columns(opened: Opened, tmp_path: Path, name: str) -> None:
    boxes = [[1, 20, 2, 30], None, [0, 300, 0, 300]]
    table = pa.table({"photo": PICTURES[:3], name: pa.array(boxes, pa.list_(pa.int64())), "url": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "any name.parquet")
    pictures = list(read_all(opened("sdip", tmp_path, subset="dogs")).values())
    np.testing.assert_array_equal(pictures[0].rgb, decoded(PICTURES[0])[1:20, 2:30])
    np.testing.assert_array_equal(pictures[1].rgb, decoded(PICTURES[1]))
    assert "does not belong to an image of 32x32" in pictures[2].error


def test_boxes_of_all_kinds_of_numbers(opened: Opened, tmp_path: Path) -> None:
    """Fractions are rounded; an invalid box rejects one image, not the data set."""
    boxes = [[0.4, 19.6, 2.0, 30.0], [float("nan"), 20.0, 1.0, 30.0], [0.0, 1e12, 0.0, 9.0], [1.0, 2.0, 3.0], None]
    table = hub_table(PICTURES[:5]).append_column("box", pa.array(boxes, pa.list_(pa.float64())))
    write_hub_files(tmp_path / "in", [table])
    pictures = list(read_all(opened("sdip", tmp_path / "in", subset="dogs")).values())
    np.testing.assert_array_equal(pictures[0].rgb, decoded(PICTURES[0])[0:20, 2:30])
    assert all("is not a bounding box" in str(picture.error) for picture in pictures[1:4])
    np.testing.assert_array_equal(pictures[4].rgb, decoded(PICTURES[4]))


@pytest.mark.parametrize("values", [["a", "b"], [{"top": 1}, {"top": 2}]])
def test_boxes_that_are_no_lists_are_named(opened: Opened, tmp_path: Path, values: list[object]) -> None:
    write_hub_files(tmp_path / "in", [hub_table(PICTURES[:2]).append_column("box", pa.array(values))])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet: a column of boxes holds"):
        opened("sdip", tmp_path / "in", subset="dogs")


def test_no_rows(opened: Opened, tmp_path: Path) -> None:
    write_hub_files(tmp_path / "in", [hub_table(PICTURES[:1]).slice(0, 0)])
    with pytest.raises(UserError, match="holds no images"):
        opened("sdip", tmp_path / "in", subset="dogs")


def test_rows_without_images_are_rejects(opened: Opened, tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": PICTURES[0], "path": None}, {"bytes": None, "path": "elsewhere.jpg"}, None, {"bytes": b"?"}]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "a.parquet")
    errors = [one.error for one in read_all(opened("sdip", tmp_path, subset="dogs")).values()]
    assert errors == [None, "the row holds no image", "the row holds no image", "no known image format"]


@pytest.mark.parametrize("damage", ["cut off", "no parquet", "no pictures", "two candidates"])
def test_bad_files_are_named(opened: Opened, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "train-00000-of-00001.parquet"
    write_hub_files(tmp_path, [hub_table(PICTURES)])
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "no parquet":
        file.write_bytes(b"<html>please log in</html>")
    else:
        columns = {"a": PICTURES, "b": PICTURES} if damage == "two candidates" else {"text": ["x"]}
        pq.write_table(pa.table(columns), file)
    wanted = "is not a Parquet file, or is damaged" if damage in ("cut off", "no parquet") else "no column 'image'"
    with pytest.raises(UserError, match=rf"train-00000-of-00001\.parquet: {wanted}"):
        opened("sdip", tmp_path, subset="dogs")


def test_row_groups_are_read_once(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hub_files(tmp_path, [hub_table(PICTURES[:6]), hub_table(PICTURES[6:])])  # groups of 3, 3, 3 and 1 rows
    source, read, groups = opened("sdip", tmp_path, subset="dogs"), pq.ParquetFile.read_row_groups, []

    def counted(file: pq.ParquetFile, chosen: list[int], **options: object) -> pa.Table:
        if options["columns"] == ["image.bytes"]:
            groups.extend((file.metadata.num_rows, group) for group in chosen)
        return read(file, chosen, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    entries = source.entries()
    for start in range(0, 10, 2):
        list(source.read(entries.slice(start, 2)))
    assert groups == [(6, 0), (6, 1), (4, 0), (4, 1)]


def test_threads_share_a_source(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hub_files(tmp_path, [hub_table(PICTURES[:6]), hub_table(PICTURES[6:])])
    monkeypatch.setattr(parquet_files, "CACHED_BYTES", 1)  # they take the groups from each other
    source = opened("sdip", tmp_path, subset="dogs")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(assert_all_there, source) for _ in range(12)]:
            done.result()
