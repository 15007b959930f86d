"""Source `hub`: Parquet files of any data set of images, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genuine_formats import decoded, encoded, hub_table, picture, read_all, write_hub_files
from threedgp.config import DatasetConfig
from threedgp.data.source import Source, open_source
from threedgp.data.sources.hub import is_repository
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
PICTURES = [encoded(picture(number, 32, 32), "PNG") for number in range(10)]
LABELS = [number % 2 for number in range(10)]


@pytest.mark.parametrize(("labels", "names", "classes"), [
    (LABELS, ["cat", "dog"], ["cat", "dog"]), (LABELS, None, ["0", "1"]), (None, None, ["all"]),
])  # fmt: skip
def test_data_set_of_a_mirror(
    opened: Opened, tmp_path: Path, labels: list[int] | None, names: list[str] | None, classes: list[str]
) -> None:
    write_hub_files(tmp_path / "mirror/someone/animals/data", [hub_table(PICTURES, labels, names)])
    source = opened("hub", "someone/animals", machine={"mirror": str(tmp_path / "mirror")})
    assert source.class_names == classes
    pictures = list(read_all(source).values())
    for found, data, label in zip(pictures, PICTURES, labels or [0] * 10, strict=True):
        assert found.label == label
        np.testing.assert_array_equal(found.rgb, decoded(data))
    again = open_source(DatasetConfig(name="x", source="hub", path="someone/animals"), tmp_path / "scratch/raw")
    assert len(read_all(again)) == 10, "the files lie beside the listing"


def test_folder_is_used_in_place(opened: Opened, tmp_path: Path) -> None:
    write_hub_files(tmp_path / "in", [hub_table(PICTURES, LABELS, ["cat", "dog"])])
    assert len(read_all(opened("hub", tmp_path / "in"))) == 10
    assert not list((tmp_path / "scratch").rglob("train-*"))


def test_splits_in_folders(opened: Opened, tmp_path: Path) -> None:
    for split in ("test", "train"):
        write_hub_files(tmp_path / "mirror/someone/animals" / split, [hub_table(PICTURES, LABELS)])
        (file,) = (tmp_path / "mirror/someone/animals" / split).iterdir()
        file.rename(file.with_name("0000.parquet"))
    source = opened("hub", "someone/animals", machine={"mirror": str(tmp_path / "mirror")})
    assert [name.split("/")[0] for name in source.entries()["id"].to_pylist()] == ["train"] * 10


def test_what_is_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_repository("owner/name") and not is_repository("../images") and not is_repository("a/b/c")
    (tmp_path / "owner/name").mkdir(parents=True)
    assert not is_repository("owner/name"), "the folder counts"
    copy = tmp_path / ".dvc/tmp/exps/tmp1"  # as `dvc exp run --temp` makes it, without files that git does not track
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert not is_repository("owner/name"), "the folder of the project counts in a copy of the project, too"


def test_folder_without_parquet(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in ("in", "missing"):
        with pytest.raises(UserError, match=f"{place} is not a folder with Parquet files; name one"):
            opened("hub", tmp_path / place)
