"""Resumable work on shards, distributed over threads and processes.

Process r of n takes the shards r, r + n, ... In each process one thread reads the next shard, several work on rows, and
one writes the previous shard. The bytes of a shard depend on its rows only, not on the number of threads and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq

from threedgp.data import schemas
from threedgp.data.shards import ShardWriter
from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.parallel import ordered_map
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup
from threedgp.runtime.progress import Progress, progress

CHUNK_ROWS = 32
"""Rows that a thread processes at a time."""

Work = Callable[[pa.Table], tuple[pa.Table, pa.Table]]
"""Maps a batch of rows to the output rows and the rejects (schema REJECTS)."""


class ShardwiseJob:
    """Writes output shard i from input i, for all i, and collects the rejects.

    Args:
        label: of the progress bar.
        writer: of the shards; the rejects of each shard are stored beside its folder until the end.
        workers: threads that work on rows.
        group: the processes that share the shards.
        chunk_rows: rows that a thread processes at a time. The result depends on it only if that of `work` does.
    """

    def __init__(
        self,
        label: str,
        writer: ShardWriter,
        workers: int,
        *,
        group: ProcessGroup = SINGLE_PROCESS,
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        self._label, self._writer, self._workers = label, writer, workers
        self._group, self._chunk_rows = group, chunk_rows
        rejects = writer.folder.with_name(f"{writer.folder.name}-rejects")
        self._rejects = ShardWriter(rejects, schemas.REJECTS, "rejects", {})

    def run(self, read: Callable[[int], pa.Table], count: int, total: int, work: Work) -> Iterator[int]:
        """Write the missing ones of `count` shards; yields the number of rejects so far after each.

        At the end it waits for the other processes and yields the number of rejects of all.

        Args:
            read: returns the input rows of a shard; called only for missing shards.
            total: input rows of all shards.
            work: called with `chunk_rows` rows at a time, from several threads.
        """
        done = [shard for shard in range(count) if self._writer.done(shard) and self._rejects.done(shard)]
        missing = set(range(count)) - set(done)
        mine = sorted(shard for shard in missing if shard % self._group.size == self._group.rank)
        others = missing - set(mine)
        num_rejects = sum(self._rejects.rows(shard) for shard in done)
        num_rows = sum(self._input_rows(shard) for shard in done)

        def show_others() -> None:
            """Advance the progress bar by the shards that other processes have finished."""
            for shard in [shard for shard in others if self._writer.done(shard)]:
                others.remove(shard)
                bar.advance(self._input_rows(shard))

        with progress(self._label, total, done=num_rows, visible=self._group.is_main) as bar:
            for rejected in self._write_shards(mine, read, work, bar):
                num_rejects += rejected
                show_others()
                yield num_rejects
            self._group.wait(show_others)
            show_others()
        if count:
            yield sum(self._rejects.rows(shard) for shard in range(count))

    def _write_shards(
        self, shards: list[int], read: Callable[[int], pa.Table], work: Work, bar: Progress
    ) -> Iterator[int]:
        """Write the given shards; yields the number of rejects of each."""

        def chunks() -> Iterator[tuple[pa.Table, bool]]:
            """Consecutive rows of the shards, and whether they are the last ones of a shard."""
            for table in tables:
                starts = range(0, max(table.num_rows, 1), self._chunk_rows)
                for start in starts:
                    yield table.slice(start, self._chunk_rows), start == starts[-1]

        def work_on(chunk: tuple[pa.Table, bool]) -> tuple[pa.Table, pa.Table, bool]:
            rows, is_last = chunk
            return *work(rows), is_last

        def write(shard: int, kept: list[pa.Table], rejects: list[pa.Table]) -> int:
            self._rejects.write(shard, pa.concat_tables(rejects))
            self._writer.write(shard, pa.concat_tables(kept))  # last, since it marks the shard as finished
            return self._rejects.rows(shard)

        with (
            # Entered first, so left last: a complete shard is written even if the next one fails.
            ThreadPoolExecutor(1, thread_name_prefix="write") as pool,
            closing(ordered_map(read, shards, 1, ahead=1)) as tables,
            closing(ordered_map(work_on, chunks(), self._workers)) as outputs,
        ):
            unwritten, previous, kept, rejects = iter(shards), None, [], []
            for kept_rows, rejected_rows, is_last in outputs:
                kept.append(kept_rows)
                rejects.append(rejected_rows)
                bar.advance(kept_rows.num_rows + rejected_rows.num_rows)
                if is_last:
                    if previous:
                        yield previous.result()
                    previous = pool.submit(write, next(unwritten), kept, rejects)
                    kept, rejects = [], []
            if previous:
                yield previous.result()

    def _input_rows(self, shard: int) -> int:
        """Input rows of a finished shard."""
        return self._writer.rows(shard) + self._rejects.rows(shard)

    def rejects(self) -> pa.Table:
        """All rejects of the finished shards."""
        files = sorted(self._rejects.folder.glob("part-*.parquet"))
        return pa.concat_tables([schemas.REJECTS.empty_table(), *map(pq.read_table, files)])

    def finish(self, **meta: object) -> None:
        """Write the manifest and ``rejects.parquet``, in the first process; all shards must be finished."""
        if not self._group.is_main:
            return
        rejects = self.rejects()
        with atomic_path(self._writer.folder / "rejects.parquet") as path:
            pq.write_table(rejects, path, write_statistics=False)
        self._writer.finish(rejects=rejects.num_rows, **meta)
