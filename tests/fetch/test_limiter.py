"""Turns by a clock of the test's own."""

from __future__ import annotations

from collections import Counter

from threedgp.fetch.limiter import Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_requests_to_one_host_are_spread_evenly() -> None:
    clock = Clock()
    limiter = Limiter(4.0, clock.wait, lambda: clock.now)
    asked = Counter()
    for i in range(41):
        limiter.turn(f"http://one.host/{i}")
        asked[int(clock.now)] += 1
    assert clock.now == 60.0
    assert all(count <= 4 for count in asked.values())


def test_hosts_do_not_wait_for_each_other() -> None:
    clock = Clock()
    limiter = Limiter(1.0, clock.wait, lambda: clock.now)
    for host in ("a", "b", "c", "b:8080"):
        limiter.turn(f"http://{host}/x")
    assert clock.now == 51.0, "only the port differs: it is the same host"


def test_idle_time_is_not_saved_up() -> None:
    clock = Clock()
    limiter = Limiter(1.0, clock.wait, lambda: clock.now)
    limiter.turn("http://a/1")
    clock.now += 100
    began = clock.now
    for i in range(3):
        limiter.turn(f"http://a/{i}")
    assert clock.now - began == 2.0


def test_hold_leaves_one_host_alone() -> None:
    clock = Clock()
    limiter = Limiter(10.0, clock.wait, lambda: clock.now)
    limiter.hold("http://a/1", 30)
    limiter.turn("http://b/1")
    assert clock.now == 50.0
    limiter.turn("http://a/2")
    assert clock.now == 80.0
