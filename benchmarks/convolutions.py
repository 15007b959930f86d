"""Time of 3x3 convolutions by Winograd's method (`threedgp/models/winograd.py`) against PyTorch's own, on a CPU.

    PYTHONPATH=. python benchmarks/convolutions.py

Forward alone, and forward and backward for inputs and weights, in turn in one process; channels last. Appends a row for
each size, with device, versions and commit, to benchmarks/results/convolutions.jsonl.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import environment, interleaved
from torch import Tensor

from threedgp.models import winograd
from threedgp.runtime.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results" / "convolutions.jsonl"
SIZES = ((8, 64, 32), (16, 64, 16), (8, 64, 16), (8, 64, 8), (8, 128, 32), (4, 256, 32), (8, 32, 32), (4, 16, 32))
"""Batch, channels in and out, and side of the picture; the first four are those of `toy`."""


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's own."""
    return F.conv2d(x, weight, padding=1)


METHODS = {"winograd": winograd.convolve, "pytorch": plain}


def works(batch: int, channels: int, side: int) -> dict[str, Callable[[], object]]:
    """What is timed at one size."""
    torch.manual_seed(0)
    shapes = (batch, channels, side, side), (channels, channels, 3, 3), (batch, channels, side, side)
    x, weight, grad = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for shape in shapes)
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    made: dict[str, Callable[[], object]] = {}
    for name, convolve in METHODS.items():
        made[f"{name} forward"] = functools.partial(convolve, x, weight)
        made[f"{name} both"] = lambda f=convolve: torch.autograd.grad(f(*leaves), leaves, grad)
    return made


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40, help="measurements of each")
    options = parser.parse_args()
    if winograd.reason_against():
        sys.exit(f"no such convolutions here: {winograd.reason_against()}")
    winograd.WEIGHTS_PER_TILE = 1 << 60  # also where it does not pay
    keep_freed_memory()
    for size in SIZES:
        times = interleaved(works(*size), "cpu", options.repeats)
        row = dict(zip(("batch", "channels", "side"), size, strict=True)) | times | environment("cpu")
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
        for what in ("forward", "both"):
            ours, plain = (times[f"{name} {what}"]["median_ms"] for name in METHODS)
            print(f"{size} {what}: {ours:.2f} ms, PyTorch {plain:.2f} ms, {plain / ours:.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
