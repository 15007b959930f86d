"""Many small files by a list of addresses, some of which are dead."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from threedgp.fetch.limiter import Limiter
from threedgp.fetch.patience import Patience, Refused, Trouble
from threedgp.fetch.remote import is_web_address
from threedgp.fetch.web import Web
from threedgp.fetch.workers import Workers
from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

LARGEST = 256 * 2**20
"""Bytes; more is no small file."""
AHEAD = 8
"""Files that may wait for their turn, for each connection: bounds memory."""
SILENT_LINKS = 20
"""So many links in a row without an answer mean that not the links are dead but the network."""


@dataclass(frozen=True)
class Link:
    """A file of the list."""

    key: str
    url: str


@dataclass(frozen=True)
class Fetched:
    """What became of a link: its bytes, or why there are none."""

    key: str
    data: bytes | None
    reason: str | None = None
    silent: bool = False
    """Whether the reason is that no answer came."""


class DeadLinks:
    """Keys and reasons, kept in a file of JSON lines."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.reasons: dict[str, str] = {}
        lines = record.read_bytes().splitlines(keepends=True) if record.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # a kill may have torn the last one
        for line in whole:
            try:
                row = json.loads(line)
                self.reasons[row["key"]] = row["reason"]
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{record}: is no list of dead links; delete it and run the same command again."
                ) from None
        if len(whole) < len(lines):
            atomic.write_bytes(record, b"".join(whole))

    def add(self, link: Link, reason: str) -> None:
        self.reasons[link.key] = reason
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with self.record.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": link.key, "url": link.url, "reason": reason}) + "\n")


def fetch_links(
    links: Sequence[Link],
    record: Path,
    *,
    title: str,
    max_dead: float,
    requests_per_second: float,
    connections: int = 4,
    total: int | None = None,
    patience: Patience | None = None,
) -> Iterator[Fetched]:
    """Yield what `links` lead to, in their order.

    Args:
        links: those still wanted; a caller that goes on after a stop leaves out those whose bytes it has.
        record: JSON lines of the dead links (`key`, `url`, `reason`), kept from run to run: none is asked twice.
        title: what the progress is called.
        max_dead: more dead links than this share of `total` are an error.
        requests_per_second: to one host, at most.
        total: number of all links, with those that earlier runs fetched; None = `len(links)`.

    Raises:
        UserError: too many dead links, or the network is away. What was yielded before stays good.
    """
    total = len(links) if total is None else total
    patience, stop, dead = patience or Patience(), Event(), DeadLinks(record)
    limiter = Limiter(requests_per_second, lambda seconds: patience.wait(seconds, stop))

    def check() -> None:
        if len(dead.reasons) > max_dead * total:
            raise UserError(
                f"{title}: {len(dead.reasons)} of {total} links are dead, more than the share of {max_dead:g} that "
                f"machine.max_dead_links allows; {record} says why. Raise it, or delete that file to ask them again."
            )

    check()
    with (
        Workers(connections, lambda: Web(patience, limiter.turn), stop) as workers,
        progress(title, total, "links", total - len(links)) as bar,
    ):
        ask = partial(_ask, patience, limiter, stop)
        held: list[tuple[Link, Fetched]] = []
        silent = 0
        for link, fetched in _in_order(links, dead, workers, ask, AHEAD * connections):
            held.append((link, fetched))
            silent += fetched.silent
            if silent == SILENT_LINKS:
                raise UserError(
                    f"{title}: {silent} links in a row gave no answer, the last because {fetched.reason}; "
                    "check the network and run the same command again, it goes on from here."
                )
            if silent and (fetched.silent or link.key in dead.reasons):
                continue  # only an answer shows that those before are dead, and not the network
            yield from _settle(held, dead)
            check()
            bar.advance(len(held))
            bar.note(f"{len(dead.reasons)} dead")
            held, silent = [], 0
        yield from _settle(held, dead)
        check()
        bar.advance(len(held))


def _settle(held: list[tuple[Link, Fetched]], dead: DeadLinks) -> Iterator[Fetched]:
    for link, fetched in held:
        if fetched.reason is not None and link.key not in dead.reasons:
            dead.add(link, fetched.reason)
        yield fetched


def _in_order(
    links: Sequence[Link], dead: DeadLinks, workers: Workers, ask: Callable[[Link, Web], Fetched], ahead: int
) -> Iterator[tuple[Link, Fetched]]:
    waiting: deque[tuple[Link, Future[Fetched]]] = deque()
    coming = iter(links)
    while True:
        for link in itertools.islice(coming, ahead - len(waiting)):
            if link.key in dead.reasons:
                known: Future[Fetched] = Future()
                known.set_result(Fetched(link.key, None, dead.reasons[link.key]))
                waiting.append((link, known))
            else:
                waiting.append((link, workers.submit(partial(ask, link))))
        if not waiting:
            return
        link, future = waiting.popleft()
        yield link, future.result()


def _ask(patience: Patience, limiter: Limiter, stop: Event, link: Link, web: Web) -> Fetched:
    def read() -> bytes:
        try:
            return _read(link.url, web, stop)
        except Trouble as trouble:
            if trouble.wait:
                limiter.hold(link.url, trouble.wait)
            raise

    try:
        return Fetched(link.key, patience.persist(read, link.url, stop))
    except Refused as reason:
        return Fetched(link.key, None, str(reason), reason.unreachable)


def _read(url: str, web: Web, stop: Event) -> bytes:
    """All bytes of a small file."""
    if not is_web_address(url):
        raise Refused("this is no web address")
    content = web.open(url)
    try:
        # Flickr answers for a deleted picture with one that says so.
        if content.url != url and "unavailable" in content.url.rpartition("/")[2]:
            raise Refused("there is a placeholder in its place")
        chunks, size = [], 0
        while data := content.read():
            size += len(data)
            if size > LARGEST:
                raise Refused(f"it has more than {LARGEST} bytes")
            chunks.append(data)
    finally:
        content.close()
    total = content.version.total
    if stop.is_set() or (total is not None and size < total):
        raise Trouble("the connection ended too early")
    if not size:
        raise Refused("it is empty")
    return b"".join(chunks)
