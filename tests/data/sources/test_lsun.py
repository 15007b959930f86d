"""Source `lsun`: an LMDB of WebP images, by itself and in its zip."""

from __future__ import annotations

import shutil
import struct
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genuine_formats import decoded, lsun_values, read_all, write_lmdb, write_lsun_zip
from threedgp.config import DatasetConfig
from threedgp.data.source import Source, open_source
from threedgp.data.sources import lsun
from threedgp.data.sources.lsun import LmdbStore, open_lmdb
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
VALUES = lsun_values()


def assert_all_there(source: Source) -> None:
    pictures = read_all(source)
    assert list(pictures) == sorted(key.decode() for key in VALUES) and source.class_names == ["horse"]
    for key, value in VALUES.items():
        picture = pictures[key.decode()]
        assert picture.label == 0
        np.testing.assert_array_equal(picture.rgb, decoded(value))


@pytest.mark.parametrize("place", ["horse", "", "horse/data.mdb"])
def test_lmdb_is_used_in_place(opened: Opened, tmp_path: Path, place: str) -> None:
    write_lmdb(tmp_path / "in" / "horse", VALUES)
    before = (tmp_path / "in/horse/data.mdb").stat()
    raw = tmp_path / "scratch/raw"
    assert_all_there(opened("lsun", tmp_path / "in" / place, subset="horse", raw=raw))
    assert not list(raw.rglob("*.mdb"))
    after = (tmp_path / "in/horse/data.mdb").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    with (tmp_path / "in/horse/data.mdb").open("ab") as file:
        file.write(bytes(4096))
    with pytest.raises(UserError, match=r"data\.mdb: changed since stage download listed it"):
        open_source(DatasetConfig(name="x", source="lsun", subset="horse", path=str(tmp_path / "in" / place)), raw)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_is_unpacked_once(
    opened: Opened, tmp_path: Path, compression: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lsun_zip(tmp_path / "horse.zip", VALUES, compression)
    assert_all_there(opened("lsun", tmp_path / "horse.zip", subset="horse"))
    monkeypatch.setattr(lsun, "extract_member", None)  # would fail if it were called again
    assert_all_there(opened("lsun", tmp_path, subset="horse"))
    monkeypatch.undo()
    (tmp_path / "scratch/raw/data.mdb").unlink()  # its record does not count without it
    assert_all_there(opened("lsun", tmp_path, subset="horse"))
    moved = shutil.copytree(tmp_path / "scratch/raw", tmp_path / "as DVC puts it elsewhere", copy_function=shutil.copy)
    config = DatasetConfig(name="x", source="lsun", subset="horse", path=str(tmp_path / "horse.zip"))
    assert_all_there(open_source(config, moved))


def test_zip_is_downloaded(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    write_lsun_zip(tmp_path / "mirror" / "horse.zip", VALUES)
    assert_all_there(opened("lsun", None, subset="horse", machine={"mirror": str(tmp_path / "mirror")}))
    assert not list((tmp_path / "scratch").rglob("*.zip")), "the zip is removed"


def test_other_zip_is_unpacked_again(opened: Opened, tmp_path: Path) -> None:
    write_lsun_zip(tmp_path / "horse.zip", {b"one": VALUES[next(iter(VALUES))]})
    assert opened("lsun", tmp_path / "horse.zip", subset="horse").entries().num_rows == 1
    shutil.rmtree(tmp_path / "zipped")
    write_lsun_zip(tmp_path / "horse.zip", VALUES)
    assert_all_there(opened("lsun", tmp_path / "horse.zip", subset="horse"))


def test_values_that_are_not_images(opened: Opened, tmp_path: Path) -> None:
    write_lmdb(tmp_path / "horse", {**VALUES, b"a": b"no picture", b"b": b""})
    pictures = read_all(opened("lsun", tmp_path / "horse", subset="horse"))
    errors = {name: picture.error for name, picture in pictures.items() if picture.error}
    assert errors == {"a": "no known image format", "b": "the file is empty"}


@pytest.mark.parametrize(
    "kind", ["nothing", "empty folder", "no lmdb", "empty lmdb", "no text", "cut off", "zip without", "no zip"]
)
def test_bad_places(opened: Opened, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    wanted = r"does not exist; download http://dl\.yf\.io/lsun/objects/horse\.zip"
    if kind == "empty folder":
        path.mkdir()
        wanted = "holds neither an LMDB nor its zip; download http://"
    elif kind == "no lmdb":
        path = tmp_path / "data.mdb"
        path.write_bytes(bytes(100_000))
        wanted = "is not an LMDB, or is damaged"
    elif kind == "empty lmdb":
        write_lmdb(path, {})
        wanted = "the LMDB is empty"
    elif kind == "no text":
        write_lmdb(path, {b"\xff\x00": b"x"})
        wanted = "has keys that are not UTF-8"
    elif kind == "cut off":
        write_lmdb(path, VALUES)
        data = (path / "data.mdb").read_bytes()
        (path / "data.mdb").write_bytes(data[: len(data) // 2])
        wanted = r"data\.mdb: truncated: it has \d+ bytes, not \d+"
    elif kind == "zip without":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("horse/lock.mdb", b"x")
        wanted = "holds 0 files called data.mdb"
    elif kind == "no zip":
        path.write_bytes(b"nothing")
        wanted = "is not a zip file, or is damaged"
    with pytest.raises(UserError, match=wanted):
        opened("lsun", path, subset="horse")


LEAF = 2
"""Flag of a page, a number at byte 10; where the offsets of its nodes end is at byte 12."""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda page: bytes(len(page)), "crashes"),  # would abort the process
        (lambda page: b"\xff" * len(page), "CORRUPTED"),
        (lambda page: page[:12] + (struct.unpack("<H", page[12:14])[0] - 2).to_bytes(2, "little") + page[14:], "keys"),
    ],
    ids=["zeros", "ones", "a key less"],
)
def test_damaged_leaves(opened: Opened, tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    write_lmdb(tmp_path / "horse", {f"{number:040d}".encode(): b"x" for number in range(300)})
    file = tmp_path / "horse/data.mdb"
    pages = [file.read_bytes()[start : start + 4096] for start in range(0, file.stat().st_size, 4096)]
    number = [struct.unpack("<H", page[10:12])[0] for page in pages].index(LEAF, 3)
    file.write_bytes(b"".join([*pages[:number], change(pages[number]), *pages[number + 1 :]]))
    with pytest.raises(UserError, match=rf"data\.mdb: is damaged \(.*{reason}.*\); download it again"):
        opened("lsun", tmp_path / "horse", subset="horse")


def test_damaged_value_is_a_reject(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "horse", {b"damaged": bytes(5000), b"good": b"x"})
    file = tmp_path / "horse/data.mdb"
    data = file.read_bytes()
    place = data.index(b"damaged") + len(b"damaged")  # the number of the page where a large value begins
    file.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
    bad, good = LmdbStore(file).load(pa.table({"id": ["damaged", "good"]}))
    assert "cannot be read from the LMDB" in str(bad) and good == b"x"


def test_one_environment_a_process_for_all_threads(opened: Opened, tmp_path: Path) -> None:
    write_lmdb(tmp_path / "horse", VALUES)
    source, again = (opened("lsun", tmp_path / "horse", subset="horse") for _ in range(2))
    link = tmp_path / "link.mdb"
    link.symlink_to(tmp_path / "horse/data.mdb")
    assert open_lmdb(link) is open_lmdb(tmp_path / "horse/data.mdb")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(assert_all_there, one) for one in (source, again) * 10]:
            done.result()
