"""Shards shared out among threads and processes: the same bytes, nothing twice, little lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shardwise import ShardwiseJob, Work
from threedgp.runtime.processes import SINGLE_PROCESS, ProcessGroup

ROWS = [7, 0, 3, 5, 8]


def numbers(shard: int) -> pa.Table:
    start = sum(ROWS[:shard])
    return pa.table({"id": [str(number) for number in range(start, start + ROWS[shard])]})


def split(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Every third number is left out."""
    names = rows["id"].to_pylist()
    kept = [{"id": name, "label": int(name)} for name in names if int(name) % 3]
    rejects = [{"id": name, "reason": "a third"} for name in names if not int(name) % 3]
    return pa.Table.from_pylist(kept, schemas.SELECTED), pa.Table.from_pylist(rejects, schemas.REJECTS)


def make(folder: Path, workers: int = 1, group: ProcessGroup = SINGLE_PROCESS, chunk_rows: int = 2) -> ShardwiseJob:
    writer = ShardWriter(folder, schemas.SELECTED, "selected", {})
    return ShardwiseJob("numbers", writer, workers, group=group, chunk_rows=chunk_rows)


def run(job: ShardwiseJob, work: Work = split, inputs: Callable[[int], pa.Table] = numbers) -> list[int]:
    return list(job.run(inputs, len(ROWS), sum(ROWS), work))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    job = make(tmp_path / "expected")
    run(job)
    job.finish()
    return contents(tmp_path / "expected")


def test_each_row_is_kept_or_left_out(tmp_path: Path) -> None:
    job = make(tmp_path / "out")
    assert run(job) == [3, 3, 4, 5, 8, 8]  # after each shard, and of all
    job.finish()
    folder = ShardFolder(tmp_path / "out")
    assert [file.rows for file in folder.manifest.files] == [4, 0, 2, 4, 5]
    assert folder.column("label").to_pylist() == [n for n in range(sum(ROWS)) if n % 3]
    assert job.rejects()["id"].to_pylist() == [str(n) for n in range(0, sum(ROWS), 3)]
    assert folder.meta["rejects"] == 8


def test_threads_change_nothing(tmp_path: Path, expected: dict[str, bytes]) -> None:
    job = make(tmp_path / "out", workers=4)
    run(job)
    job.finish()
    assert contents(tmp_path / "out") == expected


class Meeting:
    """What processes count in, for threads that stand in for them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()

    def add(self, key: str, number: int) -> int:
        with self.lock:
            self.counts[key] = self.counts.get(key, 0) + number
            return self.counts[key]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_share_the_shards_and_change_nothing(
    tmp_path: Path, expected: dict[str, bytes], size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    meeting, read, counts = Meeting(), [], {}

    def note(shard: int) -> pa.Table:
        read.append(shard)
        return numbers(shard)

    def process(rank: int) -> None:
        job = make(tmp_path / "out", group=ProcessGroup(rank, size, meeting))
        counts[rank] = run(job, inputs=note)[-1]
        job.finish()

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert contents(tmp_path / "out") == expected
    assert sorted(read) == list(range(len(ROWS)))
    assert counts == dict.fromkeys(range(size), 8)  # all know the rejects of all
    assert capsys.readouterr().out.count("numbers: 23/23") == 1  # one speaks for all


def test_finished_shards_are_not_read_again_by_another_number_of_processes(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    first, read = make(tmp_path / "out", group=ProcessGroup(1, 2)), []
    run_until_wait = first.run(numbers, 5, sum(ROWS), split)
    assert [next(run_until_wait) for _ in range(2)] == [0, 1]  # shards 1 and 3
    run_until_wait.close()

    def note(shard: int) -> pa.Table:
        read.append(shard)
        return numbers(shard)

    job = make(tmp_path / "out")
    run(job, inputs=note)
    job.finish()
    assert read == [0, 2, 4]
    assert contents(tmp_path / "out") == expected


def test_a_complete_shard_is_written_though_the_next_one_fails(tmp_path: Path) -> None:
    def fails_at_the_third(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        if "7" in rows["id"].to_pylist():
            raise ValueError("seven")
        return split(rows)

    with pytest.raises(ValueError, match="seven"):
        run(make(tmp_path / "out"), fails_at_the_third)
    writer = ShardWriter(tmp_path / "out", schemas.SELECTED, "selected", {})
    assert [writer.done(shard) for shard in range(5)] == [True, True, False, False, False]


def test_reading_working_and_writing_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for an event that only the other can set: without overlap nobody would."""
    read, written, worked = threading.Event(), threading.Event(), threading.Event()

    def slow_read(shard: int) -> pa.Table:
        if shard == 2:
            read.set()
        return numbers(shard)

    def slow_work(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        names = rows["id"].to_pylist()
        if "0" in names:
            time.sleep(0.05)
        if "7" in names:  # the first row of shard 2, while shard 0 may still be written
            worked.set()
        return split(rows)

    real = ShardWriter.write

    def slow_write(self: ShardWriter, index: int, table: pa.Table) -> None:
        if self.kind == "selected" and index == 1:
            assert read.wait(5) and worked.wait(5)  # the next shard is read and worked on meanwhile
            written.set()
        real(self, index, table)

    monkeypatch.setattr(ShardWriter, "write", slow_write)
    run(make(tmp_path / "out"), slow_work, slow_read)
    assert written.is_set()


def test_nothing_to_do(tmp_path: Path) -> None:
    assert list(make(tmp_path / "out").run(numbers, 0, 0, split)) == []
