"""How long to wait for other machines, and how often to try again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

Result = TypeVar("Result")


class Trouble(Exception):
    """It did not work this time.

    Args:
        wait: seconds after which to try again, where the other side named them; None = back off.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Changed(Trouble):
    """What has come so far does not belong to what would come now; the next try begins anew, at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, wait=0)


class Refused(Exception):
    """It will not work this way, however often it is tried.

    Args:
        absent: the other side says that there is no such file.
        unreachable: no clear answer came, after many tries.
    """

    def __init__(self, reason: str, *, absent: bool = False, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.absent, self.unreachable = absent, unreachable


class Stopped(Exception):
    """The caller wants no more."""


def _wait(seconds: float, stop: Event) -> None:
    stop.wait(seconds)


@dataclass(frozen=True)
class Patience:
    """Limits of time, in seconds, and of tries."""

    attempts: int = 6
    """In a row, without anything gained."""
    first_delay: float = 1.0
    """After the first failure; doubled after each."""
    longest_delay: float = 60.0
    longest_wish: float = 600.0
    """A server that wants a longer pause than this is given up."""
    connect: float = 15.0
    """For a connection to be made."""
    silence: float = 60.0
    """Without a single byte, after which a connection counts as dead."""
    seed: int | None = None
    """Of the jitter, which keeps many machines from trying again all at once; None = another one each time."""
    wait: Callable[[float, Event], None] = _wait
    """Waits some seconds, or until the event is set."""

    def delay(self, name: str, failures: int) -> float:
        """Seconds to wait after the last of `failures` failures: doubled each time, less up to a half at random."""
        dice = random.Random(None if self.seed is None else f"{self.seed}/{name}/{failures}")
        return min(self.longest_delay, self.first_delay * 2 ** (failures - 1)) * dice.uniform(0.5, 1)

    def persist(
        self, action: Callable[[], Result], name: str, stop: Event, gained: Callable[[], int] = lambda: 0
    ) -> Result:
        """Run `action` until it succeeds.

        Args:
            name: decides the jitter, with the seed.
            gained: a number that rises when a try was not in vain, such as the bytes on disk.

        Raises:
            Refused: by `action`, or after `attempts` failures in a row.
            Stopped: `stop` was set.
        """
        failures, most = 0, gained()
        while not stop.is_set():
            try:
                return action()
            except Trouble as trouble:
                if gained() > most:
                    failures, most = 0, gained()
                failures += 1
                if failures >= self.attempts:
                    raise Refused(f"{trouble} ({failures} tries)", unreachable=True) from None
                if trouble.wait is not None and trouble.wait > self.longest_wish:
                    raise Refused(f"{trouble}; try again in {trouble.wait:.0f} s", unreachable=True) from None
                self.wait(self.delay(name, failures) if trouble.wait is None else trouble.wait, stop)
        raise Stopped
