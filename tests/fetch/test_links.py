"""Lists of links, some of which are dead."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server

from threedgp.fetch import links as module
from threedgp.fetch.links import Fetched, Link, RateLimiter, fetch_links
from threedgp.fetch.retry import RetryPolicy
from threedgp.runtime.errors import UserError

Run = Callable[..., Iterator[Fetched]]


@pytest.fixture
def run(tmp_path: Path, policy: RetryPolicy) -> Run:
    def run(links: list[Link], **changes: object) -> Iterator[Fetched]:
        usual = {"title": "sdip", "max_dead": 0.5, "requests_per_second": 1e6, "policy": policy}
        return fetch_links(links, tmp_path / "dead.jsonl", **{**usual, **changes})

    return run


def alive(server: Server, count: int) -> list[Link]:
    return [Link(f"k{i}", server.script(f"/{i}.jpg", Answer(b"%d" % i))) for i in range(count)]


def recorded(tmp_path: Path) -> dict[str, str]:
    lines = (tmp_path / "dead.jsonl").read_text().splitlines()
    return {row["key"]: row["reason"] for row in map(json.loads, lines)}


def test_results_come_in_order_whatever_the_server_does(server: Server, run: Run) -> None:
    links = alive(server, 100)
    for i in (0, 13):
        server.scripts[f"/{i}.jpg"] = [Answer(b"", 503), Answer(b"12", cut=1), Answer(b"%d" % i)]
    found = list(run(links))
    assert [one.key for one in found] == [link.key for link in links]
    assert [one.data for one in found] == [b"%d" % i for i in range(100)]


def test_dead_links_have_reasons_and_are_recorded(server: Server, run: Run, tmp_path: Path) -> None:
    links = alive(server, 12)
    server.script("/1.jpg", Answer(b"", 404))
    server.script("/2.jpg", Answer(b"", 410))
    server.script("/3.jpg", Answer(b"", 302, {"Location": "/pw/images/photo_unavailable.png"}))
    server.script("/pw/images/photo_unavailable.png", Answer(b"sorry"))
    server.script("/4.jpg", Answer(b""))
    server.script("/5.jpg", Answer(b"", 500))
    links[6] = Link("k6", "file:///etc/hostname")
    for number, url in enumerate(("http://[::1", "http://host:port/", "https:///no/host", "dog.png")):
        links.insert(7 + number, Link(f"k6.{number}", url))
    found = {one.key: one for one in run(links, max_dead=0.7)}
    reasons = {key: one.reason for key, one in found.items() if one.data is None}
    assert reasons == recorded(tmp_path)
    assert list(reasons) == ["k1", "k2", "k3", "k4", "k5", "k6", "k6.0", "k6.1", "k6.2", "k6.3"]
    assert len({reason for key, reason in reasons.items() if key.startswith("k6")}) == 1
    for key, word in (
        ("k1", "HTTP 404"), ("k2", "HTTP 410"), ("k3", "placeholder"), ("k4", "empty"), ("k5", "HTTP 500"),
        ("k6", "not a web address"),
    ):  # fmt: skip
        assert word in reasons[key]
    assert found["k7"].data == b"7"


@pytest.mark.parametrize("target", ["http://h:999999/", "http://[bad", "http://h\xff/"])
def test_link_that_leads_to_no_address_is_one_dead_link(server: Server, run: Run, target: str) -> None:
    links = alive(server, 3)
    server.script("/1.jpg", Answer(b"", 302, {"Location": target}))
    assert [one.data for one in run(links)] == [b"0", None, b"2"]


def test_next_run_asks_no_dead_link(server: Server, run: Run) -> None:
    links = alive(server, 10)
    server.script("/1.jpg", Answer(b"", 404))
    server.script("/8.jpg", Answer(b"", 404))
    first = list(run(links))
    server.seen.clear()
    assert list(run(links)) == first
    assert len(server.gets()) == 8 and not server.gets("/1.jpg") and not server.gets("/8.jpg")


def test_stopped_run_goes_on_with_what_is_wanted(server: Server, run: Run, tmp_path: Path) -> None:
    """The caller keeps what it has, and counts it in `total`."""
    links = alive(server, 30)
    server.script("/2.jpg", Answer(b"", 404))
    results = run(links, connections=1)
    have = [next(results) for _ in range(10)]
    results.close()
    assert recorded(tmp_path) == {"k2": have[2].reason}
    server.seen.clear()
    rest = list(run(links[10:], total=30, max_dead=1 / 30))
    assert [one.data for one in rest] == [b"%d" % i for i in range(10, 30)]
    assert {one.path for one in server.gets()} >= {f"/{i}.jpg" for i in range(10, 30)}
    assert len(server.gets()) <= 21, "a request of the stopped run may still have been under way"


def test_too_many_dead_links(server: Server, run: Run, tmp_path: Path) -> None:
    links = alive(server, 40)
    for i in range(0, 40, 2):
        server.script(f"/{i}.jpg", Answer(b"", 404))
    found = []
    with pytest.raises(UserError, match=r"11 of 40 links are dead.* 0\.25 .*machine\.max_dead_links.*dead\.jsonl"):
        for one in run(links, max_dead=0.25):
            found.append(one)
    assert len(found) == 21 and len(recorded(tmp_path)) == 11
    server.seen.clear()
    with pytest.raises(UserError, match="11 of 40"):
        list(run(links, max_dead=0.25))
    assert server.seen == []
    assert len(list(run(links, max_dead=0.5))) == 40


def test_dead_network_is_no_dead_link(
    server: Server, start_server: Callable[[], Server], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNANSWERED", 5)
    gone = start_server()
    gone.close()
    links = alive(server, 3) + [Link(f"g{i}", gone.url(f"/{i}")) for i in range(20)]
    found = []
    with pytest.raises(UserError, match=r"5 links in a row gave no answer.*Connection refused.*run the same command"):
        for one in run(links, max_dead=1):
            found.append(one)
    assert [one.data for one in found] == [b"0", b"1", b"2"]
    assert not (tmp_path / "dead.jsonl").exists()


def test_few_silent_links_between_answers_are_dead(
    server: Server, start_server: Callable[[], Server], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNANSWERED", 5)
    gone = start_server()
    gone.close()
    links = alive(server, 12)
    for i in (1, 2, 3, 4, 6, 7, 10, 11):
        links[i] = Link(f"k{i}", gone.url("/x"))
    found = list(run(links, max_dead=1))
    assert [one.key for one in found] == [link.key for link in links]
    assert set(recorded(tmp_path)) == {one.key for one in found if one.data is None}
    assert [one.data for one in found if one.data] == [b"0", b"5", b"8", b"9"]


def test_rate_to_one_host(server: Server, run: Run, policy: RetryPolicy) -> None:
    """Each request, repeated and redirected ones too, takes its turn: n turns are n - 1 gaps of waiting."""
    gaps: list[float] = []
    policy = replace(policy, sleep=gaps.append)
    links = alive(server, 20)
    server.scripts["/3.jpg"].insert(0, Answer(b"", 302, {"Location": "/4.jpg"}))
    now = time.monotonic()
    list(run(links, requests_per_second=0.01, policy=policy, connections=3))
    passed = time.monotonic() - now
    assert len(server.gets()) == 21
    # A recorded wait leads from the (real) clock to the request's turn: 100, 200, ... seconds after the first.
    assert sorted(gaps) == pytest.approx([100.0 * i for i in range(1, 21)], abs=passed + 0.1)


def test_pause_that_a_host_asks_for_holds_all_its_links(server: Server, run: Run, policy: RetryPolicy) -> None:
    waits: list[float] = []
    policy = replace(policy, sleep=waits.append)
    links = alive(server, 2)
    server.scripts["/0.jpg"].insert(0, Answer(b"", 429, {"Retry-After": "30"}))
    list(run(links, policy=policy, connections=1))
    assert waits[0] == 30 and len(waits) == 3
    assert waits[1:] == pytest.approx([30, 30], abs=1), "the repeated request and the next one"


def test_connections(server: Server, run: Run) -> None:
    meet = threading.Barrier(3)
    links = [Link(str(i), server.script(f"/{i}", Answer(b"x", meet=meet))) for i in range(9)]
    assert len(list(run(links, connections=3, policy=RetryPolicy(read_timeout=10)))) == 9
    assert server.most_at_once == 3
    assert len(server.gets()) == 9


def test_work_ahead_is_bounded(server: Server, run: Run) -> None:
    links = alive(server, 100)
    results = run(links, connections=2)
    for _ in range(10):
        next(results)
    assert len(server.gets()) <= module.QUEUED_PER_CONNECTION * 2 + 10
    results.close()


def test_too_large(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    links = [Link("a", server.script("/a", Answer(bytes(1001)))), Link("b", server.script("/b", Answer(bytes(1000))))]
    large, fits = run(links, max_dead=1)
    assert large.reason == "it has more than 1000 bytes" and len(fits.data) == 1000


def test_torn_record(server: Server, run: Run, tmp_path: Path) -> None:
    """A kill may tear the last line."""
    row = {"key": "k1", "url": "x", "reason": "HTTP 404"}
    (tmp_path / "dead.jsonl").write_text(json.dumps(row) + '\n{"key": "k2", "u')
    links = alive(server, 4)
    server.script("/2.jpg", Answer(b"", 410))
    assert [one.reason for one in run(links)] == [None, "HTTP 404", "HTTP 410 Gone", None]
    assert list(recorded(tmp_path)) == ["k1", "k2"]


def test_foreign_record(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dead.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match=r"dead\.jsonl: is not a list of dead links; delete it"):
        list(run([Link("a", "http://x/")]))


def test_progress(server: Server, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    links = alive(server, 6)
    server.script("/5.jpg", Answer(b"", 404))
    list(run(links, total=10))
    line = capsys.readouterr().out
    assert line.startswith("sdip: 10/10 links, ") and line.endswith(", 1 dead\n")


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


def test_hold_stops_requests_to_one_host() -> None:
    clock = Clock()
    limiter = RateLimiter(10.0, clock.sleep, lambda: clock.now)
    limiter.hold("a", 30)
    limiter.wait("b")
    assert clock.now == 50.0
    limiter.wait("a")
    assert clock.now == 80.0
