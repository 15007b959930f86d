"""Limits of time and memory for what a hostile file may cost."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 300
"""After which a call hangs; none takes more than a few."""
MEMORY = 2**31
"""Bytes that a call may allocate."""


def _hangs(*_: Any) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s")


@contextmanager
def limits() -> Iterator[None]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
