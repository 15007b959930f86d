"""Freed memory is used again, instead of being fetched from the kernel page by page."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

BLOCKS, TURNS, SIZE = 6, 20, 12 * 2**20
PAGES = BLOCKS * SIZE // 4096
PROGRAM = f"""
import resource, sys
import numpy as np
from threedgp.runtime.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    blocks = [np.full({SIZE}, 1, np.uint8) for _ in range({BLOCKS})]

work()
before = faults()
for _ in range({TURNS}):
    work()
print((faults() - before) / {TURNS})
"""


def pages_a_turn(how: str) -> float:
    """Pages that a fresh process gets from the kernel each time it fills the same blocks."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_freed_blocks_are_kept() -> None:
    # Page faults of all blocks; where huge pages serve them, the first number is small as well.
    assert pages_a_turn("keep") < 0.01 * PAGES
    assert pages_a_turn("leave") > pages_a_turn("keep")
