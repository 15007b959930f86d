"""Parts of different versions of a file are never combined."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fetch.misbehaving import Answer, Server
from fetch.payload import DATA, HALF, OTHER, Fetch, sha256

from threedgp.runtime.errors import UserError


def test_content_that_changes_between_two_ranges(server: Server, get: Fetch) -> None:
    """An honest server sends the new file whole, for If-Range does not hold."""
    url = server.script("/a.bin", Answer(DATA, etag='"1"', cut=HALF), Answer(OTHER, etag='"2"'))
    assert get(url) == OTHER
    assert [one.range for one in server.gets()] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "changed",
    [
        Answer(OTHER, headers={"Last-Modified": "Thu, 02 Jan 2020 00:00:00 GMT"}),
        Answer(OTHER + b"x", headers={"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}),
    ],
)
def test_changed_content_from_a_server_that_ignores_if_range(server: Server, get: Fetch, changed: Answer) -> None:
    class Ignores(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    first = Answer(DATA, headers={"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}, cut=HALF)
    modified = changed.headers["Last-Modified"]
    # `etag` is what the server compares If-Range with.
    url = server.script("/a.bin", first, replace(changed, etag=Ignores('W/"x"'), headers={"Last-Modified": modified}))
    assert get(url) == changed.data
    assert [one.range for one in server.gets()] == [None, f"bytes={HALF}-", None]
    assert server.gets()[1].headers["if-range"] == "Wed, 01 Jan 2020 00:00:00 GMT"


def test_unrecognizable_content_is_not_continued(server: Server, get: Fetch) -> None:
    """Without ETag, date and checksum, parts of different files could not be told apart."""
    url = server.script("/a.bin", Answer(DATA, cut=HALF), Answer(OTHER))
    assert get(url) == OTHER
    assert [one.range for one in server.gets()] == [None, None]


def test_part_of_another_address_is_not_continued(server: Server, get: Fetch) -> None:
    """An ETag says nothing about the file at another address."""
    busy = Answer(b"", 503)
    with pytest.raises(UserError):
        get(server.script("/old", Answer(DATA, etag='"1"', cut=HALF), busy, busy, busy, busy))
    assert get(server.script("/new", Answer(OTHER, etag='"1"'))) == OTHER


def test_file_that_becomes_shorter(server: Server, get: Fetch) -> None:
    url = server.script("/a.bin", Answer(DATA, cut=HALF), Answer(DATA[:1000]))
    assert get(url, checksum=sha256(DATA[:1000])) == DATA[:1000]
