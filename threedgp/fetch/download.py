"""Whole files, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from threedgp.fetch.patience import Patience
from threedgp.fetch.remote import Remote, require_mirror
from threedgp.fetch.transfer import Transfer
from threedgp.fetch.web import Web
from threedgp.fetch.workers import Workers
from threedgp.runtime.atomic import require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

GLANCE = 0.25
"""Seconds between two looks at how far the files are."""


def fetch(
    files: Sequence[Remote],
    folder: Path,
    *,
    title: str,
    connections: int = 4,
    mirror: str | None = None,
    patience: Patience | None = None,
) -> list[Path]:
    """Bring `files` into `folder`, several at once; finished ones are kept, half ones are continued.

    A file lands under its name when it is whole and its checksum is right. A finished file is checked again. A stop
    leaves the parts as hidden files. A file of this machine is hard-linked where the file system can, else copied.

    Args:
        title: what the progress is called.
        connections: files at a time.
        mirror: folder or address below which files are looked for by name before their own addresses are tried.

    Returns:
        where each file is, in the order of `files`.

    Raises:
        UserError: a file cannot be had, is another one than expected, or does not fit on the disk; the parts stay.
            Or `mirror` cannot serve.
    """
    require_mirror(mirror)
    if not files:
        return []
    patience, stop = patience or Patience(), Event()
    if len({file.name for file in files}) < len(files):
        raise UserError(f"{title}: two files would land under the same name in {folder}.")
    transfers: list[Transfer] = []

    def make_room() -> None:
        require_free(folder, sum(transfer.left for transfer in transfers))

    transfers += [Transfer(file, folder, mirror, patience, stop, make_room) for file in files]
    with Workers(min(connections, len(files)), partial(Web, patience), stop) as workers:
        _finish([workers.submit(transfer.ask_size) for transfer in transfers], lambda: None)
        make_room()
        with _meter(title, transfers) as look:
            landed = [workers.submit(transfer.run) for transfer in transfers]
            _finish(landed, look)
    return [future.result() for future in landed]


def _finish(futures: list[Future[object]], look: Callable[[], None]) -> None:
    """Wait until all `futures` are done, or one fails; its exception is raised."""
    running = set(futures)
    while running:
        done, running = wait(running, GLANCE, FIRST_EXCEPTION)
        look()
        for future in done:
            future.result()


@contextmanager
def _meter(title: str, transfers: list[Transfer]) -> Iterator[Callable[[], None]]:
    """Show how far `transfers` are whenever the function is called: in bytes, or in files where a size is unknown."""
    if any(transfer.size is None for transfer in transfers):
        unit, size, total = "files", 1, len(transfers)
    else:
        total = sum(transfer.size or 0 for transfer in transfers)
        unit, size = ("MB", 10**6) if total >= 10**7 else ("kB", 1000) if total >= 10**4 else ("bytes", 1)

    def measure() -> int:
        if unit == "files":
            return landed()
        return sum(transfer.done for transfer in transfers) // size

    def landed() -> int:
        return sum(transfer.landed for transfer in transfers)

    told = measure()
    with progress(title, total // size, unit, told) as bar:

        def look() -> None:
            nonlocal told
            now = measure()
            bar.advance(now - told)
            told = now
            if unit != "files":
                bar.note(f"{landed()} of {len(transfers)} files")

        yield look
