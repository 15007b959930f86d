"""Back-off and the end of patience."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest

from threedgp.fetch.patience import Patience, Refused, Stopped, Trouble


def failing(times: int, wait: float | None = None) -> Callable[[], str]:
    left = [times]

    def action() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise Trouble("busy", wait)
        return "done"

    return action


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def recording(waits: list[float]) -> Patience:
    return Patience(attempts=9, seed=0, wait=lambda seconds, stop: waits.append(seconds))


def test_delays_double_up_to_the_longest_less_a_jitter(recording: Patience, waits: list[float]) -> None:
    assert recording.persist(failing(8), "a", Event()) == "done"
    most = [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(limit / 2 <= delay <= limit for delay, limit in zip(waits, most, strict=True))


def test_jitter_depends_on_seed_and_name_alone() -> None:
    patience = Patience(seed=1)
    assert patience.delay("a", 3) == Patience(seed=1).delay("a", 3)
    assert len({patience.delay("a", 3), patience.delay("b", 3), Patience(seed=2).delay("a", 3)}) == 3
    assert len({Patience().delay("a", 3) for _ in range(5)}) > 1


def test_wished_pause_replaces_the_delay(recording: Patience, waits: list[float]) -> None:
    recording.persist(failing(2, wait=5), "a", Event())
    assert waits == [5, 5]


def test_too_long_a_wish(recording: Patience, waits: list[float]) -> None:
    with pytest.raises(Refused, match="busy; try again in 601 s") as refused:
        recording.persist(failing(1, wait=601), "a", Event())
    assert refused.value.unreachable and not waits


def test_end_of_patience(recording: Patience, waits: list[float]) -> None:
    with pytest.raises(Refused, match=r"busy \(9 tries\)") as refused:
        recording.persist(failing(9), "a", Event())
    assert refused.value.unreachable and len(waits) == 8


def test_tries_that_gain_something_do_not_count(recording: Patience) -> None:
    bytes_here = [0]
    action = failing(50)

    def gaining() -> str:
        bytes_here[0] += 1
        return action()

    assert recording.persist(gaining, "a", Event(), lambda: bytes_here[0]) == "done"


def test_gaining_the_same_again_counts(recording: Patience) -> None:
    """A server without ranges that always breaks at the same place."""
    with pytest.raises(Refused):
        recording.persist(failing(50), "a", Event(), lambda: 7)


def test_refusal_passes_through(recording: Patience, waits: list[float]) -> None:
    def refuse() -> None:
        raise Refused("no", absent=True)

    with pytest.raises(Refused) as refused:
        recording.persist(refuse, "a", Event())
    assert refused.value.absent and not waits


def test_stop_ends_a_wait_at_once() -> None:
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        Patience().persist(failing(1), "a", stop)
    asleep = replace(Patience(first_delay=60), wait=lambda seconds, event: (event.set(), event.wait(seconds)))
    with pytest.raises(Stopped):
        asleep.persist(failing(1), "a", Event())
