"""Samples in folders and archives: the same preparation as the real set, and errors for invalid files."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threedgp.data.prepare import square
from threedgp.data.source import RawPicture
from threedgp.evaluation.sample_files import open_samples, random_order, read_depth, write_archive
from threedgp.evaluation.streams import Stream
from threedgp.runtime.errors import UserError

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
NAMES = ["a/0.png", "a/1.png", "b.png"]
ORDER = random_order(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    for name, picture in zip(NAMES, PICTURES, strict=True):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / name)
    (place / "about.txt").write_text("no picture")
    return place


def test_preparation_is_that_of_the_real_set(folder, tmp_path):
    samples = open_samples(folder, None, None, 8, tmp_path)
    expected = [square(RawPicture("", 0, picture), 8)[0] for picture in PICTURES[ORDER]]
    np.testing.assert_array_equal(samples.images.head(9).transpose(0, 2, 3, 1), expected)
    assert samples.labels is None
    assert samples.depth is None


def test_images_of_the_right_size_are_unchanged(folder, tmp_path):
    samples = open_samples(folder, None, None, 12, tmp_path)
    np.testing.assert_array_equal(samples.images.head(9).transpose(0, 2, 3, 1), PICTURES[ORDER][:, :, 2:14])


def test_labels_and_depth(folder, tmp_path):
    labels = tmp_path / "dataset.json"
    labels.write_text(json.dumps({"labels": [[name, number] for number, name in enumerate(NAMES)]}))
    depth = tmp_path / "depth"
    (depth / "a").mkdir(parents=True)
    maps = np.linspace(0, 65535, 8 * 11).reshape(8, 11).astype(np.uint16)  # 3:4 like the images, up to rounding
    Image.fromarray(maps).save(depth / "a" / "0_depth.png")
    np.save(depth / "a" / "1.npy", maps.astype(np.float32) + 2)
    Image.fromarray(maps).save(depth / "b.png")
    samples = open_samples(folder, depth, labels, 8, tmp_path)
    assert samples.labels.tolist() == ORDER.tolist()
    found = samples.depth.head(9)[np.argsort(ORDER)]
    assert found.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(found[0, 0], maps[:, 1:9] / 65535, atol=1e-6)
    np.testing.assert_allclose(found[1, 0], maps[:, 1:9] + 2.0, rtol=1e-6)
    (depth / "b.png").unlink()
    with pytest.raises(UserError, match=r"no depth for b\.png.*b_depth\.png"):
        open_samples(folder, depth, labels, 8, tmp_path)


def test_depth_map_with_a_suffix_in_capitals(folder, tmp_path):
    depth = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300
    Image.fromarray(depth).save(tmp_path / "DEPTH.PNG")
    (found,) = read_depth([tmp_path / "DEPTH.PNG"], [folder / "b.png"], 12)
    np.testing.assert_allclose(found[0], depth[:, 2:14] / 65535, atol=1e-6)


def test_archive_of_adm(tmp_path):
    cut = PICTURES[:, :, 2:14].transpose(0, 3, 1, 2)
    write_archive(tmp_path / "samples.npz", Stream(3, [lambda: cut]), np.array([5, 6, 7]))
    samples = open_samples(tmp_path / "samples.npz", None, None, 12, tmp_path / "scratch")
    np.testing.assert_array_equal(samples.images.head(9), cut[ORDER])
    assert samples.labels.tolist() == [5 + index for index in ORDER]


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_first_samples_are_of_all_classes(kind, tmp_path):
    """Metrics that compare a part of the samples take the first ones, and files are often sorted by class."""
    labels = np.repeat(np.arange(5), 20)
    images = np.broadcast_to(labels[:, None, None, None].astype(np.uint8), (100, 3, 8, 8))
    if kind == "archive":
        place, listing, depth = tmp_path / "samples.npz", None, None
        write_archive(place, Stream(100, [lambda: images]), labels)
    else:
        place = depth = tmp_path / "samples"
        listing = tmp_path / "dataset.json"
        names = [f"{label}/{index}.png" for index, label in enumerate(labels)]
        listing.write_text(json.dumps({"labels": list(zip(names, labels.tolist(), strict=True))}))
        for name, image, label in zip(names, images, labels, strict=True):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(place / name)
            np.save(place / name.replace(".png", "_depth.npy"), np.full((8, 8), label, np.float32))
    samples = open_samples(place, depth, listing, 8, tmp_path)
    found = samples.images.head(100)[:, 0, 0, 0]
    assert sorted(found) == labels.tolist()
    assert set(found[:20]) == {0, 1, 2, 3, 4}
    assert found.tolist() == samples.labels.tolist()
    if depth:
        np.testing.assert_array_equal(samples.depth.head(100)[:, 0, 0, 0], found)


def test_invalid_input(folder, tmp_path):
    def refused(match: str, images: Path, depth: Path | None = None, labels: Path | None = None) -> None:
        with pytest.raises(UserError, match=match) as error:
            samples = open_samples(images, depth, labels, 8, tmp_path / "scratch" / images.name)
            for stream in filter(None, (samples.images, samples.depth)):
                stream.head(9)
        assert "\n" not in str(error.value)

    refused("no such folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("there are no images", tmp_path / "empty")
    (tmp_path / "labels.json").write_text("[]")
    refused(r"labels\.json: is not of the form", folder, labels=tmp_path / "labels.json")
    (tmp_path / "labels.json").write_text('{"labels": [["a/0.png", 1]]}')
    refused(r"has no label for a/1\.png", folder, labels=tmp_path / "labels.json")
    (folder / "b_depth.npy").write_bytes(pickle.dumps({"code": 1}))
    for name in ("a/0_depth.npy", "a/1_depth.npy"):
        np.save(folder / name, np.ones((3, 4)))
    refused(r"b_depth\.npy: is not a depth map", folder, depth=folder)
    (folder / "b.png").write_bytes(b"broken")
    refused(r"b\.png: cannot be used", folder)
    np.savez(tmp_path / "small.npz", arr_0=np.zeros((3, 2, 2, 3), np.uint8))
    with pytest.raises(UserError, match=r"small\.npz: cannot be used \(2x2 pixels are too few for 32x32\)"):
        open_samples(tmp_path / "small.npz", None, None, 32, tmp_path / "scratch")


def npy(header: str) -> bytes:
    """A file whose header declares another array than it holds."""
    return b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117).encode() + b"\n" + bytes(64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.ones((0, 0)), "not a map"),
        (np.ones((0, 5)), "not a map"),
        (np.ones((2, 3, 4)), "not a map"),
        (np.ones((3, 4), complex), "not a map"),
        (np.full((3, 4), "far"), "not a map"),
        (np.full((3, 4), np.nan), "not finite everywhere"),
        (np.full((3, 4), 1e300), "not finite everywhere"),
        (np.ones((8, 8)), "8x8 pixels do not fit the image's 16x12"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000, 2000000)}"), "not an array of numbers"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (((("), "not an array of numbers"),
        (b"", "not an array of numbers"),
    ],
)
def test_invalid_depth_maps(folder, tmp_path, content, reason, recwarn):
    depth = tmp_path / "depth"
    for name in NAMES:
        (depth / name).parent.mkdir(parents=True, exist_ok=True)
        np.save((depth / name).with_suffix(".npy"), np.ones((12, 16)))
    if isinstance(content, bytes):
        (depth / "b.npy").write_bytes(content)
    else:
        np.save(depth / "b.npy", content)
    with pytest.raises(UserError, match=rf"b\.npy: is not a depth map \(.*{reason}") as told:
        open_samples(folder, depth, None, 8, tmp_path).depth.head(9)
    assert "\n" not in str(told.value) and not recwarn.list


@pytest.mark.parametrize(
    "text",
    [
        '{"labels": [["a/0.png", 1.5], ["a/1.png", 1], ["b.png", 1]]}',
        '{"labels": [["a/0.png", Infinity], ["a/1.png", 1], ["b.png", 1]]}',
        '{"labels": [["a/0.png", "1"], ["a/1.png", 1], ["b.png", 1]]}',
        '{"labels": [["a/0.png", 1, 2]]}',
        '{"labels": null}',
        "[" * 100_000,
    ],
)
def test_invalid_labels(folder, tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UserError, match=r"labels\.json: is not of the form"):
        open_samples(folder, None, tmp_path / "labels.json", 8, tmp_path)


def test_too_small_images_are_rejected(folder, tmp_path):
    """Stage `prepare` rejects such real images, too."""
    Image.fromarray(PICTURES[0][:1, :1]).save(folder / "b.png")
    with pytest.raises(UserError, match=r"b\.png: cannot be used \(1x1 pixels are too few for 16x16\)"):
        open_samples(folder, None, None, 16, tmp_path).images.head(9)


@pytest.mark.parametrize(
    "content",
    [
        {"arr_0": np.zeros((2, 3, 8, 8), np.uint8)},
        {"arr_0": np.zeros((2, 0, 8, 3), np.uint8)},
        {"arr_0": np.zeros((2, 8, 8, 3), np.uint8), "arr_1": np.full(2, np.nan)},
        {"arr_0": np.zeros((2, 8, 8, 3), np.uint8), "arr_1": np.array([0.5, 1])},
        {"arr_0": np.zeros((2, 8, 8, 3), np.float32)},
        {"other": np.zeros((2, 8, 8, 3), np.uint8)},
        {"arr_0": np.array([{"code": "run"}], object)},
        {"arr_0": np.zeros((2, 8, 8, 3), np.uint8), "arr_1": np.zeros(3)},
        {"arr_0": np.zeros((2, 8, 8, 3), np.uint8), "arr_1": np.array([{}, {}], object)},
    ],
)
def test_archives_with_other_content(content, tmp_path):
    np.savez(tmp_path / "samples.npz", **content)
    with pytest.raises(UserError, match="not an archive of samples"):
        open_samples(tmp_path / "samples.npz", None, None, 8, tmp_path / "scratch")


@pytest.mark.parametrize("member", ["arr_0", "arr_1"])
@pytest.mark.parametrize(
    "shape", ["(((", "(-2, -8, 8, 3)", "(2.0, 8, 8, 3)", "([],)", "(2**62, 8, 8, 3)", f"({2**63}, 8, 8, 3)", "(" * 2000]
)
def test_headers_of_arrays_that_lie(member, shape, tmp_path, recwarn):
    with zipfile.ZipFile(tmp_path / "samples.npz", "w") as archive:
        for name in ("arr_0", "arr_1"):
            header = (
                f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape if name == member else (2, 8, 8, 3)}}}\n"
            )
            content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(384)
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(UserError, match="not an archive of samples"):
        open_samples(tmp_path / "samples.npz", None, None, 8, tmp_path / "scratch")
    assert not recwarn.list


def test_labels_that_unpack_to_more_than_the_images_need(tmp_path):
    with zipfile.ZipFile(tmp_path / "samples.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("arr_0", np.zeros((2, 8, 8, 3), np.uint8)), ("arr_1", np.zeros((10**6, 2)))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    with pytest.raises(UserError, match="not an archive of samples"):
        open_samples(tmp_path / "samples.npz", None, None, 8, tmp_path / "scratch")


def test_missing_and_unreadable_archives(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz: there is no such file"):
        open_samples(tmp_path / "nowhere.npz", None, None, 8, tmp_path / "scratch")
    folder = tmp_path / "named-like-an-archive.npz"
    folder.mkdir()
    with pytest.raises(UserError, match="there are no images"):
        open_samples(folder, None, None, 8, tmp_path / "scratch")
    np.savez(tmp_path / "samples.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    data = bytearray((tmp_path / "samples.npz").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 10 : entry + 12] = b"\x63\x00"  # method 99, which no reader of NumPy's knows
    (tmp_path / "samples.npz").write_bytes(data)
    with pytest.raises(UserError, match="not an archive of samples"):
        open_samples(tmp_path / "samples.npz", None, None, 8, tmp_path / "scratch")


def test_damaged_archive(tmp_path):
    np.savez(tmp_path / "whole.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    data = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "samples.npz").write_bytes(data[: len(data) // 2])
    assert not zipfile.is_zipfile(tmp_path / "samples.npz")
    with pytest.raises(UserError, match="not an archive of samples"):
        open_samples(tmp_path / "samples.npz", None, None, 8, tmp_path / "scratch")


BATCHES = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 5), dtype=np.uint8)
STREAM = Stream(7, [lambda: BATCHES[:4], lambda: BATCHES[4:]])


def test_numpy_reads_the_archive(tmp_path):
    write_archive(tmp_path / "samples.npz", STREAM, np.arange(7, dtype=np.int32))
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0", "arr_1"]
        assert archive["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(archive["arr_0"], BATCHES.transpose(0, 2, 3, 1))
        assert archive["arr_1"].dtype == np.int64
        assert archive["arr_1"].tolist() == list(range(7))


def test_archives_of_the_same_samples_are_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_archive(tmp_path / name, STREAM)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert np.load(tmp_path / "a.npz").files == ["arr_0"]
