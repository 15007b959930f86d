"""A tiny configuration and tiny shards, for tests of training."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from threedgp.config import Config
from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes, encode_image
from threedgp.data.loader import Batch, ShardLoader
from threedgp.data.shards import ShardWriter
from threedgp.evaluation.monitor import Monitor
from threedgp.features.moments import Moments
from threedgp.features.network import Features
from threedgp.models.initialization import initial_networks
from threedgp.runtime.counter_rng import uniform
from threedgp.runtime.errors import UserError
from threedgp.training.distributed import SINGLE_PROCESS, TrainingGroup, join_training_group
from threedgp.training.logging import Means, Record
from threedgp.training.loop import Measured, prepare_trainer, train
from threedgp.training.step import Trainer

CLASSES, FEATURES, RESOLUTION = 3, 5, 8
FOV_QUANTILES = [[12.0, 18.0, 40.0], [12.0, 13.0, 14.0], [20.0, 21.0, 22.0], [36.0, 38.0, 40.0]]
"""Quantiles for all images, then for each class."""
BEYOND = {
    "camera": {"prior": "estimated"},
    "model": {
        "generator": {"background": "planes"},
        "discriminator": {"normals": True},
        "depth_adaptor": {"mode": "affine"},
    },
    "train": {"novel_view": 1.0, "posthoc_ema": {"snapshot_kimg": 1.0}},
}
"""Every switch of docs/beyond.md that changes a training step."""


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
            "metric_kimg": 0, "publish": "last",
            "patch_scale_beta": {"start": 0.001, "end": 0.8, "over": "50%"},
            "blur_sigma": {"start": 1.0, "end": 0.0, "over": "50%"},
            "density_noise": {"start": 1.0, "end": 0.0, "over": "50%"},
            "distillation": {"weight": {"start": 1.0, "end": 0.0, "over": "100%"}},
        },
    }  # fmt: skip
    merge(values, changes)
    return Config.model_validate(values)


WHOLE_IMAGES: dict[str, Any] = {
    "model": {"depth": False, "discriminator": {"patch_resolution": RESOLUTION}},
    "camera": {"learned": False},
    "train": {"patch_scale_min": 1.0},
}
KIND_CHANGES: dict[str, dict[str, Any]] = {
    "3dgp": {},
    "epigraf": {
        "model": {"depth": False},
        "camera": {"learned": False, "prior": "normal"},
        "train": {"distillation": {"loss": "none"}},
    },
    "stylegan2": WHOLE_IMAGES,
    "eg3d": {
        "model": {
            "depth": False,
            "discriminator": {"patch_resolution": RESOLUTION},
            "generator": {
                "upsampling": 2, "feature_channels": 5, "upsampling_channels": 8, "pose_conditioning": True,
            },
        },
        "camera": {"learned": False},
        "train": {"patch_scale_min": 1.0, "density_regularization": 0.25},
    },
    "volumegan": {
        "model": {
            "depth": False,
            "discriminator": {"patch_resolution": RESOLUTION},
            "generator": {"upsampling": 2, "feature_channels": 5, "upsampling_channels": 8},
        },
        "camera": {"learned": False},
        "train": {"patch_scale_min": 1.0},
    },
    "stylenerf": {
        "model": {
            "depth": False,
            "discriminator": {"patch_resolution": RESOLUTION},
            "generator": {"upsampling": 2, "feature_channels": 5, "upsampling_channels": 8, "field_layers": 3},
        },
        "camera": {"learned": False},
        "train": {"patch_scale_min": 1.0, "nerf_path_regularization": 0.2},
    },
}  # fmt: skip
"""How the settings of each kind differ from `tiny_config`."""


def kind_config(kind: str, **changes: Any) -> Config:
    """The tiny configuration of a kind of model, with `changes`."""
    merged = copy.deepcopy(KIND_CHANGES[kind])
    merge(merged, {"model": {"kind": kind}})
    merge(merged, changes)
    return tiny_config(**merged)


def merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    """Replace values of nested dictionaries in place."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def make_trainer(
    config: Config,
    group: TrainingGroup = SINGLE_PROCESS,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Trainer:
    """At the start of the run, for a world of three classes that are not equally frequent."""
    generator, discriminator = initial_networks(config, CLASSES, [0.5, 0.3, 0.2], FEATURES, FOV_QUANTILES)
    return Trainer(config, (generator.to(dtype), discriminator.to(dtype)), device or torch.device("cpu"), group)


def make_batch(position: int, count: int = 4) -> Batch:
    """Random rows number `position` and on."""
    index = torch.arange(position, position + count)
    draw = lambda name, *shape: uniform((count, *shape), 0, name, index)  # noqa: E731
    return Batch(
        image=(draw("image", 3, RESOLUTION, RESOLUTION) * 256).to(torch.uint8),
        depth=((draw("depth", 1, RESOLUTION, RESOLUTION) - 0.5) * 2**16).to(torch.int16),
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
            "image": pa.array([{"bytes": encode_image(image, "png")} for image in images], schemas.IMAGE),
            "depth": [depth_to_bytes(depth) for depth in depths],
            "embedding": pa.array(list(embeddings), schema.field("embedding").type),
        },
        schema=schema,
    )
    writer = ShardWriter(folder, schema, "shards", meta, row_group_rows=8)
    writer.write(0, table.slice(0, rows // 2))
    writer.write(1, table.slice(rows // 2))
    writer.finish(fov_quantiles=FOV_QUANTILES)


# What processes of their own do in tests of several; such functions have to be importable.


def train_in_double(
    config: Config, steps: int, group: TrainingGroup = SINGLE_PROCESS, state: dict[str, Any] | None = None
) -> Any:
    """Steps in float64 from `state` or the start: state of the trainer, and the mean of every scalar."""
    trainer, means = make_trainer(config, group, torch.float64), Means()
    if state is not None:
        trainer.load_state_dict(state)
    count = config.train.batch_size // group.size
    for _ in range(steps):
        means.add(trainer.step(make_batch(trainer.images + group.rank * count, count)))
    return trainer.state_dict(), means.gather(group)


def work_in_double(should_stop: Callable[[], bool], configs: dict[str, Config], folder: Path) -> None:
    """For each configuration five steps from the start, and two from `saved.pt` in its folder; each process writes
    both results there."""
    with join_training_group(torch.device("cpu")) as group:
        for name, config in configs.items():
            five = train_in_double(config, 5, group)
            saved = torch.load(folder / name / "saved.pt", weights_only=True)
            torch.save((five, train_in_double(config, 2, group, saved)), folder / name / f"rank-{group.rank}.pt")


def train_over(
    shards: Path,
    folder: Path,
    config: Config,
    group: TrainingGroup = SINGLE_PROCESS,
    *,
    after_step: Callable[[Trainer, dict[str, torch.Tensor]], None] = lambda trainer, stats: None,
    **options: Any,
) -> tuple[Trainer, list[Record]]:
    """The whole loop over `shards`, with states in `folder`: the trainer at its end, and the curves."""

    def open_loader(position: int) -> ShardLoader:
        place = dict(position=position, rank=group.rank, world_size=group.size)
        return ShardLoader(shards, config.train.batch_size, config.train.seed, **place)

    loader = open_loader(0)
    trainer = prepare_trainer(config, loader, torch.device("cpu"), group)
    loader.close()
    step = trainer.step

    def step_and_more(batch: Batch) -> dict[str, torch.Tensor]:
        stats = step(batch)
        after_step(trainer, stats)
        return stats

    trainer.step = step_and_more
    return trainer, train(trainer, open_loader, folder, **options).curves


def spoil_once(trainer: Trainer, stats: dict[str, torch.Tensor]) -> None:
    """The last process finds no number for the loss after 24 images, until the run is taken back to 16."""
    if trainer.images == 24 and trainer.stream == 0 and trainer.group.rank == trainer.group.size - 1:
        stats["generator/loss"] *= float("nan")


def work_until_stopped(should_stop: Callable[[], bool], config: Config, shards: Path, folder: Path) -> None:
    """The loop, spoilt once; after 44 images the last process gets SIGTERM, and no other."""

    def spoil_and_stop(trainer: Trainer, stats: dict[str, torch.Tensor]) -> None:
        spoil_once(trainer, stats)
        if trainer.images == 44 and trainer.group.rank == trainer.group.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with join_training_group(torch.device("cpu")) as group:
        train_over(shards, folder, config, group, after_step=spoil_and_stop, should_stop=should_stop)


class Averages:
    """Stands in for a network: the mean of every channel."""

    name, identity, feature_dim, input_size, device = "averages", "averages", 3, RESOLUTION, torch.device("cpu")

    def __call__(self, images: torch.Tensor) -> Features:
        return Features(images.float().mean(dim=(2, 3)), torch.zeros(len(images), 0))


def measure_tiny(trainer: Trainer, meanwhile: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Distances of the averaged generator to images of noise, by all processes of the trainer's group."""
    reals = np.random.default_rng(0).integers(0, 256, (9, 3, RESOLUTION, RESOLUTION), dtype=np.uint8)
    statistics = Moments.of(reals.mean((2, 3)))
    sample = (reals.mean((2, 3), dtype=np.float32), np.arange(len(reals)) % CLASSES)
    monitor = Monitor(Averages(), statistics, sample, reals, count=len(reals), seed=0, batch_size=2)
    return monitor(trainer.average, RESOLUTION, trainer.group, meanwhile)


def work_that_measures(should_stop: Callable[[], bool], config: Config, shards: Path, folder: Path) -> None:
    """The loop with measurements; in the second, the last process alone is to stop. Each writes what it found."""
    found: list[dict[str, float]] = []
    asked = 0

    with join_training_group(torch.device("cpu")) as group:

        def stops() -> bool:
            return asked > 0 and group.rank == group.size - 1

        def measure(trainer: Trainer, meanwhile: Callable[[], None]) -> Measured:
            nonlocal asked
            asked += len(found)
            found.append(measure_tiny(trainer, meanwhile))
            (folder / f"found-{group.rank}.json").write_text(json.dumps(found))
            return Measured({}, found[-1]["frechet"])

        train_over(shards, folder / "states", config, group, measure=measure, should_stop=stops)


def work_that_fails(should_stop: Callable[[], bool]) -> None:
    """The second of two processes fails, while the first waits for a message from it."""
    with join_training_group(torch.device("cpu")) as group:
        if group.rank == 1:
            raise UserError("shard 3 is damaged")
        group.sum([torch.zeros(1)])
