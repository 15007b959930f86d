"""Measurements while training against the same numbers computed at once, by one process or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluation.conftest import evaluation_config
from evaluation.networks import Means
from torch import Tensor

from threedgp.data import schemas
from threedgp.data.images import decode_image, encode_image
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.evaluation import monitor
from threedgp.evaluation.monitor import Monitor, feature_sample, first_images, measured_name
from threedgp.features.moments import Moments
from threedgp.features.network import Features
from threedgp.metrics import class_diversity
from threedgp.metrics.class_diversity import pooled_diversity
from threedgp.models.generator import Generator, Scenes
from threedgp.models.sampler import draw_scenes, sample_scenes
from threedgp.runtime.errors import UserError
from threedgp.runtime.precision import restored_precision, use_precision
from threedgp.runtime.processes import Stopped

RESOLUTION, COUNT = 16, 10


class Averages:
    """Mean colors of the four quarters of an image."""

    name, identity, feature_dim, input_size, device = "averages", "averages", 12, RESOLUTION, torch.device("cpu")

    def __call__(self, images: Tensor) -> Features:
        pooled = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return Features(pooled, torch.zeros(len(images), 0))


class Alone:
    """A group of one process."""

    rank, size = 0, 1

    def sum(self, tensors: Sequence[Tensor]) -> None:
        pass


class Recorder:
    """Process `rank` of several: records what it sends, and receives what `others` have sent."""

    def __init__(self, rank: int, size: int, others: list[list[Tensor]]) -> None:
        self.rank, self.size, self.sent, self._others = rank, size, [], others

    def sum(self, tensors: Sequence[Tensor]) -> None:
        turn = len(self.sent)
        self.sent.append([tensor.clone() for tensor in tensors])
        for sent in self._others:
            for tensor, part in zip(tensors, sent[turn], strict=True):
                tensor += part


@pytest.fixture
def reals() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, RESOLUTION, RESOLUTION), dtype=np.uint8)


SAMPLE = np.random.default_rng(1).uniform(0, 255, (COUNT, 12)).astype(np.float32), np.arange(COUNT) % 2
"""Features and labels."""


def _monitor(
    reals: np.ndarray | None,
    statistics: Moments,
    batch_size: int = 4,
    sample: tuple[np.ndarray, np.ndarray] = SAMPLE,
) -> Monitor:
    return Monitor(Averages(), statistics, sample, reals, count=COUNT, seed=3, batch_size=batch_size)


def _scenes(generator: Generator) -> Scenes:
    return draw_scenes(generator, 3, "monitor", torch.arange(COUNT))


@torch.no_grad()
def _pictures(generator: Generator) -> np.ndarray:
    scenes = _scenes(generator)
    cameras = generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    rgb = generator.render(generator.make_content(generator.map(scenes.z, scenes.labels)), cameras, RESOLUTION).rgb
    return (rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def test_distance_from_its_own_images_is_zero(tiny_generator: Generator) -> None:
    # Statistics and images that are the generator's own are at distance 0, and 1e-6 of rounding.
    own = _pictures(tiny_generator)
    statistics = Moments.of(Averages()(torch.from_numpy(own)).pooled.numpy())
    found = _monitor(own, statistics)(tiny_generator, RESOLUTION, Alone())
    assert found["swd"] == 0 and found["frechet"] < 1e-6 * np.trace(statistics.covariance) + 1e-9


def test_scenes_are_not_those_of_the_evaluation(tiny_generator: Generator) -> None:
    """The best model is chosen by them, so its distance on them is too low."""
    assert not torch.isin(sample_scenes(tiny_generator, 100, 3).z, _scenes(tiny_generator).z).any()


def test_measuring_is_exact_and_leaves_the_precision_of_training(
    world: Any, studio: Any, tiny_generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions = torch.backends.cudnn

    class Observer(Means):
        def __call__(self, images: Tensor) -> Features:
            assert not convolutions.allow_tf32
            return super().__call__(images)

    def build(*settings: object) -> Means:
        convolutions.allow_tf32 = False  # as `build_extractor` does on a GPU
        return Observer()

    monkeypatch.setattr(monitor, "configured_extractor", build)
    folders = world.prepared.folder, studio.features, Path("unused")
    with restored_precision():
        use_precision("tf32")
        opened = monitor.open_monitor(evaluation_config(), *folders, torch.device("cpu"), scenes_at_once=32)
        assert convolutions.allow_tf32
        replace(opened, count=4)(tiny_generator, RESOLUTION, Alone())
        assert convolutions.allow_tf32


def test_several_processes_agree_with_one(tiny_generator: Generator, reals: np.ndarray) -> None:
    statistics = Moments.of(Averages()(torch.from_numpy(reals)).pooled.numpy())
    alone = _monitor(reals, statistics)(tiny_generator, RESOLUTION, Alone())
    assert alone["frechet"] > 1 and alone["swd"] > 0.01
    followers = [Recorder(rank, 3, []) for rank in (1, 2)]
    for follower in followers:
        _monitor(reals, statistics)(tiny_generator, RESOLUTION, follower)
    leader = Recorder(0, 3, [follower.sent for follower in followers])
    together = _monitor(reals, statistics)(tiny_generator, RESOLUTION, leader)
    assert together == pytest.approx(alone, rel=1e-5)  # rounding of products depends on the batch
    told = Recorder(1, 3, [leader.sent, followers[1].sent])
    assert _monitor(reals, statistics)(tiny_generator, RESOLUTION, told) == together


def test_every_process_calls_meanwhile_equally_often(tiny_generator: Generator, reals: np.ndarray) -> None:
    statistics = Moments.of(Averages()(torch.from_numpy(reals)).pooled.numpy())
    asked = [0, 0, 0]
    for rank in range(3):  # shares of 3, 3 and 4 images: one batch, or two

        def ask(rank: int = rank) -> None:
            asked[rank] += 1

        _monitor(None, statistics, batch_size=3)(tiny_generator, RESOLUTION, Recorder(rank, 3, []), ask)
    assert asked == [2, 2, 2]

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        _monitor(None, statistics)(tiny_generator, RESOLUTION, Alone(), stop)


def test_without_real_images_only_the_frechet_distance(tiny_generator: Generator, reals: np.ndarray) -> None:
    statistics = Moments.of(Averages()(torch.from_numpy(reals)).pooled.numpy())
    small = _monitor(None, statistics, batch_size=3)(tiny_generator, RESOLUTION, Alone())
    large = _monitor(None, statistics, batch_size=10)(tiny_generator, RESOLUTION, Alone())
    assert set(small) == {"frechet", "in_class"} and small == pytest.approx(large, rel=1e-5)


def test_diversity_is_that_of_the_images_of_a_class(
    tiny_generator: Generator, reals: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = Moments.of(Averages()(torch.from_numpy(reals)).pooled.numpy())
    own = Averages()(torch.from_numpy(_pictures(tiny_generator))).pooled.numpy()
    labels = _scenes(tiny_generator).labels.numpy()

    def measured(*sample: np.ndarray) -> dict[str, float]:
        return _monitor(None, statistics, sample=sample)(tiny_generator, RESOLUTION, Alone())

    assert measured(own, labels)["in_class"] == pytest.approx(1, rel=1e-5)
    assert measured(4 * own, labels)["in_class"] == pytest.approx(0.25, rel=1e-5)
    assert measured(*SAMPLE)["in_class"] == pytest.approx(pooled_diversity(own, labels, *SAMPLE)[0], rel=1e-5)
    monkeypatch.setattr(class_diversity, "MIN_IMAGES", 2)
    scale = np.where(labels == labels[0], 4, 1)[:, None].astype(np.float32)
    found = measured(scale * own, labels)
    assert found["lowest_class"] == pytest.approx(0.25, rel=1e-5) and found["in_class"] > 0.25
    assert list(measured(own, labels + 7)) == ["frechet"], "no class in common"


def test_sample_of_the_features(studio: Any) -> None:
    shards = ShardFolder(studio.features)
    table = pa.concat_tables(shards.iterate())
    columns = (table[name].to_pylist() for name in ("feature", "label"))
    rows = {tuple(feature): label for feature, label in zip(*columns, strict=True)}
    features, labels = feature_sample(shards, 10, 3)
    assert features.shape == (10, 6) and len(np.unique(features, axis=0)) == 10
    assert [rows[tuple(feature)] for feature in features.tolist()] == labels.tolist()
    assert len(set(labels.tolist())) > 1
    assert not np.array_equal(features, feature_sample(shards, 10, 4)[0])
    assert len(feature_sample(shards, 100, 3)[1]) == 24, "all that there are"


def test_only_inception_gives_an_inception_distance() -> None:
    assert measured_name("frechet", "inception", 2048) == "distance/fid_2048"
    assert measured_name("frechet", "efficientnet_lite0", 512) == "distance/fd_efficientnet_lite0_512"
    assert measured_name("swd", "inception", 2048) == "distance/swd"
    assert measured_name("lowest_class", "inception", 2048) == "diversity/lowest_class"


def test_first_images_of_the_shards(reals: np.ndarray, tmp_path: Path) -> None:
    schema = schemas.training(0)
    rows = [
        {
            "id": str(i),
            "label": 0,
            "image": {"bytes": encode_image(real.transpose(1, 2, 0), "png")},
            "depth": b"",
            "embedding": [],
        }
        for i, real in enumerate(reals)
    ]
    writer = ShardWriter(tmp_path, schema, "shards", {}, row_group_rows=2)
    writer.write(0, pa.Table.from_pylist(rows[:4], schema))
    writer.write(1, pa.Table.from_pylist(rows[4:], schema))
    writer.finish()
    shards = ShardFolder(tmp_path)
    assert decode_image(rows[0]["image"]["bytes"]).shape == (RESOLUTION, RESOLUTION, 3)
    np.testing.assert_array_equal(first_images(shards, 6), reals[:6])
    with pytest.raises(UserError, match=r"train\.metric_samples: 11 .* the 10 of training"):
        first_images(shards, 11)
