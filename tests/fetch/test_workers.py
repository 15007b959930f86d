"""Threads that can be left behind."""

from __future__ import annotations

import threading
import time

import pytest
from fetch.misbehaving import Answer, Server

from threedgp.fetch import workers as module
from threedgp.fetch.patience import Patience, Trouble
from threedgp.fetch.web import Web
from threedgp.fetch.workers import Workers


def open_web() -> Web:
    return Web(Patience())


def test_results_and_failures_reach_the_caller() -> None:
    def fail(web: Web) -> None:
        raise KeyError("x")

    with Workers(2, open_web, threading.Event()) as workers:
        futures = [workers.submit(lambda web, n=n: n * n) for n in range(10)]
        assert [future.result(5) for future in futures] == [n * n for n in range(10)]
        with pytest.raises(KeyError):
            workers.submit(fail).result(5)
        assert workers.submit(lambda web: "still at work").result(5) == "still at work"


def test_stuck_thread_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTING", 0.2)
    forever, stop = threading.Event(), threading.Event()
    began = time.monotonic()
    with Workers(3, open_web, stop) as workers:
        for _ in range(3):
            workers.submit(lambda web: forever.wait(30))
    assert stop.is_set() and time.monotonic() - began < 5
    forever.set()


def test_thread_that_waits_for_bytes_is_woken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would still be there when the parting is over: the server says nothing for a minute."""
    monkeypatch.setattr(module, "PARTING", 5.0)
    url, reading = server.script("/a", Answer(bytes(1000), cut=500, how="stall")), threading.Event()

    def read(web: Web) -> None:
        content = web.open(url)
        assert len(content.read()) == 500
        reading.set()
        content.read()

    with Workers(1, open_web, threading.Event()) as workers:
        future = workers.submit(read)
        assert reading.wait(5)
    assert not any(thread.is_alive() for thread in workers.threads)
    assert isinstance(future.exception(), Trouble)


def test_nothing_is_begun_after_the_stop() -> None:
    begun, gate = [], threading.Event()
    with Workers(1, open_web, threading.Event()) as workers:
        workers.submit(lambda web: gate.wait(0.1))
        for n in range(5):
            workers.submit(lambda web, n=n: begun.append(n))
    assert begun == []
