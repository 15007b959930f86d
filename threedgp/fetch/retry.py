"""Retries with exponential back-off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


class TransientError(Exception):
    """A failure that may pass, so that the request is worth repeating.

    Args:
        retry_after: seconds to wait before the next attempt, if the server named them; None = back off.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class PermanentError(Exception):
    """A failure that repeating the request does not cure.

    Args:
        unanswered: whether the reason is that no attempt got a clear answer.
    """

    def __init__(self, reason: str, *, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.unanswered = unanswered


@dataclass(frozen=True)
class RetryPolicy:
    """Limits for attempts and times; all times are in seconds."""

    max_attempts: int = 6
    """In a row, without progress."""
    first_delay: float = 1.0
    """After the first failure; doubled after each further one."""
    max_delay: float = 60.0
    max_retry_after: float = 600.0
    """A server that asks for a longer pause is given up."""
    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    """Without a single byte, after which a connection counts as dead."""
    sleep: Callable[[float], object] = time.sleep

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row. The jitter keeps many machines from retrying at once."""
        return min(self.max_delay, self.first_delay * 2 ** (failures - 1)) * random.uniform(0.5, 1)

    def run(self, action: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
        """Run `action` until it succeeds.

        Args:
            progress: a number that has grown if an attempt was of use, such as the bytes on disk.

        Raises:
            PermanentError: raised by `action`, or after `max_attempts` failures in a row.
        """
        failures, best = 0, progress()
        while True:
            try:
                return action()
            except TransientError as error:
                if progress() > best:
                    failures, best = 0, progress()
                failures += 1
                pause = self.delay(failures) if error.retry_after is None else error.retry_after
                if failures >= self.max_attempts:
                    raise PermanentError(f"{error} ({failures} attempts)", unanswered=True) from None
                if pause > self.max_retry_after:
                    raise PermanentError(f"{error}; try again in {pause:.0f} s", unanswered=True) from None
                self.sleep(pause)
