"""``threedgp convert``: published snapshots as model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threedgp.runtime.progress import say


def convert(
    snapshot: Annotated[Path, typer.Argument(help="Published snapshot of 3DGP or EpiGRAF (.pkl).")],
    folder: Annotated[Path, typer.Argument(help="Folder for model.safetensors and config.json.")],
) -> None:
    """Convert a published snapshot into a model folder, from which `train.init_from` can train on. Runs no code of the
    snapshot; names what it cannot convert."""
    from threedgp.conversion.models import convert_snapshot

    problem = convert_snapshot(snapshot, folder)
    networks = "generator" if problem else "generator and the discriminator"
    say(f"{folder} now holds the {networks} of {snapshot}.")
    if problem:
        say(f"The discriminator was left out: {problem}. Only further training needs it.")
