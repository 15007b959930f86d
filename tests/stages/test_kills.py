"""SIGKILL before every file operation of every stage; takes an hour. `.ci/run` kills at some of them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_stage_ends_with_the_same_bytes_wherever_it_was_killed(root: Path) -> None:
    subprocess.run([sys.executable, root / "tests" / "kills.py"], check=True)
