"""A tiny configuration and tiny shards, for tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from threedgp.config import Config
from threedgp.counter_rng import uniform
from threedgp.data import schemas
from threedgp.data.images import encode_image
from threedgp.data.loader import Batch
from threedgp.data.shards import ShardWriter
from threedgp.training.trainer import Trainer, build_networks

CLASSES, FEATURES, RESOLUTION = 3, 5, 8


def tiny_config(**changes: Any) -> Config:
    """Everything as small as it gets; `changes` are nested dictionaries that are merged in."""
    values: dict[str, Any] = {
        "dataset": {"name": "tiny", "source": "procedural", "resolution": RESOLUTION},
        "camera": {"hidden": 8, "embedding": 4},
        "model": {
            "generator": {
                "z_dim": 8, "w_dim": 8, "plane_resolution": 8, "plane_channels": 4, "channel_base": 64,
                "channel_max": 8, "decoder_hidden": 8, "coarse_samples": 4, "fine_samples": 4,
            },
            "depth_adaptor": {"channels": 4, "kernel_size": 3},
            "discriminator": {
                "patch_resolution": 4, "channel_base": 64, "channel_max": 8, "patch_encoding_width": 8,
                "minibatch_std_group": 2,
            },
        },
        "train": {
            "kimg": 0.064, "batch_size": 4, "r1_interval": 3, "tick_kimg": 0.016, "save_kimg": 0.016,
            "patch_scale_beta": {"start": 0.001, "end": 0.8, "over": "50%"},
            "blur_sigma": {"start": 1.0, "end": 0.0, "over": "50%"},
            "density_noise": {"start": 1.0, "end": 0.0, "over": "50%"},
            "distillation": {"weight": {"start": 1.0, "end": 0.0, "over": "100%"}},
        },
    }  # fmt: skip
    _merge(values, changes)
    return Config.model_validate(values)


def _merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def make_trainer(config: Config) -> Trainer:
    """At the start of the run, for a world of three classes that are not equally frequent."""
    networks = build_networks(config, CLASSES, [0.5, 0.3, 0.2], FEATURES)
    return Trainer(config, networks, torch.device("cpu"))


def make_batch(position: int, count: int = 4) -> Batch:
    """Random rows number `position` and on."""
    index = torch.arange(position, position + count)
    draw = lambda name, *shape: uniform((count, *shape), 0, name, index)  # noqa: E731
    return Batch(
        image=(draw("image", 3, RESOLUTION, RESOLUTION) * 256).to(torch.uint8),
        depth=draw("depth", 1, RESOLUTION, RESOLUTION) * 2 - 1,
        embedding=draw("embedding", FEATURES),
        label=(draw("label") * CLASSES).long(),
        index=index,
    )


def write_shards(folder: Path, rows: int = 24) -> None:
    """Training shards of random rows."""
    generator = np.random.default_rng(0)
    labels = np.arange(rows) % CLASSES
    meta = {
        "dataset": "tiny", "resolution": RESOLUTION, "num_classes": CLASSES, "embedding_dim": FEATURES,
        "class_names": ["a", "b", "c"], "class_counts": np.bincount(labels, minlength=CLASSES).tolist(),
        "estimator": "given", "embedder": "given",
    }  # fmt: skip
    embeddings = generator.standard_normal((rows, FEATURES)).astype(np.float16)
    images = generator.integers(0, 256, (rows, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    depths = generator.integers(0, 65536, (rows, RESOLUTION, RESOLUTION), dtype=np.uint16)
    schema = schemas.training(FEATURES)
    table = pa.table(
        {
            "id": [f"{i:04d}" for i in range(rows)],
            "label": pa.array(labels, pa.int32()),
            "image": [encode_image(image, "png") for image in images],
            "depth": [depth.astype("<u2").tobytes() for depth in depths],
            "embedding": pa.array(list(embeddings), schema.field("embedding").type),
        },
        schema=schema,
    )
    writer = ShardWriter(folder, schema, "shards", meta, row_group_rows=8)
    writer.write(0, table.slice(0, rows // 2))
    writer.write(1, table.slice(rows // 2))
    writer.finish()
