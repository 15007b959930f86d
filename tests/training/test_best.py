"""The model with the lowest distance is kept, whatever training does to it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from threedgp.runtime.processes import Stopped
from threedgp.training.checkpoints import Best, load_state, saved_states
from threedgp.training.divergence import Diverged, check_distance
from threedgp.training.loop import Measured
from threedgp.training.step import Trainer
from training.worlds import tiny_config, train_over, write_shards


def test_lowest_is_kept_and_given_back() -> None:
    network, best = nn.Linear(2, 2), Best()
    met = {}
    for images, distance in ((10, 3.0), (20, 1.0), (30, 2.0)):
        nn.init.constant_(network.weight, images)
        best.offer(images, distance, network)
        met[images] = network.weight.detach().clone()
    best.restore(network)
    assert (best.images, best.distance) == (20, 1.0) and torch.equal(network.weight, met[20])


def test_goes_on_from_a_state() -> None:
    network, best, again = nn.Linear(2, 2), Best(), Best()
    again.load_state_dict(best.state_dict())
    assert again.images == -1 and again.distance == float("inf")
    best.offer(8, 0.5, network)
    again.load_state_dict(best.state_dict())
    before = network.weight.detach().clone()
    nn.init.zeros_(network.weight)
    again.offer(16, 0.6, network)
    again.restore(network)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize(("distance", "factor", "bad"), [(3.9, 4, False), (4.1, 4, True), (99.0, 0, False)])
def test_far_from_the_best_is_a_divergence(distance: float, factor: float, bad: bool) -> None:
    check_distance(distance, float("inf"), factor)  # the first is never too far
    if bad:
        with pytest.raises(Diverged, match=r"4\.1\b"):
            check_distance(distance, 1.0, factor)
    else:
        check_distance(distance, 1.0, factor)
    with pytest.raises(Diverged, match="not finite"):
        check_distance(float("nan"), 1.0, factor)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return folder


DISTANCES = {16: 3.0, 32: 1.0, 48: 2.0, 64: 2.5}


def _run(shards: Path, folder: Path, stop_after: int = -1, distances: Any = None, **changes: Any) -> Any:
    """A run whose measurements are known: the weights at each of them, the trainer at the end, and the curves."""
    config = tiny_config(train={"metric_kimg": 0.016, "publish": "best", **changes})
    seen: dict[int, torch.Tensor] = {}

    def measure(trainer: Trainer, heed: Callable[[], None]) -> Measured:
        seen[trainer.images] = trainer.average.mapping.layers[0].weight.clone()
        distance = next(distances) if distances else DISTANCES[trainer.images]
        return Measured({"distance/given": distance}, distance)

    stop = dict(should_stop=lambda: bool(trainers) and trainers[0].images == stop_after) if stop_after > 0 else {}
    trainers: list[Trainer] = []
    trainer, curves = train_over(
        shards, folder, config, measure=measure, after_step=lambda t, s: trainers.insert(0, t), **stop
    )
    return seen, trainer, curves


def test_best_is_published_and_measurements_are_in_the_curves(shards: Path, tmp_path: Path) -> None:
    seen, trainer, curves = _run(shards, tmp_path / "whole")
    assert [(line["kimg"], line["distance/given"]) for line in curves] == [(k / 1000, d) for k, d in DISTANCES.items()]
    assert torch.equal(trainer.average.mapping.layers[0].weight, seen[32])
    assert not torch.equal(seen[32], seen[64])
    # Stopped after the best one, and gone on: still known.
    with pytest.raises(Stopped):
        _run(shards, tmp_path / "halves", stop_after=40)
    rest, resumed, again = _run(shards, tmp_path / "halves")
    assert sorted(rest) == [48, 64] and [line["distance/given"] for line in again] == list(DISTANCES.values())
    assert torch.equal(resumed.average.mapping.layers[0].weight, seen[32])


def test_last_is_published_where_asked_for(shards: Path, tmp_path: Path) -> None:
    seen, trainer, _ = _run(shards, tmp_path, publish="last")
    assert torch.equal(trainer.average.mapping.layers[0].weight, seen[64])


def test_exploding_distance_takes_the_run_back(shards: Path, tmp_path: Path) -> None:
    def distances() -> Iterator[float]:
        yield from (1.0, 9.0, 1.5, 1.2, 1.3)  # the second is an explosion, measured again after the return

    _, trainer, curves = _run(shards, tmp_path, distances=distances())
    assert trainer.stream == 1 and curves[-1]["rollbacks"] == 1
    assert [line["distance/given"] for line in curves] == [1.0, 1.5, 1.2, 1.3]


def test_exploding_distance_gives_up_all_states_since_the_last_good_one(shards: Path, tmp_path: Path) -> None:
    distances = iter((1.0, 9.0, 2.0))  # after 32, 64 and again 64
    given: list[list[int]] = []

    def measure(trainer: Trainer, heed: Callable[[], None]) -> Measured:
        given.append(saved_states(tmp_path))
        distance = next(distances)
        return Measured({"distance/given": distance}, distance)

    config = tiny_config(train={"metric_kimg": 0.032, "save_kimg": 0.008, "keep_states": 1, "publish": "best"})
    images: list[int] = []
    trainer, curves = train_over(
        shards, tmp_path, config, measure=measure, after_step=lambda t, s: images.append(t.images)
    )
    assert given == [[24], [32, 56], [32, 56]]  # besides the newest, the last that was measured and good
    assert images == [*range(4, 65, 4), *range(36, 65, 4)]
    assert trainer.stream == 1 and [line["rollbacks"] for line in curves] == [0, 0, 1, 1]


def test_stop_cuts_a_measurement_off_which_is_made_up_for(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"metric_kimg": 0.032, "publish": "best"})
    measured: list[int] = []

    def run(folder: Path, stop_at: int = 0) -> tuple[Trainer, list[Any]]:
        signals: list[int] = []

        def measure(trainer: Trainer, heed: Callable[[], None]) -> Measured:
            if trainer.images == stop_at:
                signals.append(1)
            heed()
            measured.append(trainer.images)
            distance = float(trainer.average.mapping.w_average.square().sum())
            return Measured({"distance/given": distance}, distance)

        return train_over(shards, folder, config, measure=measure, should_stop=lambda: bool(signals))

    whole, curves = run(tmp_path / "whole")
    assert measured == [32, 64]
    measured.clear()
    for at in (32, 64):
        with pytest.raises(Stopped):
            run(tmp_path / "halves", stop_at=at)
        state = load_state(tmp_path / "halves", at, torch.device("cpu"))["run"]
        assert state["pending"] > 0 and [line["kimg"] for line in state["history"]][-1] == (at - 16) / 1000
    resumed, again = run(tmp_path / "halves")
    assert measured == [32, 64]
    own = ("images_per_second", "memory_gb")
    assert all(line["images_per_second"] > 0 for line in again)
    assert [{k: v for k, v in line.items() if k not in own} for line in again] == [
        {k: v for k, v in line.items() if k not in own} for line in curves
    ]
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name
