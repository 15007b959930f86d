"""Which device to compute on."""

from __future__ import annotations

from typing import Literal

import torch

from threedgp.errors import UserError


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that `machine.device` asks for; `auto` is the GPU where there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("machine.device: 'cuda' is asked for, but PyTorch finds no GPU; set it to 'auto' or 'cpu'.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
