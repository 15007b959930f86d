"""SDIP by the authors' list: dead links, replaced photographs, and stopped runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from genuine_formats import decoded, encoded, picture, read_all
from threedgp.data.source import Source
from threedgp.data.sources import sdip
from threedgp.runtime.errors import UserError

Opened = Callable[..., Source]
COUNT = 12
FILES = {f"/{number}_o.jpg": encoded(picture(number, 60, 80)) for number in range(COUNT)}
BOXES = [[number, 40 + number, 10, 60] for number in range(COUNT)]


@dataclass
class Site:
    """Serves FILES, or the content of `instead` for some of them (None = 404)."""

    address: str = ""
    instead: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def write_list(self, path: Path) -> Path:
        rows = [
            {"image_name": self.address + name, "bounding_box": box} for name, box in zip(FILES, BOXES, strict=True)
        ]
        path.write_text(json.dumps(rows))
        return path


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            data = site.instead.get(self.path, FILES.get(self.path))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.address = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdip, "SHARD_LINKS", 4)
    monkeypatch.setattr(sdip, "SHARD_BYTES", 1)


def opened_list(opened: Opened, path: Path, **machine: object) -> Source:
    return opened("sdip", path, subset="dogs", machine={"requests_per_second": 1000, **machine})


def test_boxes_are_cut_out_of_downloaded_photographs(opened: Opened, site: Site, tmp_path: Path) -> None:
    source = opened_list(opened, site.write_list(tmp_path / "dogs.json"))
    found = list(read_all(source).values())
    assert len(found) == COUNT and source.class_names == ["dogs"]
    for one, data, (top, bottom, left, right) in zip(found, FILES.values(), BOXES, strict=True):
        np.testing.assert_array_equal(one.rgb, decoded(data)[top:bottom, left:right])
    shards = sorted((tmp_path / "scratch/raw/pictures").glob("*.parquet"))
    rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    assert [row["url"] for row in rows] == [site.address + name for name in FILES]  # their license asks to name it
    assert [row["image"] for row in rows] == list(FILES.values())


def test_dead_links_are_left_out_and_listed(opened: Opened, site: Site, tmp_path: Path) -> None:
    site.instead = {"/1_o.jpg": None, "/6_o.jpg": encoded(picture(0, 20, 20), "PNG"), "/9_o.jpg": b"<html>gone</html>"}
    found = read_all(opened_list(opened, site.write_list(tmp_path / "dogs.json")))
    assert len(found) == COUNT - 3 and all(one.error is None for one in found.values())
    left_out = pq.read_table(tmp_path / "scratch/raw/left_out.parquet").to_pylist()
    assert [row["name"] for row in left_out] == ["000001", "000006", "000009"]
    assert left_out[0]["url"].endswith("/1_o.jpg") and "404" in left_out[0]["reason"]
    assert "does not belong to an image of 20x20" in left_out[1]["reason"]
    assert left_out[2]["reason"] == "no known image format"


@pytest.mark.parametrize("instead", [None, b"<html>gone</html>"])
def test_too_many_are_an_error(opened: Opened, site: Site, tmp_path: Path, instead: bytes | None) -> None:
    site.instead = {name: instead for name in list(FILES)[:4]}
    path = site.write_list(tmp_path / "dogs.json")
    with pytest.raises(UserError, match=r"4 of 12 .*machine\.max_dead_links"):
        opened_list(opened, path)
    before = set(site.asked)
    site.asked.clear()
    assert len(read_all(opened_list(opened, path, max_dead_links=0.4))) == 8
    assert not set(site.asked) & set(list(FILES)[:4]) and before, "finished shards are kept"


def test_stopped_run_is_resumed(opened: Opened, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.write_list(tmp_path / "dogs.json")
    site.instead = {"/2_o.jpg": None, "/5_o.jpg": None}
    sort_out, calls = sdip._sort_out, []

    def stop_at_the_third(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sort_out(*arguments)

    monkeypatch.setattr(sdip, "_sort_out", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        opened_list(opened, path)
    site.asked.clear()
    found = read_all(opened_list(opened, path))
    assert len(found) == COUNT - 2
    assert set(site.asked) <= {f"/{number}_o.jpg" for number in range(8, 12)}, "finished shards are not requested again"
    assert pq.read_table(tmp_path / "scratch/raw/left_out.parquet").num_rows == 2


def test_another_list_starts_over(opened: Opened, site: Site, tmp_path: Path) -> None:
    path = site.write_list(tmp_path / "dogs.json")
    assert len(read_all(opened_list(opened, path))) == COUNT
    path.write_text(json.dumps(json.loads(path.read_text())[::-1][:5]))
    first = next(iter(read_all(opened_list(opened, path)).values()))
    top, bottom, left, right = BOXES[-1]
    np.testing.assert_array_equal(first.rgb, decoded(FILES[f"/{COUNT - 1}_o.jpg"])[top:bottom, left:right])


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1, 2]",
        '{"a": 1}',
        '[{"image_name": "http://x"}]',
        '[{"image_name": "http://x", "bounding_box": [1, 2, 3]}]',
        '[{"image_name": "http://x", "bounding_box": [1, 2, 3, "4"]}]',
        '[{"image_name": "http://x", "bounding_box": [0, 99999999999, 0, 1]}]',
        '[{"image_name": "http://x", "bounding_box": [0, NaN, 0, 1]}]',
        '[{"image_name": null, "bounding_box": [0, 1, 0, 1]}]',
        '[{"image_name": "http://x/\\ud800", "bounding_box": [0, 1, 0, 1]}]',
        "[]",
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_other_files_are_refused(opened: Opened, tmp_path: Path, text: str) -> None:
    (tmp_path / "dogs.json").write_text(text)
    with pytest.raises(UserError, match=r"dogs\.json is not a list of"):
        opened_list(opened, tmp_path / "dogs.json")


def test_missing_list(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dogs\.json does not exist"):
        opened_list(opened, tmp_path / "dogs.json")
