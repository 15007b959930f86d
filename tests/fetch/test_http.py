"""What answers mean: busy, missing, forbidden, moved; proxies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, OTHER, Fetch, sha256

from threedgp.fetch.download import download
from threedgp.fetch.http import RetryPolicy
from threedgp.fetch.remote import Remote
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server(server: Server, get: Fetch, status: int) -> None:
    url = server.script("/a.bin", Answer(b"busy", status), Answer(b"busy", status), Answer(DATA))
    assert get(url) == DATA and len(server.gets()) == 3


def test_always_busy_server_is_given_up(server: Server, get: Fetch, tmp_path: Path) -> None:
    url = server.script("/a.bin", Answer(b"busy", 503))
    with pytest.raises(UserError, match=r"a\.bin .*http.*/a\.bin: HTTP 503 .* \(4 attempts\)"):
        get(url)
    assert len(server.gets()) == 4


def test_retry_after(server: Server, tmp_path: Path, policy: RetryPolicy) -> None:
    waits: list[float] = []
    policy = replace(policy, sleep=waits.append)
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    url = server.script(
        "/a.bin",
        Answer(b"", 429, {"Retry-After": "17"}),
        Answer(b"", 503, {"Retry-After": soon}),
        Answer(b"", 503),
        Answer(DATA),
    )
    download(Remote("a.bin", url), tmp_path, title="download", policy=policy)
    assert waits[0] == 17
    assert 95 <= waits[1] <= 100
    assert 0 < waits[2] <= policy.max_delay


def test_too_long_a_pause_is_an_error(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(b"", 429, {"Retry-After": "86400"}))
    with pytest.raises(UserError, match=r"HTTP 429 .*try again in 86400 s"):
        get(url)
    assert len(server.gets()) == 1


def test_missing_file_is_not_requested_again(server: Server, get: Fetch) -> None:
    with pytest.raises(UserError, match=r"HTTP 404 Not Found\); run the same command again, or get the file"):
        get(server.url("/a.bin"))
    assert len(server.gets()) == 1


def test_messages_keep_secrets(server: Server, get: Fetch) -> None:
    with pytest.raises(UserError) as error:
        get(f"http://me:hunter2@127.0.0.1:{server.port}/a.bin?signature=hunter2")
    assert "hunter2" not in str(error.value)


def test_login(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(b"", 401))
    with pytest.raises(UserError, match="HTTP 401 Unauthorized: needs a login"):
        get(url)
    assert len(server.gets()) == 1


def test_no_server(get: Fetch, start_server: Callable[[], Server]) -> None:
    gone = start_server()
    gone.close()
    with pytest.raises(UserError, match=r"Connection refused \(4 attempts\)"):
        get(gone.url("/a.bin"))


def test_redirects_are_followed(server: Server, get: Fetch) -> None:
    server.script("/c/a.bin", Answer(DATA))
    server.script("/b", Answer(b"", 307, {"Location": "c/a.bin"}))
    url = server.script("/a.bin", Answer(b"", 302, {"Location": server.url("/b")}))
    assert get(url) == DATA


def test_redirects_without_end(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(b"", 302, {"Location": "/a.bin"}))
    with pytest.raises(UserError, match="more than 10 redirects"):
        get(url)


def test_redirect_to_a_file_is_refused(server: Server, get: Fetch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    url = server.script("/a.bin", Answer(b"", 302, {"Location": f"file://{tmp_path}/secret"}))
    with pytest.raises(UserError, match="not a web address"):
        get(url)


@pytest.mark.parametrize("target", ["http://h:999999/", "http://host:port/"])
def test_redirect_to_no_address_is_refused(server: Server, get: Fetch, target: str) -> None:
    url = server.script("/a.bin", Answer(b"", 302, {"Location": target}))
    with pytest.raises(UserError, match="is not a web address"):
        get(url)
    assert len(server.gets()) == 1


def test_hub_address_at_another_endpoint(server: Server, get: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    server.script("/o/r/resolve/main/a.bin", Answer(DATA))
    assert get("https://huggingface.co/o/r/resolve/main/a.bin") == DATA


def test_proxy_of_the_environment(
    start_server: Callable[[], Server], get: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = start_server(), start_server()
    monkeypatch.setenv("http_proxy", proxy.url(""))
    proxy.script("http://pictures.invalid/a.bin", Answer(DATA))
    assert get("http://pictures.invalid/a.bin") == DATA
    assert proxy.gets()[0].path == "http://pictures.invalid/a.bin"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    count = len(proxy.seen)
    assert get(server.script("/a.bin", Answer(OTHER)), checksum=sha256(OTHER)) == OTHER
    assert len(proxy.seen) == count
