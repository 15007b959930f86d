"""Parquet files of any kind: types of columns, large row groups, a bound on memory, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from threedgp.data.archives import parquet_files
from threedgp.data.archives.parquet_files import ParquetStore, list_files, open_listed
from threedgp.data.archives.references import refer
from threedgp.data.shards import ShardFolder
from threedgp.runtime.errors import UserError

IMAGES = [b"%04d" % number * 5 for number in range(40)]


def listed(root: Path, scratch: Path) -> tuple[pa.Table, ParquetStore]:
    """The listing of ``a.parquet`` in `root`, and its images."""
    list_files(root, refer(root, ["a.parquet"]), scratch, {"class_names": []}, workers=1).finish()
    shards = ShardFolder(scratch)
    return pa.concat_tables(shards.iterate()), open_listed(shards, root, scratch)


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(20),
        pa.dictionary(pa.int32(), pa.binary()), pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_of_all_types_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    values: list[Any] = [{"bytes": data} for data in IMAGES] if pa.types.is_struct(kind) else IMAGES
    column = (
        pa.array(values, pa.binary()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)
    )
    pq.write_table(pa.table({"image": column, "label": [3] * 40}), tmp_path / "a.parquet", row_group_size=16)
    entries, store = listed(tmp_path, tmp_path / "raw")
    assert list(store.load(entries)) == IMAGES and entries["label"].to_pylist() == [3] * 40


def test_groups_that_arrow_cannot_read_at_once_are_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise pa.ArrowNotImplementedError("Nested data conversions not implemented for chunked array outputs")

    table = pa.table({"image": [{"bytes": data, "path": None} for data in IMAGES]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=30)
    entries, store = listed(tmp_path, tmp_path / "raw")
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", too_large)
    assert list(store.load(entries)) == IMAGES


@pytest.mark.slow
def test_group_of_more_than_two_gib(tmp_path: Path) -> None:
    count, size = 17, 2**27
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    images = ({"image": {"bytes": bytes([number]) * size}} for number in range(count))
    table = pa.Table.from_batches(pa.RecordBatch.from_pylist([image], schema) for image in images)
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 1
    entries, store = listed(tmp_path, tmp_path / "raw")
    for number, data in enumerate(store.load(entries)):
        assert data == bytes([number]) * size


def test_bytes_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": IMAGES}), tmp_path / "a.parquet", row_group_size=2)
    entries, store = listed(tmp_path, tmp_path / "raw")
    for limit, kept in ((1, 1), (2**20, 20)):
        monkeypatch.setattr(parquet_files, "CACHED_BYTES", limit)
        assert list(store.load(entries)) == IMAGES
        assert len(store._groups) == kept


def test_damaged_files_get_a_sentence(tmp_path: Path) -> None:
    """Random bytes at random places: each file is read, or refused with a sentence."""
    table = pa.table({"image": [{"bytes": data, "path": "x"} for data in IMAGES], "label": np.arange(40), "é": IMAGES})
    file = tmp_path / "a.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": "[" * 2000}), file, row_group_size=16)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        file.write_bytes(data)
        try:
            parquet_files.class_names(file, 2)
            entries = parquet_files._list_rows(file, "a/", 0, True)
            list(ParquetStore(tmp_path, ["a.parquet"]).load(entries))
        except UserError as error:
            refused += 1
            assert "a.parquet: " in str(error) and "\n" not in str(error)
    assert refused > 20
