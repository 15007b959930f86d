"""Rows of benchmarks/results/data.jsonl: measurements of the data path with command, machine and versions."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL
import pyarrow as pa
from measuring import environment

PACKAGES = {"numpy": np, "pillow": PIL, "opencv": cv2, "pyarrow": pa}
RESULTS = Path(__file__).parent / "results" / "data.jsonl"


def append_row(what: str, figures: dict[str, object]) -> None:
    """Append a measurement of `what`, with command, device, load of the machine, versions and commit."""
    row = {
        "benchmark": what,
        "command": shlex.join(["python", *sys.argv]),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        **environment("cpu"),
        **figures,
    }
    row["versions"] |= {name: package.__version__ for name, package in PACKAGES.items()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
