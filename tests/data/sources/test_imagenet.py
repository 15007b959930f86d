"""Source `imagenet`: the same images from every layout, and clear errors where there are none."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genuine_formats import (
    WNIDS,
    decoded,
    hub_table,
    imagenet_files,
    read_all,
    write_hub_files,
    write_imagenet_tar,
    write_tar,
    write_tree,
)
from threedgp.config import DatasetConfig
from threedgp.data.source import RawPicture, Source, open_source
from threedgp.data.sources import imagenet
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
FILES = imagenet_files()


def assert_all_there(source: Source, files: dict[str, bytes] = FILES) -> dict[str, RawPicture]:
    pictures = read_all(source)
    assert set(pictures) == set(files) and source.class_names == list(WNIDS)
    for name, data in files.items():
        assert pictures[name].label == WNIDS.index(name.split("/")[0])
        np.testing.assert_array_equal(pictures[name].rgb, decoded(data))
    return pictures


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_tar_of_class_tars_is_read_in_place(opened: Opened, tmp_path: Path, format: int) -> None:
    write_imagenet_tar(tmp_path / "train.tar", FILES, format)
    raw = tmp_path / "scratch" / "raw"
    source = opened("imagenet", tmp_path / "train.tar", raw=raw)
    assert_all_there(source)
    assert sum(file.stat().st_size for file in raw.rglob("*")) < (tmp_path / "train.tar").stat().st_size
    entries = source.entries()
    backwards = list(source.read(entries.take(list(range(len(entries)))[::-3])))
    np.testing.assert_array_equal(backwards[1].rgb, decoded(FILES[backwards[1].id]))


def test_tar_in_a_folder(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_imagenet_tar(tmp_path / "in" / "ILSVRC2012_img_train.tar", FILES)
    assert_all_there(opened("imagenet", tmp_path / "in"))


@pytest.mark.parametrize("place", ["", "train", "ILSVRC/Data/CLS-LOC/train"])
def test_trees(opened: Opened, tmp_path: Path, place: str) -> None:
    write_tree(tmp_path / "in" / place, FILES)
    (tmp_path / "in" / place / "notes.txt").write_text("not a class")
    (tmp_path / "in" / place / "lost+found").mkdir()
    source = opened("imagenet", tmp_path / "in")
    assert_all_there(source)
    file = tmp_path / "in" / place / next(iter(FILES))
    os.utime(file, ns=(0, 1))
    with pytest.raises(UserError, match=r"changed since stage download listed it"):
        list(source.read(source.entries()))


@pytest.mark.parametrize("place", ["", "data"])
@pytest.mark.parametrize("names", [["tench", "goldfish", "stork"], None])
def test_parquet_of_the_hub(opened: Opened, tmp_path: Path, place: str, names: list[str] | None) -> None:
    labels = [WNIDS.index(name.split("/")[0]) for name in FILES]
    order = np.random.default_rng(0).permutation(len(FILES))  # the hub's rows are shuffled
    rows = [(list(FILES.values())[i], labels[i]) for i in order]
    tables = [hub_table([d for d, _ in part], [n for _, n in part], names) for part in (rows[:7], rows[7:])]
    write_hub_files(tmp_path / "in" / place, tables)
    write_hub_files(tmp_path / "in" / place, [hub_table([b"no picture"], [-1], names)], split="test")
    source = opened("imagenet", tmp_path / "in")
    assert source.class_names == (names or ["0", "1", "2"])
    pictures = list(read_all(source).values())
    assert len(pictures) == len(rows)
    for picture, (data, label) in zip(pictures, rows, strict=True):
        assert picture.label == label
        np.testing.assert_array_equal(picture.rgb, decoded(data))


def test_labels_that_are_no_classes(opened: Opened, tmp_path: Path) -> None:
    data = next(iter(FILES.values()))
    write_hub_files(tmp_path, [hub_table([data] * 5, [1, -1, 2**31 - 1, 0, 2], ["only", "two"])])
    source = opened("imagenet", tmp_path)
    assert source.class_names == ["0", "1", "2"]
    errors = [picture.error for picture in read_all(source).values()]
    assert errors == [None, "has no label", "has no label", None, None]


def test_missing_parquet_file_is_named(opened: Opened, tmp_path: Path) -> None:
    write_hub_files(tmp_path, [hub_table([b"x"], [0])] * 3)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UserError, match=r"1 of 3 Parquet files are missing, the first is number 00001"):
        opened("imagenet", tmp_path)


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "other pictures", "other tar", "no tar"])
def test_missing_data_says_what_to_download(opened: Opened, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in"
    if kind == "other pictures":
        write_tree(path, {"cats/a.jpg": b""})
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "other tar":
        write_tar(path, {"n01440764_1.JPEG": b"x"})
    elif kind == "no tar":
        path.write_bytes(b"<html>please log in</html>" * 100)
    with pytest.raises(UserError) as error:
        opened("imagenet", path)
    message = str(error.value)
    assert str(path) in message and message.count(". ") == 0 and "\n" not in message
    for fact in ("ILSVRC2012_img_train.tar", "147897477120", imagenet.TAR_MD5, "dataset.path", "ILSVRC/imagenet-1k"):
        assert fact in message or kind == "no tar"


def test_unsafe_members_are_rejected_and_write_nothing(opened: Opened, tmp_path: Path) -> None:
    good = FILES[f"{WNIDS[0]}/{WNIDS[0]}_0.JPEG"]
    inner = tmp_path / "inner.tar"
    write_tar(inner, {"good.JPEG": good, "../evil.JPEG": good, "/etc/evil.JPEG": good, "notes.txt": b"x"})
    with tarfile.open(inner, "a") as archive:
        kinds = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE}
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"{name}.JPEG")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    write_tar(tmp_path / "train.tar", {f"{WNIDS[0]}.tar": inner.read_bytes(), "../n00000001.tar": inner.read_bytes()})
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    pictures = read_all(opened("imagenet", tmp_path / "train.tar"))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and "scratch" not in path.parts) == before
    errors = {name.split("/", 1)[1]: picture.error for name, picture in pictures.items()}
    assert errors.pop("good.JPEG") is None
    assert set(errors) == {"../evil.JPEG", "/etc/evil.JPEG", "link.JPEG", "hard.JPEG", "pipe.JPEG"}
    assert "unsafe" in errors["../evil.JPEG"] and "unsafe" in errors["/etc/evil.JPEG"]
    assert "link" in errors["link.JPEG"] and "link" in errors["hard.JPEG"] and "neither" in errors["pipe.JPEG"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_truncated_tar_is_found_when_it_is_listed(opened: Opened, tmp_path: Path, share: float) -> None:
    file = tmp_path / "train.tar"
    write_imagenet_tar(file, FILES)
    data = file.read_bytes()
    end = len(data.rstrip(b"\0"))
    file.write_bytes(data[: int(share * end)])
    with pytest.raises(UserError, match=r"train\.tar.*: (truncated|is not a plain tar file).*; download"):
        opened("imagenet", file)


def test_damaged_header_between_images_is_found(opened: Opened, tmp_path: Path) -> None:
    file = tmp_path / "train.tar"
    write_imagenet_tar(file, FILES)
    data = bytearray(file.read_bytes())
    place = data.index(f"{WNIDS[1]}_7.JPEG".encode())
    data[place + 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"train\.tar \({WNIDS[1]}\.tar\): damaged at byte"):
        opened("imagenet", file)


def test_changed_tar_is_noticed(opened: Opened, tmp_path: Path) -> None:
    write_imagenet_tar(tmp_path / "train.tar", FILES)
    source = opened("imagenet", tmp_path / "train.tar")
    assert_all_there(source)
    os.utime(tmp_path / "train.tar", ns=(0, 1))
    assert_all_there(opened("imagenet", tmp_path / "train.tar"))  # the listing of the old file is discarded
    (tmp_path / "train.tar").unlink()
    config = DatasetConfig(name="x", source="imagenet", path=str(tmp_path / "train.tar"))
    with pytest.raises(UserError, match=r"train\.tar: vanished since stage download"):
        open_source(config, tmp_path / "scratch" / "raw")


def test_stopped_listing_goes_on(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(f"n{number:08d}" for number in range(50))
    files = imagenet_files(1, many, side=8)
    write_imagenet_tar(tmp_path / "train.tar", files)
    listed, list_class = [], imagenet._class_rows

    def stop_at_45(path: Path, wnid: str, tar: object, label: int) -> object:
        if label == 45 and stop:
            raise KeyboardInterrupt
        listed.append(label)
        return list_class(path, wnid, tar, label)

    monkeypatch.setattr(imagenet, "_class_rows", stop_at_45)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        opened("imagenet", tmp_path / "train.tar")
    stop = False
    listed.clear()
    source = opened("imagenet", tmp_path / "train.tar")
    assert sorted(listed) == list(range(40, 50))
    assert len(read_all(source)) == 50


def test_md5_of_the_official_tar(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.tar"
    write_imagenet_tar(file, FILES)
    monkeypatch.setattr(imagenet, "TAR_BYTES", file.stat().st_size)
    with pytest.raises(UserError, match=r"train\.tar: has the checksum md5:.* instead of md5:1d675b47.*verify_md5"):
        opened("imagenet", file)
    assert_all_there(opened("imagenet", file, machine={"verify_md5": False}))
    monkeypatch.setattr(imagenet, "TAR_MD5", hashlib.md5(file.read_bytes()).hexdigest())
    assert_all_there(opened("imagenet", file))
    monkeypatch.setattr(imagenet, "mismatch", None)  # a second time it would fail: it was verified
    assert_all_there(opened("imagenet", file))


def test_threads_share_a_source(opened: Opened, tmp_path: Path) -> None:
    write_imagenet_tar(tmp_path / "train.tar", FILES)
    source = opened("imagenet", tmp_path / "train.tar")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(assert_all_there, source) for _ in range(12)]:
            done.result()


def test_files_of_the_hub_are_downloaded(opened: Opened, tmp_path: Path) -> None:
    data = tmp_path / "mirror" / "ILSVRC" / "imagenet-1k" / "data"
    write_hub_files(data, [hub_table(list(FILES.values()), [0] * len(FILES), ["tench"])])
    write_hub_files(data, [hub_table([b"x"], [0])], split="validation")
    source = opened("imagenet", None, machine={"mirror": str(tmp_path / "mirror")})
    assert source.class_names == ["tench"]
    for found, encoded in zip(read_all(source).values(), FILES.values(), strict=True):
        np.testing.assert_array_equal(found.rgb, decoded(encoded))
    assert not list((tmp_path / "scratch").rglob("validation-*"))


def test_invalid_labels_reject_only_their_rows(opened: Opened, tmp_path: Path) -> None:
    pictures = list(FILES.values())[:4]
    write_hub_files(tmp_path / "in", [hub_table(pictures, [0, 2**40, -1, 2])])
    found = list(read_all(opened("imagenet", tmp_path / "in")).values())
    assert [picture.error for picture in found] == [None, "has no label", "has no label", None]
    assert [picture.label for picture in found] == [0, 0, 0, 2]


def test_labels_that_are_names_are_named(opened: Opened, tmp_path: Path) -> None:
    table = hub_table(list(FILES.values())[:2]).append_column("label", pa.array(["tench", "stork"]))
    write_hub_files(tmp_path / "in", [table])
    with pytest.raises(UserError, match=r"parquet: column 'label' holds string, not class numbers"):
        opened("imagenet", tmp_path / "in")


def test_class_tars_without_images(opened: Opened, tmp_path: Path) -> None:
    write_tar(tmp_path / "outer.tar", {f"{wnid}.tar": write_tar(tmp_path / "inner.tar", {}) for wnid in WNIDS})
    with pytest.raises(UserError, match="holds no images"):
        opened("imagenet", tmp_path / "outer.tar")


def test_home_folder_of_an_unknown_user(opened: Opened) -> None:
    with pytest.raises(UserError, match=r"^dataset\.path: ~nouser/x does not exist"):
        opened("imagenet", "~nouser/x")
