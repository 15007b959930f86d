"""Processes that wait for each other, however long, and end together."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from group_work import (
    age_the_store,
    die,
    fill_the_disk,
    hang_and_tell,
    hang_interruptibly,
    meet,
    take_all_memory,
)

from threedgp.runtime import processes
from threedgp.runtime.errors import UserError, explained
from threedgp.runtime.processes import SINGLE_PROCESS, Aborted, Stopped, Work, interruptible, join_group, run_processes


def test_all_wait_for_the_last_and_the_first_leaves_last(tmp_path: Path) -> None:
    run_processes(2, meet, (tmp_path,), lambda: False, at_once=True)
    assert (tmp_path / "entered-0").exists() and (tmp_path / "entered-1").exists()


def test_the_store_of_a_long_run_does_not_look_abandoned(tmp_path: Path) -> None:
    """Otherwise systemd-tmpfiles removes it after ten days, and the first process waits forever for the others."""
    aged, polls = tmp_path / "aged", itertools.count()
    run_processes(1, age_the_store, (aged,), lambda: aged.exists() and next(polls) > 1500)


def test_alone_there_is_nobody_to_wait_for() -> None:
    with join_group() as group:
        assert group is SINGLE_PROCESS and group.is_main
        with group.main_process_first():
            group.wait()


def test_a_killed_process_is_no_orderly_stop() -> None:
    """As when the system kills one because memory ran out."""
    with pytest.raises(MemoryError, match="a process was killed") as caught:
        run_processes(2, die, (), lambda: False, at_once=True)
    assert str(explained(caught.value, "machine.processes")) == (
        "there is too little memory (a process was killed); "
        "lower machine.processes, or close other programs, and run the same command again."
    )


def test_memory_that_runs_out_in_a_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits for it, and is killed."""
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.5)
    with pytest.raises(MemoryError):
        run_processes(2, take_all_memory, (), lambda: False)


@pytest.mark.parametrize(("work", "at_once"), [(hang_and_tell, True), (hang_interruptibly, False)])
def test_one_process_that_is_told_to_stop_stops_all(work: Work, at_once: bool, tmp_path: Path) -> None:
    """As when a person or a scheduler signals a single one of them."""

    def signal_one() -> None:
        while not (children := list(tmp_path.glob("pid-*"))):
            time.sleep(0.05)
        os.kill(int(children[0].name[4:]), signal.SIGTERM)

    threading.Thread(target=signal_one, daemon=True).start()
    with pytest.raises(Stopped):
        run_processes(2, work, (tmp_path,), lambda: False, at_once=at_once)


def test_processes_hold_the_lock_after_their_parent_was_killed(tmp_path: Path, root: Path) -> None:
    program = "from pathlib import Path; import sys; from group_work import work_until_told as work\n"
    program += "from threedgp.runtime.processes import run_processes\n"
    program += "if __name__ == '__main__': place = Path(sys.argv[1])\n"
    program += "if __name__ == '__main__': run_processes(2, work, (place,), lambda: False, lock=place / 'lock')\n"
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", tmp_path], env=environment)
    _wait_for(lambda: len(list(tmp_path.glob("began-*"))) == 2)
    parent.kill()
    parent.wait()
    lock = filelock.FileLock(tmp_path / "lock", timeout=0)
    with pytest.raises(filelock.Timeout):
        lock.acquire()
    (tmp_path / "end").touch()
    lock.acquire(timeout=300)
    assert len(list(tmp_path.glob("ended-*"))) == 2


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_full_disk_is_a_sentence() -> None:
    with pytest.raises(UserError, match="the disk is full; free some space"):
        run_processes(1, fill_the_disk, (), lambda: False)


def test_a_signal_cuts_off_what_would_hide_it_and_is_heard_outside() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(Aborted), interruptible(lambda: False):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            except Exception:
                pytest.fail("taken for a damaged file")
        os.kill(os.getpid(), signal.SIGTERM)  # now only heard again
        assert heard == [signal.SIGTERM] * 2
        with pytest.raises(Aborted), interruptible(lambda: True):
            pytest.fail("it was to stop before")
    finally:
        signal.signal(signal.SIGTERM, before)
