"""Which device to compute on."""

from __future__ import annotations

import os
from typing import Literal

import torch

from threedgp.runtime.errors import UserError


def choose_device(name: Literal["auto", "cpu", "cuda"], setting: str = "machine.device") -> torch.device:
    """The device that `setting` asks for; `auto` is the GPU where there is one, its own for each process of a team.

    Raises:
        UserError: a GPU is asked for and there is none, or there are more processes on this machine than GPUs.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError(f"{setting}: 'cuda' is asked for, but PyTorch finds no GPU; set it to 'auto' or 'cpu'.")
    if not available or name == "cpu":
        return torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return torch.device("cuda")
    local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= found:
        raise UserError(
            f"machine.processes: process {local + 1} of this machine finds only {found} GPUs; start one for each."
        )
    return torch.device("cuda", local)
