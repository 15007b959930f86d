"""What answers mean: busy, absent, forbidden, elsewhere; tokens and proxies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, OTHER, Fetch, sha256

from threedgp.fetch.download import fetch
from threedgp.fetch.patience import Patience, Refused
from threedgp.fetch.remote import Remote
from threedgp.fetch.web import Web
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server(server: Server, get: Fetch, status: int) -> None:
    url = server.script("/a.bin", Answer(b"busy", status), Answer(b"busy", status), Answer(DATA))
    assert get(url) == DATA and len(server.gets()) == 3


def test_always_busy_server_is_given_up(server: Server, get: Fetch, tmp_path: Path) -> None:
    url = server.script("/a.bin", Answer(b"busy", 503))
    with pytest.raises(UserError, match=r"a\.bin cannot be fetched \(http.*/a\.bin: HTTP 503 .* \(4 tries\)\); run"):
        get(url)
    assert len(server.gets()) == 4


def test_retry_after_is_honoured(server: Server, tmp_path: Path, patience: Patience) -> None:
    waits: list[float] = []
    patience = replace(patience, wait=lambda seconds, stop: waits.append(seconds))
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    url = server.script(
        "/a.bin",
        Answer(b"", 429, {"Retry-After": "17"}),
        Answer(b"", 503, {"Retry-After": soon}),
        Answer(b"", 503),
        Answer(DATA),
    )
    fetch([Remote("a.bin", url)], tmp_path, title="download", patience=patience)
    assert waits[0] == 17
    assert 95 <= waits[1] <= 100
    assert waits[2] == patience.delay(url, 3)


def test_too_long_a_pause_is_an_error(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(b"", 429, {"Retry-After": "86400"}))
    with pytest.raises(UserError, match=r"HTTP 429 .*try again in 86400 s"):
        get(url)
    assert len(server.gets()) == 1


def test_absent_file_is_not_asked_for_again(server: Server, get: Fetch) -> None:
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
    with pytest.raises(UserError, match=r"Connection refused \(4 tries\)"):
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
    with pytest.raises(UserError, match="which is no web address"):
        get(url)


@pytest.mark.parametrize("target", ["http://h:999999/", "http://host:port/", "http://[bad", "http://h\xff/"])
def test_redirect_to_no_address_is_refused(server: Server, get: Fetch, target: str) -> None:
    url = server.script("/a.bin", Answer(b"", 302, {"Location": target}))
    with pytest.raises(UserError, match=r"the server redirects to http://h?.*, which is no web address"):
        get(url)
    assert len(server.gets()) == 1


@pytest.mark.parametrize("url", ["http://host..name/a", "http://*/a", "http://h:999999/"])
def test_no_address_is_not_tried_again(patience: Patience, url: str) -> None:
    with pytest.raises(Refused, match=r"^this is no address$"):
        Web(patience).open(url)


def test_hub_at_no_address(get: Fetch, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It concerns files of the hub, and no others."""
    monkeypatch.setenv("HF_ENDPOINT", "http://[bad")
    with pytest.raises(UserError, match=r"huggingface\.co/o/a: HF_ENDPOINT makes it what is no address"):
        get("https://huggingface.co/o/a")
    assert get(server.script("/a.bin", Answer(DATA))) == DATA


def test_token_is_for_the_hub_alone(
    start_server: Callable[[], Server], get: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, other = start_server(), start_server()
    monkeypatch.setenv("HF_ENDPOINT", hub.url(""))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    other.script("/back", Answer(b"", 302, {"Location": hub.url("/a.bin")}))
    other.script("/store/a.bin", Answer(b"", 302, {"Location": "/back"}))
    hub.script("/o/r/resolve/main/a.bin", Answer(b"", 302, {"Location": other.url("/store/a.bin")}))
    hub.script("/a.bin", Answer(DATA))
    assert get("https://huggingface.co/o/r/resolve/main/a.bin") == DATA
    assert {one.headers.get("authorization") for one in hub.seen} == {"Bearer hf_secret"}
    assert {one.headers.get("authorization") for one in other.seen} == {None}


def test_netrc_does_not_replace_the_token(server: Server, get: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["HOME"])
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password pass\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server.script("/a.bin", Answer(DATA)))
    assert {one.headers.get("authorization") for one in server.seen} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("path", "page"),
    [("/o/r/resolve/main/w.pth", "o/r"), ("/datasets/o/r/resolve/abc/data/t.parquet", "datasets/o/r")],
)
def test_gated_repository(server: Server, get: Fetch, monkeypatch: pytest.MonkeyPatch, path: str, page: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    server.script(path, Answer(b"", 403, {"X-Error-Code": "GatedRepo"}))
    with pytest.raises(UserError) as error:
        get(f"https://huggingface.co{path}")
    assert f"HTTP 403 GatedRepo: accept the terms at https://huggingface.co/{page}, make a token" in str(error.value)
    assert "HF_TOKEN" in str(error.value)


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
