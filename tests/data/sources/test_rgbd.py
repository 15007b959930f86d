"""Source `rgbd`: images meet their depth maps and labels; the 24 real images."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threedgp.config import parse_config
from threedgp.data.source import RawPicture, Source, download_source, open_source
from threedgp.data.sources import rgbd
from threedgp.runtime.errors import UserError


def put(folder: Path, name: str, depth: tuple[int, int] | None = (12, 8), value: int = 1000) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), "red").save(folder / name)
    if depth:
        width, height = depth
        Image.fromarray(np.full((height, width), value, np.uint16)).save(
            (folder / name).with_suffix("").with_name((folder / name).stem + "_depth.png")
        )


def opened(path: Path, raw: Path) -> Source:
    config = parse_config({"dataset": {"name": "x", "source": "rgbd", "path": str(path)}})
    download_source(config, raw)
    return open_source(config.dataset, raw)


def read_all(source: Source) -> dict[str, RawPicture]:
    return {picture.id: picture for picture in source.read(source.entries())}


def test_pairs(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg", value=500)
    put(tmp_path / "in", "b.png", value=65535)
    put(tmp_path / "in", "half.jpg", depth=(6, 4), value=30000)
    source = opened(tmp_path / "in", tmp_path / "raw")
    pictures = read_all(source)
    assert list(pictures) == ["a", "b", "half"] and source.class_names == ["all"]
    for name, value in (("a", 500), ("b", 65535), ("half", 30000)):
        assert pictures[name].depth.shape == pictures[name].rgb.shape[:2] == (8, 12)
        np.testing.assert_allclose(pictures[name].depth, value / 65535, rtol=1e-6)


def test_folders_of_images_and_depth(tmp_path: Path) -> None:
    for name in ("cow/a", "horse/b"):
        put(tmp_path / "in", f"images/{name}.jpg", depth=None)
        (tmp_path / f"in/depth/{name}.png").parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 12), 500, np.uint16)).save(tmp_path / f"in/depth/{name}.png")
    put(tmp_path / "in", "images/horse/alone.jpg", depth=None)
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        archive.add(tmp_path / "in", arcname=".")
    for place in ("in", "in.tar"):
        source = opened(tmp_path / place, tmp_path / f"raw of {place}")
        pictures = read_all(source)
        assert source.class_names == ["cow", "horse"] and list(pictures) == ["cow/a", "horse/alone", "horse/b"]
        assert pictures["horse/b"].label == 1 and pictures["horse/b"].depth.shape == (8, 12)
        assert "no depth map of horse/alone" in pictures["horse/alone"].error
        assert rgbd.SOURCE.contents(tmp_path / place, None).num_images == 2


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    put(tmp_path / "in", "good.jpg")
    put(tmp_path / "in", "alone.jpg", depth=None)
    put(tmp_path / "in", "shape.jpg", depth=(8, 12))
    put(tmp_path / "in", "eight.jpg", depth=None)
    Image.new("L", (12, 8)).save(tmp_path / "in/eight_depth.png")
    put(tmp_path / "in", "twice.jpg")
    put(tmp_path / "in", "twice.png", depth=None)
    pictures = read_all(opened(tmp_path / "in", tmp_path / "raw"))
    assert pictures["good"].error is None and pictures["twice"].error is None
    assert "no depth map of alone" in pictures["alone"].error
    assert "8x12 pixels, the image 12x8" in pictures["shape"].error
    assert "16 bits" in pictures["eight"].error
    assert "called twice" in pictures["twice.png"].error


def test_labels(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path / "in", name)
    (tmp_path / "in/dataset.json").write_text(json.dumps({"labels": [["a.jpg", 3], ["b.jpg", 0]]}))
    source = opened(tmp_path / "in", tmp_path / "raw")
    assert source.class_names == ["0", "1", "2", "3"]
    assert source.entries()["label"].to_pylist()[:2] == [3, 0]
    assert "not in dataset.json" in read_all(source)["c"].error


def test_two_labels_of_one_image_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg")
    for pairs in ([["a.jpg", 1], ["a.jpg", 0]], [["sub/a.jpg", 1], ["sub\\a.jpg", 0]]):
        (tmp_path / "in/dataset.json").write_text(json.dumps({"labels": pairs}))
        with pytest.raises(UserError, match=r"dataset\.json gives (sub/)?a\.jpg two labels, 1 and 0; remove one"):
            opened(tmp_path / "in", tmp_path / "raw")


def test_backslashes_in_labels_are_slashes(tmp_path: Path) -> None:
    put(tmp_path / "in", "sub/a.jpg")
    (tmp_path / "in/dataset.json").write_text(json.dumps({"labels": [["sub\\a.jpg", 2]]}))
    assert opened(tmp_path / "in", tmp_path / "raw").entries()["label"].to_pylist() == [2]


def test_suffix_of_depth_maps_in_capitals(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg")
    (tmp_path / "in/a_depth.png").rename(tmp_path / "in/a_depth.PNG")
    pictures = read_all(opened(tmp_path / "in", tmp_path / "raw"))
    assert list(pictures) == ["a"] and pictures["a"].depth is not None


def test_zero_is_the_nearest_depth(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg")
    with Image.open(tmp_path / "in/a_depth.png") as image:
        depth = np.zeros(image.size[::-1], np.uint16)
    depth[0] = 65535
    Image.fromarray(depth).save(tmp_path / "in/a_depth.png")
    found = read_all(opened(tmp_path / "in", tmp_path / "raw"))["a"]
    assert found.error is None and found.depth.min() == 0 and found.depth.max() == 1


def test_files_of_other_kinds_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "in", "a.jpg")
    for name in ("b.HEIC", "c.heic", "d.jxl", "e"):
        (tmp_path / "in" / name).write_bytes(b"x")
    opened(tmp_path / "in", tmp_path / "raw")
    assert "are left out: 2 .heic, 1 .jxl, 1 no suffix; convert HEIC" in capsys.readouterr().out


def test_null_labels_mean_one_class(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg")
    (tmp_path / "in/dataset.json").write_text('{"labels": null}')
    assert opened(tmp_path / "in", tmp_path / "raw").class_names == ["all"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"labels": 3}', '{"labels": [["a.jpg", -1]]}', '{"labels": [["a.jpg", "x"]]}', "[" * 100_000],
    ids=lambda text: text[:30],
)
def test_bad_labels_are_named(tmp_path: Path, text: str) -> None:
    put(tmp_path / "in", "a.jpg")
    (tmp_path / "in/dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset.json is not of the form"):
        opened(tmp_path / "in", tmp_path / "raw")


def test_labels_that_are_large_for_the_images_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rgbd, "MAX_CLASSES", 1)
    put(tmp_path / "in", "a.jpg")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "in/a.jpg", "a.jpg")
        archive.writestr("dataset.json", '{"labels": null}' + " " * 2000)
    with pytest.raises(UserError, match=r"dataset\.json has 2,016 bytes, too many for 1 images"):
        opened(tmp_path / "in.zip", tmp_path / "raw")


def test_depth_maps_alone(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jpg")
    (tmp_path / "in/a.jpg").unlink()
    with pytest.raises(UserError, match="no images beside them"):
        opened(tmp_path / "in", tmp_path / "raw")


def test_zip_equals_folder(tmp_path: Path) -> None:
    put(tmp_path / "in/sub", "a.jpg", value=7)
    put(tmp_path / "in/sub", "b.jpg", value=9)
    (tmp_path / "in/sub/dataset.json").write_text(json.dumps({"labels": [["a.jpg", 1], ["b.jpg", 0]]}))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in (tmp_path / "in").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "in"))
    folder, packed = (opened(tmp_path / name, tmp_path / f"raw {name}") for name in ("in", "in.zip"))
    assert folder.class_names == packed.class_names == ["0", "1"]
    for one, other in zip(read_all(folder).values(), read_all(packed).values(), strict=True):
        assert (one.id, one.label, one.error) == (other.id, other.label, None)
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.depth, other.depth)


def test_real_images(real_rgbd: Path, tmp_path: Path) -> None:
    pictures = read_all(opened(real_rgbd, tmp_path / "raw"))
    assert len(pictures) == 24 and all(picture.error is None for picture in pictures.values())
    arch = pictures["11543"]
    np.testing.assert_array_equal(arch.rgb, np.asarray(Image.open(real_rgbd / "11543.jpg")))
    np.testing.assert_allclose(arch.depth * 65535, np.asarray(Image.open(real_rgbd / "11543_depth.png")), atol=0.01)
