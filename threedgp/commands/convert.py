"""``threedgp convert``: published snapshots as model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    snapshot: Annotated[Path, typer.Argument(help="Published snapshot of 3DGP or EpiGRAF (.pkl).")],
    folder: Annotated[Path, typer.Argument(help="Folder for model.safetensors and config.json.")],
) -> None:
    """Convert a published snapshot into a model folder. Runs no code of the snapshot; names what it cannot convert."""
    from threedgp.conversion.models import convert_snapshot

    convert_snapshot(snapshot, folder)
    print(f"{folder} now holds the generator of {snapshot}.")
