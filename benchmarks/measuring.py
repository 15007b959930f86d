"""Time and peak memory of a function on a GPU or a CPU, and rows of results with their environment."""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "triton", "numpy", "opencv-python", "pillow", "pyarrow")
"""Packages whose versions are stated, where they are installed."""


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def require_gpu(parser: argparse.ArgumentParser, device: str = "cuda") -> None:
    """Exit with an error message if `device` is a GPU and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is available")


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall-clock time of one call, waiting for the device before and after."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], device: str = "cuda") -> float:
    """Median time of a call, after one to warm up."""
    work()
    return statistics.median(seconds(work, device) for _ in range(10 if device == "cuda" else 3))


def copy_bandwidth(device: str = "cuda") -> float:
    """Bytes per second, read and written, of a copy of 4 GiB within the memory of the device; on a CPU of 256 MiB."""
    source = torch.randn(1 << (30 if device == "cuda" else 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device)


def matrix_rate(device: str = "cuda") -> float:
    """Operations per second of a product of large float32 matrices, as TF32 on a GPU."""
    size = 8192 if device == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device).unbind()
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    rate = 2 * size**3 / median_seconds(lambda: a @ b, device)
    torch.backends.cuda.matmul.allow_tf32 = before
    return rate


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 20 % and 80 % quantiles and minimum in ms; on a busy machine the minimum is the most reliable."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "median_ms": statistics.median(ordered) * 1e3,
        "q20_ms": ordered[round(0.2 * last)] * 1e3,
        "q80_ms": ordered[round(0.8 * last)] * 1e3,
        "min_ms": ordered[0] * 1e3,
    }


def interleaved(
    works: dict[str, Callable[[], object]], device: str, repeats: int, warmups: int = 3
) -> dict[str, dict[str, float]]:
    """Times of several functions, interleaved, after warm-up."""
    for work in works.values():
        for _ in range(warmups):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return {name: quantiles(values) for name, values in times.items()}


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Peak memory while `work` runs, minus what was in use before.

    On a CPU: resident memory, sampled every millisecond by a thread (PyTorch's operators release the GIL).
    """
    gc.collect()
    if device == "cuda":
        _synchronize(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        _synchronize(device)
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    peak, stop = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    peak = max(peak, resident())
    stop.set()
    watcher.join()
    return peak - before


def environment(device: str) -> dict[str, object]:
    """Device, versions, commit and date of a measurement."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": versions,
        "commit": _commit(),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def append_row(file: Path, figures: Mapping[str, object], device: str = "cpu") -> None:
    """Append a measurement to a file of JSON lines, with the command and the environment."""
    row = {**figures, "command": shlex.join(["python", *sys.argv]), **environment(device)}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(row) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    made = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return made.stdout.strip() or None
