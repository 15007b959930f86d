"""Lists of links, some of which are dead."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fetch.misbehaving import Answer, Server

from threedgp.fetch import links as module
from threedgp.fetch.http import PermanentError, RetryPolicy
from threedgp.fetch.links import RateLimiter, fetch_links
from threedgp.runtime.errors import UserError

Run = Callable[..., Iterator[bytes | PermanentError]]


@pytest.fixture
def run(policy: RetryPolicy) -> Run:
    def run(urls: list[str], **changes: object) -> Iterator[bytes | PermanentError]:
        return fetch_links(urls, **{"requests_per_second": 1e6, "policy": policy, **changes})

    return run


def alive(server: Server, count: int) -> list[str]:
    return [server.script(f"/{i}.jpg", Answer(b"%d" % i)) for i in range(count)]


def test_results_come_in_order_whatever_the_server_does(server: Server, run: Run) -> None:
    urls = alive(server, 100)
    for i in (0, 13):
        server.scripts[f"/{i}.jpg"] = [Answer(b"", 503), Answer(b"12", cut=1), Answer(b"%d" % i)]
    assert list(run(urls)) == [b"%d" % i for i in range(100)]


def test_dead_links_have_reasons(server: Server, run: Run) -> None:
    urls = alive(server, 7)
    server.script("/1.jpg", Answer(b"", 404))
    server.script("/2.jpg", Answer(b"", 302, {"Location": "/pw/images/photo_unavailable.png"}))
    server.script("/pw/images/photo_unavailable.png", Answer(b"sorry"))
    server.script("/3.jpg", Answer(b""))
    server.script("/4.jpg", Answer(b"", 500))
    server.script("/5.jpg", Answer(b"", 302, {"Location": "http://h:999999/"}))
    urls[6:6] = ["file:///etc/hostname", "http://[::1", "http://host:port/", "https:///no/host", "dog.png"]
    found = list(run(urls))
    words = ["HTTP 404", "placeholder", "empty", "HTTP 500", *["not a web address"] * 6]
    assert all(word in str(one) for word, one in zip(words, found[1:-1], strict=True))
    assert found[0] == b"0" and found[-1] == b"6"


def test_next_run_fetches_the_rest(server: Server, run: Run) -> None:
    urls = alive(server, 30)
    results = run(urls, connections=1)
    assert len([next(results) for _ in range(10)]) == 10
    results.close()
    assert list(run(urls[10:])) == [b"%d" % i for i in range(10, 30)]


def test_network_failure_is_not_a_dead_link(
    server: Server, start_server: Callable[[], Server], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNANSWERED", 5)
    gone = start_server()
    gone.close()
    urls = alive(server, 3) + [gone.url(f"/{i}") for i in range(20)]
    found = []
    with pytest.raises(UserError, match=r"5 links in a row gave no answer.*Connection refused.*run the same command"):
        for one in run(urls):
            found.append(one)
    assert found == [b"0", b"1", b"2"]


def test_few_unanswered_links_between_answers_are_dead(
    server: Server, start_server: Callable[[], Server], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNANSWERED", 5)
    gone = start_server()
    gone.close()
    urls = alive(server, 12)
    for i in (1, 2, 3, 4, 6, 7, 10, 11):
        urls[i] = gone.url("/x")
    answers = [b"0", None, None, None, None, b"5", None, None, b"8", b"9", None, None]
    assert [None if isinstance(one, PermanentError) else one for one in run(urls)] == answers


def test_rate_to_one_host(server: Server, run: Run, policy: RetryPolicy) -> None:
    """Each request, also a repeated or redirected one, takes its turn: n turns are n - 1 intervals."""
    waits: list[float] = []
    policy = replace(policy, sleep=waits.append)
    urls = alive(server, 20)
    server.scripts["/3.jpg"].insert(0, Answer(b"", 302, {"Location": "/4.jpg"}))
    began = time.monotonic()
    list(run(urls, requests_per_second=0.01, policy=policy, connections=3))
    passed = time.monotonic() - began
    assert len(server.gets()) == 21
    # A recorded wait leads from the (real) clock to the request's turn: 100, 200, ... seconds after the first.
    assert sorted(waits) == pytest.approx([100.0 * i for i in range(1, 21)], abs=passed + 0.1)


def test_pause_that_a_host_asks_for(server: Server, run: Run, policy: RetryPolicy) -> None:
    waits: list[float] = []
    urls = alive(server, 2)
    server.scripts["/0.jpg"].insert(0, Answer(b"", 429, {"Retry-After": "30"}))
    assert list(run(urls, policy=replace(policy, sleep=waits.append), connections=1)) == [b"0", b"1"]
    assert 30 in waits


def test_connections(server: Server, run: Run) -> None:
    meet = threading.Barrier(3)
    urls = [server.script(f"/{i}", Answer(b"x", meet=meet)) for i in range(9)]
    assert len(list(run(urls, connections=3, policy=RetryPolicy(read_timeout=10)))) == 9
    assert server.max_at_once == 3
    assert len(server.gets()) == 9


def test_work_ahead_is_bounded(server: Server, run: Run) -> None:
    results = run(alive(server, 100), connections=2)
    for _ in range(10):
        next(results)
    assert len(server.gets()) <= module.QUEUED_PER_CONNECTION * 2 + 10
    results.close()


def test_too_large(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    urls = [server.script("/a", Answer(bytes(1001))), server.script("/b", Answer(bytes(1000)))]
    large, fits = run(urls)
    assert str(large) == "it has more than 1000 bytes" and len(fits) == 1000


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_requests_to_one_host_are_spaced_evenly() -> None:
    clock = Clock()
    limiter = RateLimiter(4.0, clock.sleep, lambda: clock.now)
    asked = Counter()
    for _ in range(41):
        limiter.wait("one.host")
        asked[int(clock.now)] += 1
    assert clock.now == 60.0
    assert all(count <= 4 for count in asked.values())


def test_hosts_do_not_wait_for_each_other() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, clock.sleep, lambda: clock.now)
    for host in ("a", "b", "c"):
        limiter.wait(host)
    assert clock.now == 50.0


def test_idle_time_is_not_saved_up() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, clock.sleep, lambda: clock.now)
    limiter.wait("a")
    clock.now += 100
    began = clock.now
    for _ in range(3):
        limiter.wait("a")
    assert clock.now - began == 2.0
