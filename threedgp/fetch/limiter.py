"""Not too many questions at once to one host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit


class Limiter:
    """Hands out turns: to each host at most `per_second`, evenly spaced.

    Args:
        wait: waits some seconds.
        clock: the time in seconds.
    """

    def __init__(
        self, per_second: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gap, self._wait, self._clock = 1 / per_second, wait, clock
        self._next: dict[str | None, float] = {}
        self._lock = threading.Lock()

    def turn(self, url: str) -> None:
        """Wait until the host of `url` may be asked."""
        host = urlsplit(url).hostname
        with self._lock:
            now = self._clock()
            mine = max(now, self._next.get(host, now))
            self._next[host] = mine + self._gap
        if mine > now:
            self._wait(mine - now)

    def hold(self, url: str, seconds: float) -> None:
        """Leave the host of `url` alone for a while."""
        host = urlsplit(url).hostname
        with self._lock:
            now = self._clock()
            self._next[host] = max(now + seconds, self._next.get(host, now))
