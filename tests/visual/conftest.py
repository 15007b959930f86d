"""Shards of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes, encode_image
from threedgp.data.shards import ShardFolder, ShardWriter

RESOLUTION = 16


@pytest.fixture
def training_shards(tmp_path: Path) -> ShardFolder:
    """Six images whose depth rises from left to right."""
    rng = np.random.default_rng(0)
    depth = np.broadcast_to(np.linspace(0, 65535, RESOLUTION).astype(np.uint16), (RESOLUTION, RESOLUTION))
    rows = [
        {
            "id": f"{number}",
            "label": number % 2,
            "image": {"bytes": encode_image(rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8), "png")},
            "depth": depth_to_bytes(depth),
        }
        for number in range(6)
    ]
    about = {
        "dataset": "tiny",
        "resolution": RESOLUTION,
        "estimator": "simulated",
        "embedder": "none",
        "class_names": ["box", "ball"],
    }
    writer = ShardWriter(tmp_path / "shards", schemas.training(0), "shards", about)
    writer.write(0, pa.Table.from_pylist(rows, schemas.training(0)))
    writer.finish()
    return ShardFolder(tmp_path / "shards")
