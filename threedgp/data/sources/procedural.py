"""Source `procedural`: the world of `data.world`, rendered once by stage `download`.

Raw shards hold images and their truth: depth (distance along the ray, scene units), normals, mask and camera. The id of
an image is its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from threedgp.config import Config, DownloadConfig
from threedgp.data.archives.listing import StoredSource, list_parts
from threedgp.data.images import decode_image, encode_image
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture, SourceKind
from threedgp.data.world.rendering import render_background, render_picture
from threedgp.data.world.scenes import CLASS_NAMES, draw_scene
from threedgp.runtime.atomic import require_free
from threedgp.runtime.parallel import ordered_map

RAW = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("image", pa.binary()),  # PNG
        ("depth", pa.binary()),  # little-endian float32, row by row
        ("normals", pa.binary()),  # int8, 127 = 1, row by row, components last
        ("mask", pa.binary()),  # packed bits, row by row
        ("camera", pa.list_(pa.float32(), 8)),
    ]
)
SHARD_ROWS = 512
GROUP_ROWS = 32
MIN_FOR_PROCESSES = 256
"""Images that are worth the start of processes, which takes a second. Threads would wait for each other (GIL)."""
MAX_BYTES_PER_PIXEL, TYPICAL_BYTES_PER_PIXEL = 11, 9
"""PNG, depth, normals and mask."""


def render_shards(settings: DownloadConfig, folder: Path, workers: int) -> None:
    """Render the images that `settings` describes into shards in `folder`, in `workers` processes; finished shards are
    kept."""
    count, resolution, seed = settings.count, settings.resolution, settings.seed
    there = sum(file.stat().st_size for file in folder.glob("part-*.parquet"))
    require_free(folder, count * resolution**2 * MAX_BYTES_PER_PIXEL - there)
    meta = {"source": "procedural", "count": count, "resolution": resolution, "seed": seed, "class_names": CLASS_NAMES}
    sizes = {"unit": "images", "shard_parts": SHARD_ROWS, "group_rows": GROUP_ROWS} | _parallel(count, workers)
    list_parts(folder, count, partial(_render, seed, resolution), RAW, meta, **sizes).finish()


class ProceduralSource(StoredSource):
    """Reads the rendered world."""

    def __init__(self, shards: ShardFolder) -> None:
        super().__init__("procedural", shards, self._picture)
        self._meta = shards.meta

    def _picture(self, row: dict[str, Any]) -> RawPicture:
        size = self._meta["resolution"]
        return RawPicture(
            id=row["id"],
            label=row["label"],
            rgb=decode_image(row["image"]),
            depth=np.frombuffer(row["depth"], "<f4").reshape(size, size),
            normals=np.frombuffer(row["normals"], np.int8).reshape(size, size, 3) / np.float32(127),
            mask=np.unpackbits(np.frombuffer(row["mask"], np.uint8), count=size**2).reshape(size, size) == 1,
            cameras=np.array(row["camera"], np.float32),
        )

    def read_backgrounds(self, ids: Sequence[str], workers: int) -> Iterator[RawPicture]:
        """The images `ids` without their animals, rendered in `workers` processes."""
        render = partial(_background, self._meta["seed"], self._meta["resolution"])
        return ordered_map(render, ids, **_parallel(len(ids), workers))


def _parallel(count: int, workers: int) -> dict[str, Any]:
    """How to render `count` images: here, or in `workers` new processes if there are many."""
    many = count >= MIN_FOR_PROCESSES
    return {"workers": workers if many else 1, "processes": many}


def _background(seed: int, resolution: int, name: str) -> RawPicture:
    scene = draw_scene(seed, int(name))
    return RawPicture(name, scene.label, render_background(scene, resolution))


def _render(seed: int, resolution: int, index: int) -> pa.Table:
    scene = draw_scene(seed, index)
    rendering = render_picture(scene, resolution)
    row = {
        "id": f"{index:08d}",
        "label": scene.label,
        "image": encode_image(rendering.rgb, "png"),
        "depth": rendering.depth.astype("<f4").tobytes(),
        "normals": np.rint(127 * rendering.normals).astype(np.int8).tobytes(),
        "mask": np.packbits(rendering.mask).tobytes(),
        "camera": scene.camera.astype(np.float32),
    }
    return pa.Table.from_pylist([row], RAW)


def _download_bytes(config: Config) -> tuple[int, int]:
    return config.download.count * config.download.resolution**2 * TYPICAL_BYTES_PER_PIXEL, 0


SOURCE = SourceKind(
    download=lambda config, path, folder: render_shards(config.download, folder, config.machine.workers),
    open=lambda shards, path, raw: ProceduralSource(shards),
    depth="true",
    download_bytes=_download_bytes,
)
