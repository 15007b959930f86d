"""Many small files by a list of URLs, some of which are dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import httpx2

from threedgp.fetch.http import PermanentError, RetryPolicy, open_client, open_url
from threedgp.runtime.addresses import is_web_address
from threedgp.runtime.errors import UserError
from threedgp.runtime.parallel import ordered_map

MAX_BYTES = 256 * 2**20
"""Larger files are refused."""
QUEUED_PER_CONNECTION = 8
"""Files that may wait for their turn: bounds memory."""
MAX_UNANSWERED = 20
"""So many URLs in a row without an answer mean that the network is down, not that the links are dead."""
POLICY = RetryPolicy(max_delay=8, max_retry_after=30, read_timeout=20)
"""Shorter times than for a large file, because a stopped run waits for the requests that are under way."""


class RateLimiter:
    """Spaces requests to each host evenly, at most `per_second`. Threads may share one."""

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
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


def fetch_links(
    urls: Sequence[str], *, requests_per_second: float, connections: int = 4, policy: RetryPolicy = POLICY
) -> Iterator[bytes | PermanentError]:
    """Yield the content of `urls`, or why there is none, in their order; `requests_per_second` holds for each host.

    Raises:
        UserError: the network is down. What was yielded before stays valid.
    """
    limiter = RateLimiter(requests_per_second, policy.sleep)
    held: list[PermanentError] = []
    with open_client(policy, lambda request: limiter.wait(request.url.host)) as client:

        def fetch(url: str) -> bytes | PermanentError:
            try:
                return policy.run(lambda: _read(url, client))
            except PermanentError as error:
                return error

        with closing(ordered_map(fetch, urls, connections, QUEUED_PER_CONNECTION)) as results:
            for found in results:
                if isinstance(found, PermanentError) and found.unanswered:
                    held.append(found)
                    if len(held) == MAX_UNANSWERED:
                        raise UserError(
                            f"{len(held)} links in a row gave no answer, the last because {found}; "
                            "check the network and run the same command again to continue."
                        )
                else:  # the network is up, so the links before are dead
                    yield from (*held, found)
                    held.clear()
        yield from held


def _read(url: str, client: httpx2.Client) -> bytes:
    if not is_web_address(url):
        raise PermanentError("this is not a web address")
    with open_url(client, url) as response:
        # Flickr redirects from a deleted photograph to an image that says so.
        if response.history and "unavailable" in response.url.path.rpartition("/")[2]:
            raise PermanentError("a placeholder has replaced it")
        data = bytearray()
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > MAX_BYTES:
                raise PermanentError(f"it has more than {MAX_BYTES} bytes")
    if not data:
        raise PermanentError("it is empty")
    return bytes(data)
