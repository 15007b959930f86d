"""Data sets of the Hugging Face hub in Parquet files, fetched beside their listing."""

from __future__ import annotations

from pathlib import Path

from threedgp.config import MachineConfig
from threedgp.data.archives.parquet_files import training_split
from threedgp.data.archives.references import Reference
from threedgp.fetch.download import fetch
from threedgp.fetch.hub import list_repository
from threedgp.runtime.errors import UserError


def fetch_parquet(repository: str, folder: Path, machine: MachineConfig) -> tuple[Path, list[Reference]]:
    """Fetch the training split of a repository into `folder`.

    Returns:
        the folder of the repository below `folder`, and the files in it.

    Raises:
        UserError: the repository cannot be had, or holds no Parquet files.
    """
    found = list_repository(repository, mirror=machine.mirror)
    offered = {remote.name.removeprefix(f"{repository}/"): remote for remote in found}
    names = training_split([name for name in offered if name.endswith(".parquet")], repository)
    if not names:
        raise UserError(f"{repository}: the repository on the hub holds no Parquet files; set dataset.path to others.")
    wanted = [offered[name] for name in names]
    fetched = fetch(wanted, folder, title="download", connections=machine.connections, mirror=machine.mirror)
    files: list[Reference] = [
        {"name": name, "size": file.stat().st_size, "checksum": remote.checksum or ""}
        for name, remote, file in zip(names, wanted, fetched, strict=True)
    ]
    return folder / repository, files
