"""A generator that is small enough to draw with in a test, and shards of training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from threedgp.config import CameraConfig, GeneratorConfig, ModelConfig
from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes, encode_image
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.models.generator import Generator
from threedgp.models.saving import seeded_generator

RESOLUTION = 16


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """Two classes, random weights."""
    sizes = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_max=8,
        decoder_hidden=8,
        coarse_samples=4,
        fine_samples=4,
    )
    generator = seeded_generator(CameraConfig(hidden=8), ModelConfig(generator=sizes), 2, [0.5, 0.5], seed=0)
    return generator.eval().requires_grad_(False)


@pytest.fixture
def training_shards(tmp_path: Path) -> ShardFolder:
    """Six pictures whose depth rises from left to right."""
    rng = np.random.default_rng(0)
    depth = np.broadcast_to(np.linspace(0, 65535, RESOLUTION).astype(np.uint16), (RESOLUTION, RESOLUTION))
    rows = [
        {
            "id": f"{number}",
            "label": number % 2,
            "image": encode_image(rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8), "png"),
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
