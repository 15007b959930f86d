"""Folders of Parquet shards with a manifest that holds the checksum of every shard.

A shard is written atomically and never changed, so a stopped stage resumes with the first missing shard.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from threedgp.data import schemas
from threedgp.runtime.atomic import atomic_path, write_json
from threedgp.runtime.errors import UserError

MANIFEST = "manifest.json"
PART_NAME = "part-{:05d}.parquet"
FOOTERS = 8
"""Parsed footers that are cached; those of all shards of a large set would take hundreds of MB."""
PIECE_ROWS = 4
"""Rows of a piece, which has less than 2 GiB: an image file has at most 256 MiB (`pictures.MAX_FILE_BYTES`)."""
STAGES = {"raw": "download", "prepared": "prepare", "selected": "select"}
"""The stage that writes a kind of folder, if it has another name."""


@dataclass(frozen=True)
class ShardFile:
    """One shard: file name, rows, size in bytes, checksum."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of ``manifest.json``. Every row group but the last of a shard holds `row_group_rows` rows."""

    kind: str
    rows: int
    row_group_rows: int
    content_hash: str
    meta: dict[str, Any] = field(default_factory=dict)
    files: list[ShardFile] = field(default_factory=list)
    schema_version: int = 1
    """Manifests of version 1 do not state it."""


class ShardWriter:
    """Writes shards in any order and from any number of processes, then their manifest.

    Args:
        folder: created if missing; finished shards of an earlier run are kept.
        schema: columns that every table must have.
        kind: the kind of shards; messages name the stage that writes them.
        meta: stored in the manifest and in the metadata of each file.
        row_group_rows: rows of a row group, the smallest unit of reading.
        part_name: file name of shard i, as a format string.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        kind: str,
        meta: dict[str, Any],
        *,
        row_group_rows: int = 256,
        part_name: str = PART_NAME,
    ) -> None:
        self.folder, self.kind, self.meta = Path(folder), kind, meta
        self.row_group_rows, self._part_name = row_group_rows, part_name
        about = {"schema_version": schemas.VERSION, "kind": kind, **meta}
        self.schema = schema.with_metadata(
            {
                "threedgp": json.dumps(about, sort_keys=True),
                "huggingface": schemas.hub_metadata(schema, meta.get("class_names", ())),
            }
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        # A run that was killed right before its folder was published has left a manifest but no records.
        self._finished = read_manifest(self.folder).files if (self.folder / MANIFEST).is_file() else []

    def done(self, index: int) -> bool:
        """Whether shard `index` is finished."""
        is_recorded = index < len(self._finished) or self._record(index).is_file()
        return is_recorded and (self.folder / self._part_name.format(index)).is_file()

    def rows(self, index: int) -> int:
        """Rows of the finished shard `index`."""
        return self._file(index).rows

    def write(self, index: int, table: pa.Table) -> None:
        """Write shard `index`.

        Raises:
            ValueError: `table` lacks a column of the schema, or one has another type.
        """
        table = table.select(self.schema.names).cast(self.schema)
        name = self._part_name.format(index)
        with atomic_path(self.folder / name) as path:
            pq.write_table(
                table,
                path,
                row_group_size=self.row_group_rows,
                compression="zstd",
                use_dictionary=False,
                write_statistics=False,
            )
            file = ShardFile(name, table.num_rows, path.stat().st_size, _sha256(path))
        write_json(self._record(index), asdict(file))  # from now on the shard counts as finished

    def finish(self, **more_meta: Any) -> Manifest:
        """Write the manifest. All shards from 0 on must be finished; `more_meta` is added to `meta`.

        Raises:
            ValueError: a shard is missing.
        """
        records = list(self.folder.glob(".*.done.json"))
        files = [self._file(index) for index in takewhile(self.done, count())]
        if len(files) < len(records):
            raise ValueError(f"{self.folder}: not all shards are written")
        meta = {**self.meta, **more_meta}
        content = json.dumps([schemas.VERSION, self.kind, meta, [asdict(file) for file in files]], sort_keys=True)
        manifest = Manifest(
            kind=self.kind,
            rows=sum(file.rows for file in files),
            row_group_rows=self.row_group_rows,
            content_hash=hashlib.sha256(content.encode()).hexdigest(),
            meta=meta,
            files=files,
            schema_version=schemas.VERSION,
        )
        write_json(self.folder / MANIFEST, asdict(manifest))
        for record in records:
            record.unlink()
        return manifest

    def _file(self, index: int) -> ShardFile:
        if index < len(self._finished):
            return self._finished[index]
        return ShardFile(**json.loads(self._record(index).read_text()))

    def _record(self, index: int) -> Path:
        return self.folder / f".{index:05d}.done.json"


class ShardFolder:
    """Reads a folder of shards; thread-safe.

    Each process verifies the checksum of a shard once, before its first use.

    Raises:
        UserError: the folder, its manifest or a shard is missing, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        for file in self.manifest.files:
            self._check_size(file)
        self._verified: set[int] = set()
        self._locks = [threading.Lock() for _ in self.manifest.files]
        self._footer = lru_cache(FOOTERS)(lambda index: pq.read_metadata(self.path(index)))

    def __len__(self) -> int:
        return len(self.manifest.files)

    @property
    def meta(self) -> dict[str, Any]:
        """`meta` of the writer."""
        return self.manifest.meta

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the shards, without metadata."""
        return self._open(0).schema_arrow.remove_metadata()

    def path(self, index: int) -> Path:
        """File of shard `index`."""
        return self.folder / self.manifest.files[index].name

    def verify(self, index: int) -> None:
        """Verify the checksum of shard `index`, once per process.

        Raises:
            UserError: it is missing or damaged.
        """
        with self._locks[index]:
            if index in self._verified:
                return
            file = self.manifest.files[index]
            self._check_size(file)
            if _sha256(self.path(index)) != file.sha256:
                raise _damaged(self.path(index), self.manifest.kind, "its checksum differs from the manifest")
            self._verified.add(index)

    def read(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of shard `index`."""
        file = self._open(index)
        return read_groups(file, range(file.num_row_groups), columns)

    def read_group(self, index: int, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Row group `group` of shard `index`."""
        return read_groups(self._open(index), [group], columns)

    def iterate(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Tables of all shards, in order."""
        for index in range(len(self)):
            yield self.read(index, columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all shards; for small columns such as `id` and `label`."""
        return pa.concat_tables(self.iterate([name])).column(name)

    def _open(self, index: int) -> pq.ParquetFile:
        # Threads must not share a ParquetFile. They may share its footer, whose parsing takes most of the time.
        self.verify(index)
        return pq.ParquetFile(self.path(index), metadata=self._footer(index))

    def _check_size(self, file: ShardFile) -> None:
        path = self.folder / file.name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise _damaged(path, self.manifest.kind, "the shard is missing") from None
        if size != file.bytes:
            raise _damaged(path, self.manifest.kind, f"it has {size} bytes, but the manifest states {file.bytes}")


def read_groups(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str] | None) -> pa.Table:
    """Row groups of a Parquet file. Those with more than 2 GiB in a nested column are read in pieces."""
    try:
        return file.read_row_groups(list(groups), columns=columns, use_threads=False)
    except pa.ArrowNotImplementedError:
        pieces = file.iter_batches(PIECE_ROWS, row_groups=list(groups), columns=columns, use_threads=False)
        return pa.Table.from_batches(pieces)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of shards.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**{**values, "files": [ShardFile(**file) for file in values["files"]]})
    except FileNotFoundError:
        stage = STAGES.get(folder.name, folder.name)
        raise UserError(f"{path}: no such file; run `dvc repro {stage}` to create it.") from None
    except (ValueError, TypeError, KeyError):
        raise _damaged(path, folder.name, "not a manifest of shards") from None
    if manifest.schema_version != schemas.VERSION:
        versions = f"has columns of version {manifest.schema_version}, but this code reads version {schemas.VERSION}"
        raise _damaged(path, manifest.kind, versions)
    return manifest


def _damaged(path: Path, kind: str, what: str) -> UserError:
    return UserError(f"{path}: {what}; run `dvc repro {STAGES.get(kind, kind)}` to create it again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
