"""One member comes out of a zip, under our name, whole, and only if there is room."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path

import pytest

from threedgp.data.sources.lsun import extract_member
from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError

CONTENT = bytes(range(256)) * 4000


def test_hostile_names_land_under_ours(tmp_path: Path) -> None:
    for name in ("../../evil/data.mdb", "/etc/data.mdb", "horse/data.mdb"):
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.writestr(name, CONTENT)
        assert extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out" / "x" / "y") == zlib.crc32(CONTENT)
        assert (tmp_path / "out/x/y").read_bytes() == CONTENT
        files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert files == {"in.zip", "out/x/y"}


def test_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        member = zipfile.ZipInfo("data.mdb")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out")


def test_two_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a/data.mdb", b"1")
        archive.writestr("b/data.mdb", b"2")
    with pytest.raises(UserError, match=r"holds 2 files called data\.mdb, not one"):
        extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_is_found_and_leaves_nothing(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w", compression) as archive:
        archive.writestr("data.mdb", CONTENT)
    data = bytearray((tmp_path / "in.zip").read_bytes())
    data[500] ^= 1
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises((UserError), match="is not a zip file, or is damaged"):
        extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out" / "file")
    assert not list((tmp_path / "out").iterdir())


def test_other_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("ä/data.mdb", CONTENT)
    good = (tmp_path / "in.zip").read_bytes()
    entry = good.index(b"PK\1\2")
    for place, bad in {
        entry + 6: b"\xff",  # the version that is needed
        entry + 46: b"\xff",  # the name, flagged as UTF-8
        30: b"\xff",  # the same before the content
        entry + 10: bytes([zipfile.ZIP_LZMA]),
        entry + 42: b"\xff\xff\xff\xff",  # where it begins
        good.index(b"PK\5\6") + 16: b"\xff\xff",  # where the table of contents does; places count from there
    }.items():
        (tmp_path / "in.zip").write_bytes(good[:place] + bad + good[place + len(bad) :])
        with pytest.raises(UserError, match="is not a zip file, or is damaged"):
            extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out")


def test_bomb_is_refused_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.mdb", bytes(2**24))
    assert (tmp_path / "in.zip").stat().st_size < 2**16
    usage = type("Usage", (), {"free": 2**24 - 1})
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(UserError, match=r"about 16\.8 MB are needed"):
        extract_member(tmp_path / "in.zip", "data.mdb", tmp_path / "out" / "file")
    assert not (tmp_path / "out").exists()
