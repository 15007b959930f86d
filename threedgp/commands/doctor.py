"""``threedgp doctor``: what this machine has and lacks for the settings in params.yaml."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.table import Table

from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.config import Config, load_config
from threedgp.needs.data import pictures_finding
from threedgp.needs.disk import RESULTS_BYTES, room_needed
from threedgp.needs.finding import Finding
from threedgp.needs.weights import weights_findings

INSTALL = "run `pip install -c constraints.txt -e .`"
LEAST_TOLD = 2**30 / 10
"""Bytes; stages that take less are not named."""


def doctor(params: ParamsOption = PARAMS) -> None:
    """Show what this machine has and lacks for the settings in params.yaml, and what to do about it."""
    findings = examine(load_config(params))
    console = Console()
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = "[green]ok[/]" if finding.fine else "[red]lacks[/]" if finding.needed else "[yellow]without[/]"
        table.add_row(mark, finding.what, finding.found)
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(f"{finding.what}: {finding.advice}", soft_wrap=True, highlight=False)
    if any(finding.needed and not finding.fine for finding in findings):
        raise typer.Exit(1)


def examine(config: Config) -> list[Finding]:
    """Look at everything the pipeline uses; imports torch."""
    return [
        *_software(),
        *_accelerator(config),
        pictures_finding(config),
        *weights_findings(config),
        *_room(config),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _software() -> Iterator[Finding]:
    fine = sys.version_info >= (3, 11)
    yield Finding("Python", platform.python_version(), fine, True, "" if fine else "install Python 3.11 or newer")
    for name, package in (("PyTorch", "torch"), ("DVC", "dvc")):
        version = _version(package)
        yield Finding(name, version or "not installed", version is not None, True, "" if version else INSTALL)


def _accelerator(config: Config) -> Iterator[Finding]:
    required = config.machine.device == "cuda"
    try:
        import torch
    except ImportError:
        yield Finding("CUDA GPU", "unknown without PyTorch", False, required, INSTALL)
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Finding("CUDA GPU", f"{device.name}, {device.total_memory / 2**30:.0f} GiB", True, required)
        triton = _version("triton")
        yield Finding("Triton", triton or "not installed", triton is not None, False, "" if triton else INSTALL)
        return
    if shutil.which("nvidia-smi"):
        advice = f"PyTorch {torch.__version__} does not see the GPU of this machine; match it with the driver"
    elif required:
        advice = "set machine.device to auto or cpu"
    else:
        advice = "not needed for presets toy, smoke, rgbd_example; training at 128 px and above wants one"
    yield Finding("CUDA GPU", "none", False, required, advice)
    yield Finding("Triton", "of no use without a GPU", False, False, "")


def _room(config: Config) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("CPU", f"{cores} cores", cores >= 2, False, "" if cores >= 2 else "expect twice the time")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    advice = "" if memory >= 4 else "lower machine.workers and the batch sizes"
    yield Finding("Memory", f"{memory:.1f} GiB", memory >= 4, False, advice)
    yield _disk(config)


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(".").free
    room = room_needed(config)
    if room is None:
        found = f"{_gib(free)} free; what is needed is known once stage download has listed the pictures"
        return Finding("Disk", found, free >= RESULTS_BYTES, True, "" if free >= RESULTS_BYTES else "free some space")
    parts = [f"{stage.stage} {_gib(stage.stays)}" for stage in room.stages if stage.stays >= LEAST_TOLD]
    found = f"{_gib(free)} free, about {_gib(room.peak)} needed" + (f" ({', '.join(parts)})" if parts else "")
    found += f", and {room.unstated}, of unstated size" if room.unstated else ""
    fine = free >= room.peak
    smaller = (
        "download.count" if config.dataset.source == "procedural" else "select.keep_fraction or dataset.resolution"
    )
    advice = f"about {_gib(room.peak)} are needed here; free some, or lower {smaller} (docs/data.md, Disk)"
    return Finding("Disk", found, fine, True, "" if fine else advice)


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
