"""Names, addresses and checksums of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from threedgp.fetch.remote import Remote
from threedgp.runtime.addresses import local_path, scheme, shown
from threedgp.runtime.errors import UserError


@pytest.mark.parametrize("name", ["a", "a.b", "data/train-00000-of-00032.parquet", "..a", "a b ü"])
def test_plain_names(name: str) -> None:
    assert Remote(name, "https://host/x").name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "a//b",
        "./a",
        "a\\..\\b",
        "C:/a",
        "C:a",
        "~/a",
        "a\0b",
        "a/",
    ],
)
def test_names_that_could_leave_the_folder(name: str) -> None:
    with pytest.raises(UserError, match="could escape its folder"):
        Remote(name, "https://host/x")


@pytest.mark.parametrize("url", ["ftp://host/a", "data://x", "javascript://x", "HF://x/y"])
def test_unknown_addresses(url: str) -> None:
    with pytest.raises(UserError, match="unknown scheme"):
        Remote("a", url)


@pytest.mark.parametrize("url", ["", "https://host:abc/x.pth", "https://[x/x.pth", "http://h:999999/", "http:///x"])
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(UserError, match=r"^a: '.*' is not a valid address; write https://host/path"):
        Remote("a", url)


@pytest.mark.parametrize(
    "checksum", ["", "abc", "sha256:", f"sha256:{'0' * 63}", f"sha256:{'A' * 64}", f"md5:{'0' * 64}", f"crc:{'0' * 8}"]
)
def test_unknown_checksums(checksum: str) -> None:
    with pytest.raises(UserError, match="is not sha256"):
        Remote("a", "https://host/a", checksum=checksum)


def test_places() -> None:
    assert scheme("HTTPS://host/a") == "https" and scheme("a/b") is None and scheme("C:/x") is None
    assert local_path("/a b/c") == Path("/a b/c")
    assert local_path("~/c") == Path.home() / "c"
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("https://host/a") is None
    assert local_path("~nouser/c") == Path("~nouser/c"), "which does not exist"
    assert local_path("file://[bad/a?b") == Path("/a")


def test_shown_addresses_keep_secrets() -> None:
    assert shown("https://me:pass@host:8080/a/b?X-Signature=1#x") == "https://host:8080/a/b"
    assert shown("/a?b") == "/a?b"
    assert shown("https://me:pa/ss?@host:port/a?X-Signature=1") == "https://host:port/a"
