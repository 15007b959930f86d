"""Tar files are listed as tarfile lists them, from any place in a larger file."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from genuine_formats import write_tar
from threedgp.data.archives.tars import Member, tar_members
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
