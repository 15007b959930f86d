"""Room on the disk, against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from threedgp.config import Config
from threedgp.data.shards import ShardWriter
from threedgp.needs.disk import RESULTS_BYTES, Room, room_needed

Settings = Callable[..., Config]
COUNT = 1_281_167
KEPT = 427_013  # 0.3333 of them, rounded up


def bytes_of(room: Room | None) -> dict[str, int]:
    assert room is not None
    return {stage.stage: round(stage.stays) for stage in room.stages}


def test_imagenet_from_the_tar(settings: Settings) -> None:
    room = room_needed(settings(dataset={"source": "imagenet", "path": "x.tar"}))
    shards = KEPT * (67_200 + 60_400 + 2 * 2048)
    assert bytes_of(room) == {
        "download": 0,
        "prepare": COUNT * 67_200,
        "features": COUNT * 8192,
        "select": 0,
        "depth": KEPT * 60_400,
        "embed": KEPT * 4096,
        "shards": shards,
    }
    assert room is not None and room.unstated is None
    # Shards are written twice: sorted into buckets, and shuffled.
    assert room.peak == pytest.approx(RESULTS_BYTES + sum(bytes_of(room).values()) + shards)


@pytest.mark.parametrize(
    ("sections", "stage", "wanted"),
    [
        ({"prepare": {"encoding": "jpeg"}}, "prepare", COUNT * 26_300),
        ({"select": {"keep_count": 10}}, "depth", 10 * 1000 * 60_400),
        ({"select": {"keep_count": 10**9}}, "depth", COUNT * 60_400),
        ({"features": {"network": "efficientnet_lite0"}}, "features", COUNT * 4 * 1280),
        ({"dataset": {"source": "imagenet", "resolution": 128}}, "prepare", COUNT * 67_200 // 4),
        ({"depth": {"estimator": "none"}, "model": {"depth": False}}, "depth", 0),
    ],
)
def test_settings_count(settings: Settings, sections: dict[str, Any], stage: str, wanted: int) -> None:
    assert bytes_of(room_needed(settings(**sections)))[stage] == wanted


def test_lsun_is_there_twice_while_it_is_unpacked(settings: Settings) -> None:
    dataset = {"source": "lsun", "subset": "horse", "resolution": 64}
    room = room_needed(settings(dataset=dataset, select={"keep_count": 100}))
    assert bytes_of(room)["download"] == 69 * 10**9
    later = sum(bytes_of(room).values()) - 69 * 10**9
    assert later < 69 * 10**9, "so that the peak is at the unpacking"
    assert room is not None and room.peak == RESULTS_BYTES + 2 * 69 * 10**9
    Path("horse").mkdir()
    Path("horse/data.mdb").touch()
    assert bytes_of(room_needed(settings(dataset=dataset | {"path": "horse"})))["download"] == 0


def test_what_nobody_states_is_said(settings: Settings) -> None:
    room = room_needed(settings(dataset={"source": "sdip", "subset": "dogs"}))
    assert room is not None and "huggingface.co" in str(room.unstated)
    listed = room_needed(settings(dataset={"source": "sdip", "subset": "dogs", "path": "dogs.json"}))
    assert listed is not None and "photographs of the list" in str(listed.unstated)


def test_a_folder_is_counted_once_it_is_listed(settings: Settings) -> None:
    config = settings(dataset={"name": "mine", "source": "folder", "path": "pictures"}, depth={"estimator": "leres"})
    assert room_needed(config) is None
    writer = ShardWriter(Path("data/mine/raw"), pa.schema([("id", pa.string())]), "raw", {"class_names": ["a", "b"]})
    writer.write(0, pa.table({"id": [str(number) for number in range(30)]}))
    writer.finish()
    assert bytes_of(room_needed(config))["prepare"] == 30 * 67_200
    Path("data/mine/prepared").mkdir()
    assert "prepare" not in bytes_of(room_needed(config)), "it is there already"
