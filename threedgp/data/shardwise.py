"""Work on one shard after the other, in parallel within and across shards, that can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from threedgp.atomic import atomic_path
from threedgp.data import schemas
from threedgp.data.parallel import ordered_map
from threedgp.data.shards import ShardWriter
from threedgp.progress import progress

CHUNK_ROWS = 32
"""Rows that a worker takes at a time."""

Work = Callable[[pa.Table], tuple[pa.Table, pa.Table]]
"""From some rows to the table that is wanted and the rejects (schema REJECTS)."""


class ShardwiseJob:
    """Writes shard i from input i, for all i, and keeps the rejects.

    Args:
        label: for the progress bar.
        folder: of the shards; the rejects of each shard are kept beside it until the end.
        writer: of the shards in `folder`.
        workers: threads. The result does not depend on them.
    """

    def __init__(self, label: str, folder: Path, writer: ShardWriter, workers: int) -> None:
        self._label, self._folder, self._writer, self._workers = label, folder, writer, workers
        self._rejects = ShardWriter(folder.with_name("rejects"), schemas.REJECTS, "rejects", {})

    def run(self, inputs: list[Callable[[], pa.Table]], total: int, work: Work) -> Iterator[int]:
        """Write the shards that are missing; yields the number of rejects so far after each.

        Args:
            inputs: give the rows of each shard; called only for missing ones.
            total: rows of all inputs.
            work: called with a few rows at a time, from several threads.
        """
        done = [shard for shard in range(len(inputs)) if self._writer.done(shard)]
        rejected = sum(self._rejects.rows(shard) for shard in done)
        finished = rejected + sum(self._writer.rows(shard) for shard in done)

        def chunks() -> Iterator[tuple[int, pa.Table]]:
            for shard in sorted(set(range(len(inputs))) - set(done)):
                rows = inputs[shard]()
                for start in range(0, max(rows.num_rows, 1), CHUNK_ROWS):
                    yield shard, rows.slice(start, CHUNK_ROWS)

        def work_on(chunk: tuple[int, pa.Table]) -> tuple[int, pa.Table, pa.Table]:
            return chunk[0], *work(chunk[1])

        results = ordered_map(work_on, chunks(), self._workers)
        with progress(self._label, total, done=finished) as bar:
            for shard, parts in groupby(results, key=lambda result: result[0]):
                wanted, left_out = [], []
                for _, table, rejects in parts:
                    wanted.append(table)
                    left_out.append(rejects)
                    bar.advance(table.num_rows + rejects.num_rows)
                rejected += sum(rejects.num_rows for rejects in left_out)
                self._rejects.write(shard, pa.concat_tables(left_out))
                self._writer.write(shard, pa.concat_tables(wanted))  # last: it is what makes the shard done
                yield rejected

    def rejects(self) -> pa.Table:
        """All rejects of the finished shards."""
        files = sorted(self._rejects.folder.glob("part-*.parquet"))
        return pa.concat_tables([schemas.REJECTS.empty_table(), *map(pq.read_table, files)])

    def finish(self, **meta: object) -> None:
        """Write the manifest and ``rejects.parquet``; all shards must be done."""
        rejects = self.rejects()
        with atomic_path(self._folder / "rejects.parquet") as path:
            pq.write_table(rejects, path, write_statistics=False)
        self._writer.finish(rejects=rejects.num_rows, **meta)
