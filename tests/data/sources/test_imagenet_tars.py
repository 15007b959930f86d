"""Tar files are listed as tarfile lists them, from any place in a larger file."""

from __future__ import annotations

import os
import tarfile
from itertools import islice
from pathlib import Path

import pytest

from genuine_formats import write_tar
from threedgp.data.archives.tars import MAX_HEADER, Member, tar_members
from threedgp.runtime.errors import UserError

FILES = {"a": b"", "folder/b.bin": bytes(range(256)) * 5, "long/" + "x" * 200: b"1", "caf\u00e9": b"22"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_lead_to_the_content(tmp_path: Path, format: int) -> None:
    data = write_tar(tmp_path / "in.tar", FILES, format)
    (tmp_path / "outer").write_bytes(b"?" * 777 + data + b"!" * 999)
    members = list(tar_members(tmp_path / "outer", Member("in", 777, len(data))))
    outer = (tmp_path / "outer").read_bytes()
    assert {member.name: outer[member.offset : member.offset + member.size] for member in members} == FILES
    assert all(member.problem is None for member in members)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    write_tar(tmp_path / "in.tar", {os.fsdecode(b"caf\xe9"): b"1"})
    (member,) = tar_members(tmp_path / "in.tar")
    assert member.problem == "the file name is not UTF-8" and member.name.encode() == b"caf\\udce9"


def test_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("long name")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with (tmp_path / "in.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2 * MAX_HEADER + 2**13)
    with pytest.raises(UserError, match=r"in\.tar: is not a plain tar.*header of"):
        list(tar_members(tmp_path / "in.tar"))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_header_that_claims_a_negative_size(tmp_path: Path, kind: bytes) -> None:
    """tarfile of Python before 3.11.14 loops there for ever, or reads all of the file into memory."""
    whole = write_tar(tmp_path / "a.tar", {"first": b"1" * 600})
    header = bytearray(tarfile.TarInfo("second").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" + (256**11 - 512).to_bytes(11, "big")  # -512 in base 256
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(whole[:1536] + header + whole)
    with pytest.raises(UserError, match=r"a\.tar: .*damaged .*-512 bytes"):
        list(islice(tar_members(tmp_path / "a.tar"), 10))


def _block(kind: bytes, size: bytes, content: bytes = b"") -> bytes:
    header = bytearray(tarfile.TarInfo("name").tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157], header[148:156] = size, kind, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content


@pytest.mark.parametrize(
    "content",
    [
        _block(b"Z", b"\x80" + (2**63).to_bytes(11, "big")),
        _block(tarfile.GNUTYPE_LONGNAME, b"%011o\0" % 5, b"abcd".ljust(512, b"\0")) * 3000,
        _block(tarfile.XHDTYPE, b"%011o\0" % 9, b"9 path=x\n".ljust(512, b"\0")) * 2000,
    ],
    ids=["a size of 64 bits", "long names of long names", "extended headers of extended headers"],
)
def test_headers_that_overflow(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content + _block(b"0", b"%011o\0" % 0) + bytes(1024))
    with pytest.raises(UserError, match=r"a\.tar: .*damaged \("):
        list(tar_members(tmp_path / "a.tar"))


def test_sizes_of_links_count_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(_block(b"2", b"\x80" + (2**70).to_bytes(11, "big")) + bytes(1024))
    assert [(member.size, member.problem) for member in tar_members(tmp_path / "a.tar")] == [
        (0, "a link is not followed")
    ]


def test_without_its_end(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "in.tar", FILES)
    (tmp_path / "in.tar").write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    with pytest.raises(UserError, match=r"in\.tar: truncated at byte"):
        list(tar_members(tmp_path / "in.tar"))


def test_compressed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar.gz", "w:gz"):
        pass
    with pytest.raises(UserError, match="is not a plain tar file"):
        list(tar_members(tmp_path / "in.tar.gz"))
