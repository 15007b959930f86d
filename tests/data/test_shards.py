"""Shard folders: what is written is read, runs resume, damage is found and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.runtime.errors import UserError

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int32())])


def table(start: int, count: int) -> pa.Table:
    numbers = list(range(start, start + count))
    return pa.table({"id": [f"{number:04d}" for number in numbers], "value": pa.array(numbers, pa.int32())})


def write(folder: Path, parts: tuple[int, ...] = (0, 1, 2)) -> ShardWriter:
    writer = ShardWriter(folder, SCHEMA, "prepared", {"resolution": 8}, row_group_rows=4)
    for part in parts:
        writer.write(part, table(part * 10, 10))
    return writer


def test_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path).finish(rejects=2)
    folder = ShardFolder(tmp_path)
    assert len(folder) == 3 and folder.manifest.rows == 30 and folder.manifest.kind == "prepared"
    assert folder.meta == {"resolution": 8, "rejects": 2}
    assert folder.read(1).equals(table(10, 10))
    assert folder.read(1, ["value"]).column_names == ["value"]
    assert folder.read_group(1, 2).equals(table(18, 2))
    assert pa.concat_tables(folder.iterate()).equals(table(0, 30))
    assert folder.column("value").to_pylist() == list(range(30))
    assert folder.schema == SCHEMA


def test_files_say_what_they_are(tmp_path: Path) -> None:
    write(tmp_path)
    about = json.loads(pq.read_schema(tmp_path / "part-00000.parquet").metadata[b"threedgp"])
    assert about == {"schema_version": schemas.VERSION, "kind": "prepared", "resolution": 8}


def test_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a").finish(), write(tmp_path / "b", (2, 0, 1)).finish()
    assert first == second
    for file in first.files:
        assert (tmp_path / "a" / file.name).read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_content_hash_follows_content(tmp_path: Path) -> None:
    one = write(tmp_path / "a").finish()
    other = write(tmp_path / "b", (0, 1))
    other.write(2, table(0, 10))
    assert other.finish().content_hash != one.content_hash


def test_resumes(tmp_path: Path) -> None:
    write(tmp_path, (0, 2))
    writer = ShardWriter(tmp_path, SCHEMA, "prepared", {"resolution": 8}, row_group_rows=4)
    assert [writer.done(part) for part in range(4)] == [True, False, True, False]
    assert writer.rows(2) == 10
    with pytest.raises(ValueError, match="not all shards"):
        writer.finish()
    writer.write(1, table(10, 10))
    assert writer.finish() == write(tmp_path / "at once").finish()


def test_killed_between_manifest_and_publishing(tmp_path: Path) -> None:
    manifest = write(tmp_path).finish()
    writer = ShardWriter(tmp_path, SCHEMA, "prepared", {"resolution": 8}, row_group_rows=4)
    assert all(writer.done(part) for part in range(3))
    assert writer.finish() == manifest


def test_unfinished_file_is_not_done(tmp_path: Path) -> None:
    writer = write(tmp_path, ())
    (tmp_path / "part-00000.parquet").write_bytes(b"half")
    assert not writer.done(0)


def test_a_record_without_its_file_does_not_count(tmp_path: Path) -> None:
    writer = write(tmp_path, (0, 1))
    (tmp_path / "part-00000.parquet").unlink()
    assert [writer.done(part) for part in range(2)] == [False, True]


def test_wrong_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError)):
        write(tmp_path, ()).write(0, pa.table({"id": ["a"]}))
    assert not list(tmp_path.glob("part*"))


@pytest.mark.parametrize("place", [0, 5, 300, -1])
def test_damaged_shard_is_named(tmp_path: Path, place: int) -> None:
    write(tmp_path).finish()
    file = tmp_path / "part-00001.parquet"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    folder = ShardFolder(tmp_path)
    folder.read(0)
    for _ in range(2):  # a first complaint must not count as a check
        with pytest.raises(UserError, match=r"part-00001.parquet.*checksum.*dvc repro prepare"):
            folder.read(1)


def test_truncated_or_missing_shard_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path).finish()
    file = tmp_path / "part-00002.parquet"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"part-00002.parquet.*bytes.*dvc repro prepare"):
        ShardFolder(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"part-00002.parquet.*missing.*dvc repro prepare"):
        ShardFolder(tmp_path)


def test_missing_folder_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"selected/manifest.json.*dvc repro select"):
        ShardFolder(tmp_path / "selected")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": [{"name": "x"}]}'])
def test_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest.json.*dvc repro download"):
        ShardFolder(folder)


@pytest.mark.parametrize("version", [None, schemas.VERSION - 1, schemas.VERSION + 1])
def test_other_versions_are_refused(tmp_path: Path, version: int | None) -> None:
    """None: manifests of version 1 do not say so."""
    write(tmp_path).finish()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    if version is None:
        del manifest["schema_version"]
    else:
        manifest["schema_version"] = version
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    expected = (
        f"columns of version {version or 1}, but this code reads version {schemas.VERSION}; run `dvc repro prepare`"
    )
    with pytest.raises(UserError, match=expected):
        ShardFolder(tmp_path)


def test_vectors_survive(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 7)
    writer = ShardWriter(tmp_path, schemas.embed(7), "embed", {})
    writer.write(0, pa.table({"id": list("abcde"), "embedding": column}))
    writer.finish()
    read = ShardFolder(tmp_path).read(0)["embedding"].combine_chunks().flatten().to_numpy().reshape(5, 7)
    np.testing.assert_array_equal(read, vectors)
    assert schemas.embed(0).names == ["id"]
    assert schemas.training(0).names == ["id", "label", "image", "depth"]
