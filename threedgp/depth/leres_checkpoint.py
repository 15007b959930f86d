"""The published checkpoints of LeReS, `res101.pth` and `res50.pth`: every key is accounted for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from threedgp.depth.estimators.leres import Encoder, Leres
from threedgp.runtime.errors import UserError

PREFIXES = ("module.", "depth_model.")
"""What may stand before a name: of data-parallel training, and of the model around the network."""
COUNTER = "num_batches_tracked"
"""Batch norm's count of training batches, of no effect on results; not every checkpoint has it."""
NAMED = 3
"""Keys that an error names."""


def load_leres(file: Path) -> Leres:
    """The network with the weights in `file`, on the CPU in float32; the file tells which encoder. Runs no code of it.

    Other networks in the file, for the camera's shift and focal length, are passed over.

    Raises:
        UserError: the file is no checkpoint of LeReS; keys that are missing, unknown or of another shape are named.
    """
    found = _read(file)
    encoder: Encoder = "resnext101_32x8d" if "encoder_modules.encoder.layer3.22.conv1.weight" in found else "resnet50"
    with torch.device("meta"):  # no time and memory for weights that are replaced at once
        network = Leres(encoder)
    wanted = network.state_dict()
    counters = {name: torch.tensor(0) for name in wanted if name.endswith(COUNTER)}
    given = {**counters, **found}
    for problem, names in (
        ("lacks", wanted.keys() - given.keys()),
        ("has unknown keys such as", given.keys() - wanted.keys()),
        ("has another shape at", {name for name in wanted.keys() & given.keys() if _differ(wanted[name], given[name])}),
    ):
        if names:
            raise UserError(f"{file}: no checkpoint of LeReS with {encoder}, it {problem} {_some(names)}.")
    weights = {name: value if name in counters else value.float() for name, value in given.items()}
    network.load_state_dict(weights, assign=True)
    return network


def _read(file: Path) -> dict[str, Tensor]:
    """All weights of the checkpoint, by their names without prefixes."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{file}: the weights of LeReS cannot be read ({error.strerror}).") from None
    except Exception:  # unpickling raises nearly everything on broken files
        raise UserError(
            f"{file}: damaged, or no file of weights alone; fetch the checkpoint of LeReS again (docs/depth.md)."
        ) from None
    state: Any = checkpoint.get("depth_model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file}: no checkpoint of LeReS, for it has no weights under the key 'depth_model'.")
    return {_bare(str(name)): value for name, value in state.items()}


def _bare(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _differ(one: Tensor, other: Tensor) -> bool:
    return one.shape != other.shape


def _some(names: Collection[str]) -> str:
    """The first few of `names`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more
