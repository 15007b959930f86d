"""Source `folder`: classes, rejected files with reasons, and files that change after they were listed."""

from __future__ import annotations

import errno
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threedgp.config import Config, DatasetConfig
from threedgp.data.source import RawPicture, Source, download_source, open_source
from threedgp.runtime.errors import UserError


def put(path: Path, value: int = 0, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 10, 20)).save(path)


def opened(path: Path, raw: Path) -> Source:
    # No estimator of this issue can serve images without depth, so a whole configuration would be refused.
    config = Config.model_construct(dataset=DatasetConfig(name="x", source="folder", path=str(path)))
    download_source(config, raw)
    return open_source(config.dataset, raw)


def source_again(path: Path, raw: Path) -> Source:
    return open_source(DatasetConfig(name="x", source="folder", path=str(path)), raw)


def read_all(source: Source) -> dict[str, RawPicture]:
    return {picture.id: picture for picture in source.read(source.entries())}


def test_first_folder_is_the_class(tmp_path: Path) -> None:
    put(tmp_path / "in/dog/b.png", 1)
    put(tmp_path / "in/cat/deep/a.jpg", 2)
    put(tmp_path / "in/dog/a.png", 3)
    (tmp_path / "in/dog/notes.txt").write_text("no picture")
    put(tmp_path / "in/dog/.thumb.png")
    put(tmp_path / "in/.cache/x.png")
    source = opened(tmp_path / "in", tmp_path / "raw")
    assert source.class_names == ["cat", "dog"]
    assert source.entries().select(["id", "label"]).to_pylist() == [
        {"id": "cat/deep/a.jpg", "label": 0},
        {"id": "dog/a.png", "label": 1},
        {"id": "dog/b.png", "label": 1},
    ]
    pictures = read_all(source)
    assert pictures["dog/b.png"].rgb.shape == (16, 20, 3) and (pictures["dog/b.png"].rgb[0, 0] == [1, 10, 20]).all()
    assert next(source.read(source.entries().slice(1, 1))).id == "dog/a.png"


def test_heic_is_left_out_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "in/a.png")
    (tmp_path / "in/b.HEIC").touch()
    assert opened(tmp_path / "in", tmp_path / "raw").entries()["id"].to_pylist() == ["a.png"]
    assert "left out: 1 .heic; convert HEIC, for example with heif-convert" in capsys.readouterr().out


def test_tar_is_read_in_place(tmp_path: Path) -> None:
    put(tmp_path / "in/dog/b.png", 1)
    put(tmp_path / "in/cat/a.jpg", 2)
    put(tmp_path / "in/dog/.thumb.png")
    (tmp_path / "in/dog/link.png").symlink_to("b.png")
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        archive.add(tmp_path / "in", arcname=".")
        escaping = tarfile.TarInfo("../out.png")
        archive.addfile(escaping)
    source = opened(tmp_path / "in.tar", tmp_path / "raw")
    pictures = read_all(source)
    assert source.class_names == ["cat", "dog"]
    assert list(pictures) == ["../out.png", "cat/a.jpg", "dog/b.png", "dog/link.png"]
    assert (pictures["dog/b.png"].rgb[0, 0] == [1, 10, 20]).all() and pictures["dog/b.png"].label == 1
    assert "unsafe name" in pictures["../out.png"].error and "link" in pictures["dog/link.png"].error
    os.utime(tmp_path / "in.tar", ns=(1, 1))
    with pytest.raises(UserError, match="changed since stage download listed it"):
        read_all(source_again(tmp_path / "in.tar", tmp_path / "raw"))


def test_hidden_folders_of_a_zip_are_left_out(tmp_path: Path) -> None:
    """As those of a folder and of a tar: programs keep thumbnails there, which would become a class."""
    put(tmp_path / "dog.png")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("dog/a.png", ".thumbnails/a.png", "dog/.cache/a.png", "__MACOSX/dog/a.png"):
            archive.write(tmp_path / "dog.png", name)
    source = opened(tmp_path / "in.zip", tmp_path / "raw")
    assert source.class_names == ["dog"] and source.entries()["id"].to_pylist() == ["dog/a.png"]


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.tar.gz").touch()
    with pytest.raises(UserError, match=r"in\.tar\.gz is compressed.*unpack it"):
        opened(tmp_path / "in.tar.gz", tmp_path / "raw")


def test_without_folders_there_is_one_class(tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    put(tmp_path / "in/b.png")
    source = opened(tmp_path / "in", tmp_path / "raw")
    assert source.class_names == ["all"] and source.entries()["label"].to_pylist() == [0, 0]


def test_a_folder_of_broken_links_is_no_class(tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    (tmp_path / "in/old").mkdir()
    (tmp_path / "in/old/b.png").symlink_to(tmp_path / "nowhere")
    source = opened(tmp_path / "in", tmp_path / "raw")
    assert source.class_names == ["all"]
    errors = {name: picture.error for name, picture in read_all(source).items()}
    assert errors == {"a.png": None, "old/b.png": "a broken symbolic link"}


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    put(tmp_path / "in/dog/good.png")
    put(tmp_path / "in/stray.png")
    put(tmp_path / "secret/private.png")
    (tmp_path / "in/dog/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "in/dog/empty.png").touch()
    (tmp_path / "in/dog/out.png").symlink_to(tmp_path / "secret/private.png")
    (tmp_path / "in/dog/inside.png").symlink_to("good.png")
    (tmp_path / "in/dog/nowhere.png").symlink_to("gone.png")
    (tmp_path / "in/linked").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / os.fsdecode(b"dog/caf\xe9.png")).write_bytes((tmp_path / "in/dog/good.png").read_bytes())
    pictures = read_all(opened(tmp_path / "in", tmp_path / "raw"))
    reasons = {name: picture.error for name, picture in pictures.items() if picture.error}
    assert set(pictures) - set(reasons) == {"dog/good.png", "dog/inside.png"}
    assert "outside of the class folders" in reasons["stray.png"]
    assert "out of the folder" in reasons["dog/out.png"]
    assert "not followed" in reasons["linked"]
    assert "broken symbolic link" in reasons["dog/nowhere.png"]
    assert "empty" in reasons["dog/empty.png"]
    assert "UTF-8" in reasons["dog/caf\\udce9.png"]
    assert reasons["dog/broken.jpg"]


def test_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    with (tmp_path / "in/b.png").open("wb") as stream:
        stream.truncate(2**30)
    assert "limit" in read_all(opened(tmp_path / "in", tmp_path / "raw"))["b.png"].error


@pytest.mark.parametrize("change", ["content", "gone", "replaced by a link"])
def test_changes_since_download_are_found(tmp_path: Path, change: str) -> None:
    put(tmp_path / "in/a.png", 1)
    put(tmp_path / "other.png", 2)
    source = opened(tmp_path / "in", tmp_path / "raw")
    file = tmp_path / "in/a.png"
    if change == "content":
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    else:
        file.unlink()
        if change != "gone":
            file.symlink_to(tmp_path / "other.png")
    with pytest.raises(UserError, match=r"a\.png: (changed|vanished) since stage download.*dvc repro"):
        list(source.read(source.entries()))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.path: .*missing does not exist"):
        opened(tmp_path / "missing", tmp_path / "raw")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"dataset.path: .*empty holds no images"):
        opened(tmp_path / "empty", tmp_path / "raw")
    (tmp_path / "file.png").write_bytes(b"no zip")
    with pytest.raises(UserError, match="neither a folder nor a zip"):
        opened(tmp_path / "file.png", tmp_path / "raw")


def test_folder_that_cannot_be_read_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in/a/1.png")
    put(tmp_path / "in/b/1.png")
    scan = os.scandir

    def refuse(place: str) -> object:  # permissions do not keep an administrator out
        if str(place).endswith("in/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    pictures = read_all(opened(tmp_path / "in", tmp_path / "raw"))
    assert {name: picture.error for name, picture in pictures.items()} == {
        "a/1.png": None,
        "b": "the folder cannot be read: Permission denied",
    }


def test_another_source_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / "in/a.png")
    opened(tmp_path / "in", tmp_path / "raw")
    with pytest.raises(UserError, match=r"comes from source 'folder', not 'rgbd'; run `dvc repro download`"):
        open_source(DatasetConfig(name="x", source="rgbd", path="in"), tmp_path / "raw")


def test_zip_is_read_in_place(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 7)
    data = (tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("dog/a.png", "../evil.png", "/etc/evil.png", "dog/../../evil.png", "__MACOSX/dog/._a.png"):
            archive.writestr(name, data)
    before = sorted(tmp_path.rglob("*"))
    pictures = read_all(opened(tmp_path / "in.zip", tmp_path / "raw"))
    assert (pictures["dog/a.png"].rgb[0, 0] == [7, 10, 20]).all()
    assert len(pictures) == 4 and sum("unsafe" in (p.error or "") for p in pictures.values()) == 3
    assert [path for path in sorted(tmp_path.rglob("*")) if "raw" not in str(path)] == before


def test_backslashes_of_a_zip_are_slashes(tmp_path: Path) -> None:
    """Compress-Archive of Windows PowerShell 5 writes them."""
    put(tmp_path / "a.png", 7)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("dog\\a.png", "cat\\", "cat\\a.png", "..\\a.png", "dog\\.cache\\a.png"):
            archive.write(tmp_path / "a.png", name)
    source = opened(tmp_path / "in.zip", tmp_path / "raw")
    pictures = read_all(source)
    assert source.class_names == ["cat", "dog"] and set(pictures) == {"../a.png", "cat/a.png", "dog/a.png"}
    assert (pictures["dog/a.png"].rgb[0, 0] == [7, 10, 20]).all() and "unsafe" in pictures["../a.png"].error


@pytest.mark.parametrize("place", [6, 46], ids=["unknown version", "name that is not UTF-8"])
def test_damaged_zip(tmp_path: Path, place: int) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("ä.png", b"")
    data = bytearray((tmp_path / "in.zip").read_bytes())
    data[data.index(b"PK\1\2") + place] = 255
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(UserError, match="neither a folder nor a zip file, or is damaged"):
        opened(tmp_path / "in.zip", tmp_path / "raw")


def test_zip_member_without_a_name(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
        archive.writestr(zipfile.ZipInfo(""), b"")
    pictures = read_all(opened(tmp_path / "in.zip", tmp_path / "raw"))
    assert "unsafe name" in pictures[""].error and pictures["a.png"].error is None


def test_damaged_zip_member_is_a_reject(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "picture.png")
            archive.write(tmp_path / "picture.png", name)
    data = bytearray((tmp_path / "in.zip").read_bytes())
    data[200] ^= 255
    (tmp_path / "in.zip").write_bytes(data)
    pictures = read_all(opened(tmp_path / "in.zip", tmp_path / "raw"))
    assert "zip" in pictures["a.png"].error and pictures["b.png"].error is None
