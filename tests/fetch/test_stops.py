"""Downloads that were stopped, killed or damaged, and the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, OTHER, Fetch, sha256

from threedgp.runtime.errors import UserError

SCRIPT = """
import signal, sys
from pathlib import Path
from threedgp.fetch.download import download
from threedgp.fetch.remote import Remote
url, folder = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background disables
try:
    download(Remote("a.bin", url), Path(folder), title="download")
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_fetch_asks_only_for_the_rest(
    server: Server, tmp_path: Path, root: Path, get: Fetch, number: int
) -> None:
    whole = Answer(DATA, etag='"1"')
    url = server.script("/a.bin", replace(whole, cut=HALF, how="stall"), whole)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, url, str(tmp_path / "in")], cwd=root)
    part, deadline = tmp_path / "in/.a.bin.part", time.monotonic() + 300
    while not (part.exists() and part.stat().st_size == HALF):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    # Less than the read timeout of a minute.
    assert process.wait(40) == (7 if number == signal.SIGINT else -number)
    assert get(url) == DATA
    assert [one.range for one in server.gets()] == [None, f"bytes={HALF}-"]


def test_killed_between_the_last_byte_and_landing(server: Server, tmp_path: Path, get: Fetch) -> None:
    busy = Answer(b"", 503)
    whole = Answer(DATA, etag='"1"')
    url = server.script("/a.bin", replace(whole, cut=HALF), busy, busy, busy, busy)
    with pytest.raises(UserError):
        get(url, checksum=sha256(DATA))
    (tmp_path / "in/.a.bin.part").write_bytes(DATA)
    count = len(server.gets())
    assert get(url, checksum=sha256(DATA)) == DATA and len(server.gets()) == count


def test_damaged_part_is_noticed(server: Server, tmp_path: Path, get: Fetch) -> None:
    busy = Answer(b"", 503)
    whole = Answer(DATA, etag='"1"')
    url = server.script("/a.bin", replace(whole, cut=HALF), busy, busy, busy, busy, whole)
    with pytest.raises(UserError):
        get(url, checksum=sha256(DATA))
    (tmp_path / "in/.a.bin.part").write_bytes(bytes(HALF))
    assert get(url, checksum=sha256(DATA)) == DATA


def test_part_without_its_state_is_dropped(server: Server, tmp_path: Path, get: Fetch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/.a.bin.part").write_bytes(OTHER[:HALF])
    assert get(server.script("/a.bin", Answer(DATA, etag='"1"'))) == DATA
    assert server.gets()[0].range is None
