"""Crops, resizing and rejects of prepared sets."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.distributed import HashStore

from threedgp.config import PrepareConfig
from threedgp.data.images import decode_image
from threedgp.data.prepare import (
    center_crop,
    crop_picture,
    describe_rejects,
    prepare_set,
    resize_depth,
    square,
    square_depth,
)
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import ProcessGroup

RNG = np.random.default_rng(0)


class Pictures:
    """A source of random images, some of them bad."""

    name = "random"
    class_names = ("even", "odd")

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.count, self.bad = count, bad

    def entries(self) -> pa.Table:
        numbers = range(self.count)
        return pa.table({"id": [f"{n:03d}" for n in numbers], "label": pa.array([n % 2 for n in numbers], pa.int32())})

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        for name in entries["id"].to_pylist():
            number = int(name)
            if number in self.bad:
                yield RawPicture(name, number % 2, error="it is bad")
            else:
                rgb = np.random.default_rng(number).integers(0, 256, (20 + number % 3, 24, 3), dtype=np.uint8)
                yield RawPicture(name, number % 2, rgb)


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(10, 10, (0, 0, 10, 10)), (10, 14, (2, 0, 12, 10)), (15, 10, (0, 2, 10, 12)), (1, 2, (0, 0, 1, 1))],
)
def test_crop_is_the_central_square(height: int, width: int, crop: tuple[int, ...]) -> None:
    assert center_crop(height, width) == crop


@pytest.mark.parametrize("size", [(40, 56), (33, 20), (16, 16), (7, 9)])
def test_square_is_what_pillow_makes_of_the_crop(size: tuple[int, int]) -> None:
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    image, (left, top, right, bottom) = square(RawPicture("a", 0, rgb), 16)
    cut = Image.fromarray(rgb[top:bottom, left:right])
    np.testing.assert_array_equal(image, np.asarray(cut.resize((16, 16), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize("side", [96, 160, 256])
def test_large_images_are_as_pillow_makes_them(side: int) -> None:
    """From 6 times the resolution on area averages come first: 50 dB, a tenth of the error of JPEG 95, is no loss.

    Octaves of noise with the spectrum of photographs, amplitude 1 / frequency.
    """
    cells = [side // 2**octave for octave in range(8) if side >= 2**octave]
    noise = [RNG.normal(size=(side // cell + 1, side // cell + 1, 3)) * cell for cell in cells]
    picture = sum(np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_CUBIC)) for layer in noise)
    rgb = np.clip(picture / picture.std() * 50 + 120, 0, 255).astype(np.uint8)
    image = square(RawPicture("a", 0, rgb), 16)[0].astype(int)
    plain = np.asarray(Image.fromarray(rgb).resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    assert 10 * np.log10(255**2 / max(np.mean((image - plain) ** 2), 1e-3)) > 50
    assert np.abs(image - plain).max() <= 3


def test_square_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the small image can show: it has to turn gray
    image, _ = square(RawPicture("a", 0, stripes), 16)
    assert np.abs(image[:, 2:-2].astype(int) - 127).max() <= 3  # at the border the filter is cut off


def test_depth_goes_through_the_same_crop() -> None:
    depth = RNG.random((12, 20)).astype(np.float32)
    expected = depth[:, 4:16].reshape(6, 2, 6, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(square_depth(depth, 6), expected, rtol=1e-5)
    whole = RawPicture("a", 0, np.zeros((12, 20, 3), np.uint8), depth)
    cropped = crop_picture(whole, (4, 0, 16, 12))
    assert cropped.rgb.shape == (12, 12, 3)
    np.testing.assert_allclose(resize_depth(cropped.depth, 6), expected, rtol=1e-5)


def test_depth_can_grow() -> None:
    ramp = np.tile(np.arange(4, dtype=np.float32), (4, 1))
    large = resize_depth(ramp, 8)
    assert large.shape == (8, 8) and large.min() == 0 and large.max() == 3 and (np.diff(large[0]) >= 0).all()


def prepared(folder: Path, source: Pictures, workers: int = 1, *, most: float = 0.2, **settings: object) -> ShardFolder:
    settings = {"shard_rows": 70, **settings}
    prepare_set(source, folder, PrepareConfig(**settings), 16, workers, max_reject_fraction=most)
    return ShardFolder(folder)


def test_prepared_set(tmp_path: Path) -> None:
    source = Pictures(150, bad=(0, 71, 149))
    folder = prepared(tmp_path / "prepared", source)
    assert [file.rows for file in folder.manifest.files] == [69, 69, 9]
    assert folder.meta["class_names"] == ["even", "odd"] and folder.meta["rejects"] == 3
    rows = pa.concat_tables(folder.iterate()).to_pylist()
    assert [row["id"] for row in rows] == [f"{n:03d}" for n in range(150) if n not in source.bad]
    for row, picture in zip(rows, (p for p in source.read(source.entries()) if p.rgb is not None), strict=True):
        image, crop = square(picture, 16)
        np.testing.assert_array_equal(decode_image(row["image"]["bytes"]), image)
        assert tuple(row["crop"]) == crop and row["label"] == picture.label
    rejects = pq.read_table(tmp_path / "prepared/rejects.parquet").to_pylist()
    assert rejects == [{"id": name, "reason": "it is bad"} for name in ("000", "071", "149")]
    assert describe_rejects(tmp_path / "prepared") == [
        "3 of 150 images were left out (prepared/rejects.parquet lists them):",
        "  3: it is bad (first 000)",
    ]


def test_nothing_is_said_about_no_rejects(tmp_path: Path) -> None:
    prepared(tmp_path / "prepared", Pictures(8))
    assert describe_rejects(tmp_path / "prepared") == []


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (1, 3):
        prepared(tmp_path / str(workers) / "prepared", Pictures(150, bad=(3, 99)), workers)
    one, three = (sorted((tmp_path / str(workers) / "prepared").iterdir()) for workers in (1, 3))
    assert [file.name for file in one] == [file.name for file in three]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, three, strict=True))


ENCODINGS = [("webp", b"RIFF"), ("png", b"\x89PNG"), ("jpeg", b"\xff\xd8")]


@pytest.mark.parametrize(("encoding", "mark"), ENCODINGS)
def test_encodings(tmp_path: Path, encoding: str, mark: bytes) -> None:
    folder = prepared(tmp_path / "prepared", Pictures(3), encoding=encoding)
    assert folder.read(0)["image"][0].as_py()["bytes"].startswith(mark)


def test_processes_share_the_shards(tmp_path: Path) -> None:
    """Two members of a group, here in threads, write together what one alone writes."""
    whole = prepared(tmp_path / "whole/prepared", Pictures(150, bad=(3, 99)), shard_rows=20)
    place, store = tmp_path / "shared/prepared", HashStore()

    def take_part(rank: int) -> None:
        source, settings = Pictures(150, bad=(3, 99)), PrepareConfig(shard_rows=20)
        prepare_set(source, place, settings, 16, 1, ProcessGroup(rank, 2, store))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take_part, range(2)))
    assert ShardFolder(place).manifest == whole.manifest


def test_shard_without_a_good_image(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared", Pictures(6, bad=(2, 3)), shard_rows=2, most=0.5)
    assert [file.rows for file in folder.manifest.files] == [2, 0, 2]


def test_too_many_rejects(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"3 of 10 .*machine.max_reject_fraction \(0.2\).*3 times, first 004\): it is bad"
    ):
        prepared(tmp_path / "prepared", Pictures(10, bad=(4, 5, 6)))
    with pytest.raises(UserError, match="2 of 2 images cannot be used"):
        prepared(tmp_path / "none", Pictures(2, bad=(0, 1)), most=1)


def test_tiny_images_are_rejects(tmp_path: Path) -> None:
    class Tiny(Pictures):
        def read(self, entries: pa.Table) -> Iterator[RawPicture]:
            for picture in super().read(entries):
                yield RawPicture(picture.id, 0, picture.rgb[:, :1] if picture.id == "001" else picture.rgb)

    prepared(tmp_path / "prepared", Tiny(8))
    (reject,) = pq.read_table(tmp_path / "prepared/rejects.parquet").to_pylist()
    assert reject["id"] == "001" and "1x21 pixels are too few" in reject["reason"]
