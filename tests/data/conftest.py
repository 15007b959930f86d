"""Small shard folders for the tests of data and depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes, encode_image
from threedgp.data.shards import ShardWriter

MakeShards = Callable[..., Path]


@pytest.fixture
def training_shards(tmp_path: Path) -> MakeShards:
    """Writes training shards whose rows tell their number by every column: label, image, depth and embedding."""

    def make(shard_rows: list[int], *, group_rows: int = 4, dim: int = 3, resolution: int = 8) -> Path:
        meta = {
            "resolution": resolution, "embedding_dim": dim, "num_classes": 10_000, "class_counts": [1] * 10_000,
            "class_names": [str(i) for i in range(10_000)], "estimator": "given",
        }  # fmt: skip
        folder = tmp_path / "shards"
        writer = ShardWriter(folder, schemas.training(dim), "shards", meta, row_group_rows=group_rows)
        number = 0
        for shard, count in enumerate(shard_rows):
            rows = []
            for row in range(number, number + count):
                image = np.full((resolution, resolution, 3), (row % 256, row // 256, 7), np.uint8)
                rows.append(
                    {
                        "id": f"{row:06d}",
                        "label": row,
                        "image": {"bytes": encode_image(image, "png")},
                        "depth": depth_to_bytes(np.full((resolution, resolution), row * 5, np.uint16)),
                        **({"embedding": np.full(dim, row, np.float16)} if dim else {}),
                    }
                )
            writer.write(shard, pa.Table.from_pylist(rows, schemas.training(dim)))
            number += count
        writer.finish()
        return folder

    return make
