"""Many small files by a list of links, some of which are dead."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2

from threedgp.fetch.http import open_client, open_url
from threedgp.fetch.retry import PermanentError, RetryPolicy, TransientError
from threedgp.runtime import atomic
from threedgp.runtime.addresses import is_web_address
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

MAX_BYTES = 256 * 2**20
"""Larger files are refused."""
QUEUED_PER_CONNECTION = 8
"""Files that may wait for their turn: bounds memory."""
MAX_UNANSWERED = 20
"""So many links in a row without an answer mean that the network is down, not that the links are dead."""


@dataclass(frozen=True)
class Link:
    """An entry of the list."""

    key: str
    url: str


@dataclass(frozen=True)
class Fetched:
    """The content behind a link, or why there is none."""

    key: str
    data: bytes | None
    reason: str | None = None
    unanswered: bool = False
    """Whether the reason is that no answer came."""


class RateLimiter:
    """Spaces requests to each host evenly, at most `per_second`. Threads may share one.

    Args:
        sleep: waits for some seconds.
        clock: time in seconds.
    """

    def __init__(
        self, per_second: float, sleep: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._sleep, self._clock = 1 / per_second, sleep, clock
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Wait until `host` may be asked."""
        with self._lock:
            now = self._clock()
            mine = max(now, self._next.get(host, now))
            self._next[host] = mine + self._interval
        if mine > now:
            self._sleep(mine - now)

    def hold(self, host: str, seconds: float) -> None:
        """Send `host` no request for a while."""
        with self._lock:
            now = self._clock()
            self._next[host] = max(now + seconds, self._next.get(host, now))


class DeadLinks:
    """Keys and reasons of dead links, kept in a file of JSON lines.

    Raises:
        UserError: the file is something else.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        self.reasons: dict[str, str] = {}
        lines = record.read_bytes().splitlines(keepends=True) if record.exists() else []
        complete = [line for line in lines if line.endswith(b"\n")]  # the last one may be cut off by a kill
        for line in complete:
            try:
                row = json.loads(line)
                self.reasons[row["key"]] = row["reason"]
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{record}: is not a list of dead links; delete it and run the same command again."
                ) from None
        if len(complete) < len(lines):
            atomic.write_bytes(record, b"".join(complete))

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
    policy: RetryPolicy | None = None,
) -> Iterator[Fetched]:
    """Yield the content of `links`, in their order.

    Args:
        links: links still to be fetched; a caller that resumes leaves out those whose content it has.
        record: JSON lines of the dead links (`key`, `url`, `reason`), kept from run to run: none is asked twice.
        title: label of the progress bar.
        max_dead: more dead links than this share of `total` are an error.
        requests_per_second: limit for each host.
        connections: concurrent requests.
        total: number of all links, with those that earlier runs fetched; None = `len(links)`.

    Raises:
        UserError: too many links are dead, or the network is down. What was yielded before stays valid.
    """
    total = len(links) if total is None else total
    policy, dead = policy or RetryPolicy(), DeadLinks(record)
    limiter = RateLimiter(requests_per_second, policy.sleep)

    def check_dead() -> None:
        if len(dead.reasons) > max_dead * total:
            raise UserError(
                f"{title}: {len(dead.reasons)} of {total} links are dead, more than the share of {max_dead:g} that "
                f"machine.max_dead_links allows; {record} lists the reasons. Raise the limit, or delete that file to "
                "try them again."
            )

    check_dead()
    held: list[tuple[Link, Fetched]] = []
    unanswered = 0
    with (
        open_client(policy, lambda request: limiter.wait(request.url.host)) as client,
        closing(_DaemonThreads(connections)) as threads,
        progress(title, total, "links", total - len(links)) as bar,
    ):

        def release() -> Iterator[Fetched]:
            for link, fetched in held:
                if fetched.reason is not None and link.key not in dead.reasons:
                    dead.add(link, fetched.reason)
                yield fetched
            check_dead()
            bar.advance(len(held))
            bar.note(f"{len(dead.reasons)} dead")
            held.clear()

        def submit(link: Link) -> Future[Fetched]:
            if link.key not in dead.reasons:
                return threads.submit(lambda: _fetch(link, client, limiter, policy))
            known: Future[Fetched] = Future()
            known.set_result(Fetched(link.key, None, dead.reasons[link.key]))
            return known

        for link, fetched in _in_order(links, submit, QUEUED_PER_CONNECTION * connections):
            held.append((link, fetched))
            unanswered += fetched.unanswered
            if unanswered == MAX_UNANSWERED:
                raise UserError(
                    f"{title}: {unanswered} links in a row gave no answer, the last because {fetched.reason}; "
                    "check the network and run the same command again to continue."
                )
            if unanswered and (fetched.unanswered or link.key in dead.reasons):
                continue  # only an answer shows that the network is up, and the links before are dead
            unanswered = 0
            yield from release()
        yield from release()


def _in_order(
    links: Sequence[Link], submit: Callable[[Link], Future[Fetched]], max_queued: int
) -> Iterator[tuple[Link, Fetched]]:
    waiting: deque[tuple[Link, Future[Fetched]]] = deque()
    remaining = iter(links)
    while True:
        waiting.extend((link, submit(link)) for link in itertools.islice(remaining, max_queued - len(waiting)))
        if not waiting:
            return
        link, future = waiting.popleft()
        yield link, future.result()


def _fetch(link: Link, client: httpx2.Client, limiter: RateLimiter, policy: RetryPolicy) -> Fetched:
    def read() -> bytes:
        try:
            return _read(link.url, client)
        except TransientError as error:
            if error.retry_after:
                limiter.hold(httpx2.URL(link.url).host, error.retry_after)
            raise

    try:
        if not is_web_address(link.url):
            raise PermanentError("this is not a web address")
        return Fetched(link.key, policy.run(read))
    except PermanentError as error:
        return Fetched(link.key, None, str(error), error.unanswered)


def _read(url: str, client: httpx2.Client) -> bytes:
    with open_url(client, url) as response:
        # Flickr redirects from a deleted photograph to an image that says so.
        if response.history and "unavailable" in response.url.path.rpartition("/")[2]:
            raise PermanentError("a placeholder has replaced it")
        chunks, size = [], 0
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > MAX_BYTES:
                raise PermanentError(f"it has more than {MAX_BYTES} bytes")
            chunks.append(chunk)
    if not size:
        raise PermanentError("it is empty")
    return b"".join(chunks)


class _DaemonThreads:
    """Threads that do not keep the process alive.

    Python waits for the threads of a ThreadPoolExecutor before it exits, and one that waits for a silent server would
    delay a stopped command by a minute.
    """

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Fetched], Future[Fetched]]] = queue.SimpleQueue()
        self._closed = threading.Event()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, task: Callable[[], Fetched]) -> Future[Fetched]:
        future: Future[Fetched] = Future()
        self._tasks.put((task, future))
        return future

    def close(self) -> None:
        """Begin no further task; do not wait for those that run."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                task, future = self._tasks.get(timeout=1)
            except queue.Empty:
                continue
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)
