"""`ordered_map` in processes: order, errors, and that neither process nor traceback is left when the run is stopped."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from itertools import chain, islice, repeat
from pathlib import Path

import pytest

from threedgp.runtime.parallel import ordered_map

ENDLESS = """
import itertools, os, signal, sys
from threedgp.runtime.parallel import ordered_map

def work(number):
    return number, os.getpid()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
    try:
        for number, pid in ordered_map(work, itertools.count(), 2, processes=True):
            print(pid, flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def test_order_and_errors() -> None:
    results = ordered_map(math.factorial, chain([30_000, 3, 20_000, 2, -1], repeat(1)), 2, processes=True)
    assert list(islice(results, 4)) == [math.factorial(30_000), 6, math.factorial(20_000), 2]
    with pytest.raises(ValueError, match="negative"):
        next(results)


def test_killed_process_means_too_little_memory() -> None:
    with pytest.raises(MemoryError, match="killed"):
        list(ordered_map(signal.raise_signal, [signal.SIGKILL] * 3, 1, processes=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_and_no_traceback_is_left(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal, a kill only the first."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    command = [sys.executable, str(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, start_new_session=True)
    assert process.stdout
    workers = {int(process.stdout.readline()) for _ in range(200)}
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    out, errors = process.communicate(timeout=300)  # ends when the last process has closed its pipes
    assert "Traceback" not in errors and (number == signal.SIGKILL or out.endswith("stopped\n"))
    for _ in range(200):
        if not any(Path("/proc", str(worker)).exists() for worker in workers):
            return
        time.sleep(0.05)
    raise AssertionError(f"processes {workers} are left")
