"""A small world with known truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from evaluation.networks import Corners, Means

from threedgp.config import Config, DatasetConfig, DownloadConfig, PrepareConfig, parse_config
from threedgp.data import schemas
from threedgp.data.prepare import prepare_set
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import Source, open_source
from threedgp.data.sources.procedural import render_shards
from threedgp.depth.estimator import DepthEstimator
from threedgp.evaluation.evaluation import Evaluation
from threedgp.evaluation.measuring import Row, load_metrics, measure
from threedgp.evaluation.reference import Networks, Reference
from threedgp.features.extraction import write_features
from threedgp.models.saving import write_model


class World(NamedTuple):
    """24 procedural images of 16x16, in shards of seven."""

    raw: Path
    source: Source
    prepared: ShardFolder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    render_shards(DownloadConfig(count=24, resolution=32), folder / "raw", 1)
    dataset = DatasetConfig(name="world", source="procedural", resolution=16)
    source = open_source(dataset, folder / "raw")
    prepare_set(source, folder / "prepared", PrepareConfig(shard_rows=7), 16, 1)
    return World(folder / "raw", source, ShardFolder(folder / "prepared"))


class Studio(NamedTuple):
    """Folders of the stages before `evaluate`, with features by `Means` and a model of random weights."""

    features: Path
    selected: Path
    model: Path


@pytest.fixture(scope="session")
def studio(world, tiny_generator, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("studio")
    write_features(world.prepared, Means(), 5, folder / "features")
    selected = ShardWriter(folder / "selected", schemas.SELECTED, "selected", {})
    rows = world.prepared.read(0, ["id", "label"])
    selected.write(0, rows.slice(0, 6))
    selected.finish()
    write_model(folder / "model", tiny_generator, resolution=16, class_names=["a", "b"], seed=1, kimg=2.0)
    return Studio(folder / "features", folder / "selected", folder / "model")


def evaluation_config(**evaluate: object) -> Config:
    """Settings for the small world."""
    settings = {"samples": 12, "real_samples": 12, "batch_size": 5, "nfs_samples": 4, "controls": True}
    return parse_config(
        {
            "dataset": {"name": "world", "source": "procedural", "resolution": 16},
            "model": {"discriminator": {"patch_resolution": 16}},
            "depth": {"estimator": "simulated"},
            "features": {"batch_size": 4},
            "evaluate": settings | evaluate,
            "machine": {"device": "cpu"},
        }
    )


NETWORKS = {"main": Means(), "neighbor": Corners()}


@pytest.fixture
def open_reference(world, studio, tmp_path) -> Callable[..., Reference]:
    """Opens the real set, with features of the real images in a folder of a name."""

    def opened(
        config: Config, name: str = "scratch", networks: Networks = NETWORKS, samples: int | None = None
    ) -> Reference:
        folders = {"raw": world.raw, "prepared": world.prepared.folder, "features": studio.features}
        return Reference(config, networks, **folders, cache=tmp_path / f"{name}-cache", samples=samples)

    return opened


@pytest.fixture
def open_evaluation(open_reference, studio, tmp_path) -> Callable[..., Evaluation]:
    """Opens an evaluation of a model, by default the studio's, in folders of a name."""

    def opened(
        config: Config, name: str = "scratch", networks: Networks = NETWORKS, model: Path = studio.model
    ) -> Evaluation:
        reference = open_reference(config, name, networks)
        return Evaluation(reference, load_metrics(config.evaluate.metrics), model, tmp_path / name)

    return opened


@pytest.fixture
def evaluation(open_evaluation) -> Evaluation:
    """An evaluation whose scenes and features are made."""
    made = open_evaluation(evaluation_config())
    made.make()
    return made


def measure_rows(
    evaluation: Evaluation,
    folder: Path,
    training_rows: Sequence[int] = range(6),
    estimator: DepthEstimator | None = None,
) -> list[Row]:
    """All values of all metrics."""
    shared = evaluation.run_inputs(np.array(training_rows))
    networks = evaluation.reference.networks
    return measure(evaluation.metrics, evaluation.sets(estimator), shared, networks, folder)


def numbers(rows: Sequence[Row]) -> dict[str, float]:
    """Numbers by name, not rounded."""
    return {
        row.name if name == "model" else f"{row.name}_{name}": number
        for row in rows
        for name, number in row.numbers.items()
    }
