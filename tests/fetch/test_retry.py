"""Back-off and its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from threedgp.fetch.http import PermanentError, RetryPolicy, TransientError


def failing(times: int, retry_after: float | None = None) -> Callable[[], str]:
    left = [times]

    def action() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise TransientError("busy", retry_after)
        return "done"

    return action


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def policy(pauses: list[float]) -> RetryPolicy:
    return RetryPolicy(max_attempts=9, sleep=pauses.append)


def test_delays_double_up_to_the_maximum_less_a_jitter(policy: RetryPolicy, pauses: list[float]) -> None:
    assert policy.run(failing(8)) == "done"
    limits = [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(limit / 2 <= delay <= limit for delay, limit in zip(pauses, limits, strict=True))
    assert len({policy.delay(3) for _ in range(5)}) > 1


def test_retry_after_replaces_the_delay(policy: RetryPolicy, pauses: list[float]) -> None:
    policy.run(failing(2, retry_after=5))
    assert pauses == [5, 5]


def test_too_long_a_pause_is_an_error(policy: RetryPolicy, pauses: list[float]) -> None:
    with pytest.raises(PermanentError, match="busy; try again in 601 s") as error:
        policy.run(failing(1, retry_after=601))
    assert error.value.unanswered and not pauses


def test_too_many_attempts_are_an_error(policy: RetryPolicy, pauses: list[float]) -> None:
    with pytest.raises(PermanentError, match=r"busy \(9 attempts\)") as error:
        policy.run(failing(9))
    assert error.value.unanswered and len(pauses) == 8


def test_attempts_with_progress_do_not_count(policy: RetryPolicy) -> None:
    received = [0]
    action = failing(50)

    def receive() -> str:
        received[0] += 1
        return action()

    assert policy.run(receive, lambda: received[0]) == "done"


def test_the_same_progress_again_counts(policy: RetryPolicy) -> None:
    """A server without ranges that always breaks at the same byte."""
    with pytest.raises(PermanentError):
        policy.run(failing(50), lambda: 7)


def test_permanent_errors_are_not_retried(policy: RetryPolicy, pauses: list[float]) -> None:
    def refuse() -> None:
        raise PermanentError("no")

    with pytest.raises(PermanentError) as error:
        policy.run(refuse)
    assert not error.value.unanswered and not pauses
