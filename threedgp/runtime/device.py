"""Choice of the device to compute on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError


def choose_device(name: Literal["auto", "cpu", "cuda"], setting: str = "machine.device") -> torch.device:
    """The device called `name`, which comes from `setting`; `auto` is the GPU if there is one. Each process of a group
    gets its own GPU. Raises UserError if there is no GPU but `name` is `cuda`, or this machine has more processes than
    GPUs."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError(f"{setting}: 'cuda' is not available, since PyTorch finds no GPU; set it to 'auto' or 'cpu'.")
    if not available or name == "cpu":
        return torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return torch.device("cuda")
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise UserError(f"machine.processes: this machine has {count} GPUs but more processes; start one per GPU.")
    return torch.device("cuda", local)


def write_machine(file: Path, device: torch.device) -> None:
    """Write where a result was computed, for the report."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"
    write_json(file, {"device": name, "torch": torch.__version__})
