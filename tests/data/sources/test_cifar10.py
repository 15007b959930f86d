"""Source `cifar10`: an archive in the original format, with few records per batch."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genuine_formats import read_all
from threedgp.data.source import Source
from threedgp.data.sources import cifar10
from threedgp.fetch.remote import checksum_of
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
ROWS = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (5, ROWS, 32, 32, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, (5, ROWS))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive, by the description on its page: label, 1,024 red bytes, 1,024 green, 1,024 blue, row by row."""
    path = tmp_path / "in" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as file:
        files = {"batches.meta.txt": b"airplane\n", "test_batch.bin": bytes(3073)}
        for batch in range(5):
            records = [
                bytes([label]) + b"".join(image[..., channel].tobytes() for channel in range(3))
                for image, label in zip(IMAGES[batch], LABELS[batch], strict=True)
            ]
            files[f"data_batch_{batch + 1}.bin"] = b"".join(records)
        for name, data in sorted(files.items(), reverse=True):  # in another order than that of the numbers
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(cifar10, "BATCH_ROWS", ROWS)
    monkeypatch.setattr(cifar10, "GROUP_ROWS", 7)
    monkeypatch.setattr(cifar10, "ARCHIVE", replace(cifar10.ARCHIVE, checksum=checksum_of(path, "md5")))
    return path


@pytest.mark.parametrize(
    ("subset", "names"), [("all", cifar10.CLASSES), ("horse_dog", ("horse", "dog"))], ids=["all", "horse_dog"]
)
def test_images_of_the_subset(opened: Opened, archive: Path, subset: str, names: tuple[str, ...]) -> None:
    source = opened("cifar10", archive, subset=subset)
    assert source.class_names == list(names)
    found = read_all(source)
    expected = [
        (f"{batch}-{row:04d}", names.index(cifar10.CLASSES[label]), IMAGES[batch, row])
        for batch in range(5)
        for row, label in enumerate(LABELS[batch])
        if cifar10.CLASSES[label] in names
    ]
    assert list(found) == [name for name, _, _ in expected]
    for name, label, image in expected:
        assert found[name].label == label
        np.testing.assert_array_equal(found[name].rgb, image)


def test_images_in_another_order(opened: Opened, archive: Path) -> None:
    source = opened("cifar10", archive.parent, subset="all")  # the folder that holds the archive
    entries = source.entries().take([199, 3, 41, 40, 4])
    for picture, name in zip(source.read(entries), ["4-0039", "0-0003", "1-0001", "1-0000", "0-0004"], strict=True):
        batch, row = map(int, name.split("-"))
        assert picture.id == name
        np.testing.assert_array_equal(picture.rgb, IMAGES[batch, row])


def test_download_of_the_archive(
    opened: Opened, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE", replace(cifar10.ARCHIVE, url=archive.as_uri()))
    source = opened("cifar10", None, subset="horse_dog", raw=tmp_path / "scratch" / "raw")
    assert len(source.entries()) == np.isin(LABELS, [5, 7]).sum()


def test_another_file_is_refused(opened: Opened, archive: Path, tmp_path: Path) -> None:
    with archive.open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz: has the checksum .* it is not CIFAR-10's archive"):
        opened("cifar10", archive, subset="all")
    with pytest.raises(UserError, match=r"dataset\.path: .*nowhere does not exist; download https"):
        opened("cifar10", tmp_path / "nowhere", subset="all")
