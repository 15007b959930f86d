"""Several processes train what one trains."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from threedgp.data.loader import ShardLoader
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import STORE, Stopped, run_processes
from threedgp.training.checkpoints import load_state, saved_states
from threedgp.training.distributed import TrainingGroup, join_training_group
from threedgp.training.loop import prepare_trainer
from training import worlds
from training.worlds import BEYOND, make_trainer, tiny_config, train_in_double, train_over, write_shards

# Every term that is taken over the whole batch is switched on: patch scales differ between groups, features are
# distilled, cameras are learned, R1 comes twice in five steps.
TRAIN = {"batch_size": 8, "patch_scale_beta": {"start": 0.8, "end": 0.8, "over": "0"}}
WHOLE = tiny_config(train=TRAIN)
EVERYTHING = tiny_config(**BEYOND | {"train": TRAIN | BEYOND["train"]})

CONFIGS = {"paper": WHOLE, "beyond": EVERYTHING}


def _assert_close(actual: Any, expected: Any, tolerance: float, name: str = "") -> None:
    """Numbers and tensors in nested containers agree, relative to the largest of each tensor."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            _assert_close(actual[key], expected[key], tolerance, f"{name}.{key}")
    elif isinstance(expected, (list, tuple)):
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            _assert_close(*pair, tolerance, f"{name}.{index}")
    elif isinstance(expected, (Tensor, float)):
        actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
        assert actual.shape == expected.shape, name
        error = (actual - expected).abs().amax() if expected.numel() else torch.zeros(())
        largest = expected.abs().amax() if expected.numel() else torch.ones(())
        assert error <= tolerance * largest, f"{name}: {error}"
    else:
        assert actual == expected, name


@functools.cache
def by_one_process(name: str) -> Any:
    """What one process with the whole batch leaves."""
    return train_in_double(CONFIGS[name], 5)


@pytest.fixture(scope="module")
def by_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes with half the batch leave for each configuration, beside the state from which they went on."""
    folder = tmp_path_factory.mktemp("double")
    for name, config in CONFIGS.items():
        (folder / name).mkdir()
        torch.save(train_in_double(config, 3)[0], folder / name / "saved.pt")
    run_processes(2, worlds.work_in_double, (CONFIGS, folder), lambda: False)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_with_half_the_batch_are_one_with_the_whole(name: str, by_two_processes: Path) -> None:
    whole = by_one_process(name)
    assert all(whole[1][f"discriminator/{term}"] > 0 for term in ("loss", "distillation", "r1"))
    first, second = (torch.load(by_two_processes / name / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    _assert_close(first, second, 0)
    five, (state_of_three_and_two, _) = first
    # float64 leaves 1e-16; sums in another order, five steps of Adam and a second derivative make 1e-10 of it.
    _assert_close(five, whole, 1e-10)
    _assert_close(state_of_three_and_two, whole[0], 1e-10)  # went on with another number of processes


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulated_pieces_are_the_whole_batch(pieces: int, name: str) -> None:
    train = CONFIGS[name].train.model_copy(update={"accumulation": pieces})
    _assert_close(train_in_double(CONFIGS[name].model_copy(update={"train": train}), 5), by_one_process(name), 1e-10)


def test_all_are_taken_back_and_stop_together_and_one_goes_on_alone(tmp_path: Path) -> None:
    shards, folder = tmp_path / "shards", tmp_path / "states"
    write_shards(shards)
    with pytest.raises(Stopped):
        run_processes(2, worlds.work_until_stopped, (tiny_config(), shards, folder), lambda: False)
    assert saved_states(folder) == [32, 44]
    (folder / "state-000000044.pt").write_bytes(b"")  # both go on from the state that the first can read
    with pytest.raises(Stopped):
        run_processes(2, worlds.work_until_stopped, (tiny_config(), shards, folder), lambda: False)
    assert saved_states(folder) == [32, 44]
    trainer, history = train_over(shards, folder, tiny_config())
    alone, alone_history = train_over(shards, tmp_path / "alone", tiny_config(), after_step=worlds.spoil_once)
    assert trainer.stream == alone.stream == 1
    # float32, and Adam takes full steps also where a gradient is next to nothing; curves are means over the batch.
    for record, expected in zip(history, alone_history, strict=True):
        assert (record["kimg"], record["rollbacks"]) == (expected["kimg"], expected["rollbacks"])
        assert record["generator/loss"] == pytest.approx(expected["generator/loss"], rel=1e-3)
        assert record["discriminator/real_sign"] == pytest.approx(expected["discriminator/real_sign"])
    assert torch.allclose(trainer.average.mapping.w_average, alone.average.mapping.w_average, rtol=1e-2, atol=1e-4)


def test_all_measure_together_and_a_stop_cuts_them_off_together(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    write_shards(shards)
    config = tiny_config(train={"metric_kimg": 0.032, "publish": "best"})
    with pytest.raises(Stopped):
        run_processes(2, worlds.work_that_measures, (config, shards, tmp_path), lambda: False)
    first, second = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and len(first) == 1
    assert saved_states(tmp_path / "states") == [32, 48, 64]  # the last good one, and the newest two
    assert load_state(tmp_path / "states", 64, torch.device("cpu"))["run"]["pending"] > 0
    # One process finds what two found: the same state, measured again.
    loader = ShardLoader(shards, config.train.batch_size, config.train.seed)
    trainer = prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    trainer.load_state_dict(load_state(tmp_path / "states", 32, torch.device("cpu"))["trainer"])
    assert worlds.measure_tiny(trainer) == pytest.approx(first[0], rel=1e-5)


def test_processes_are_stopped_from_outside_even_while_they_start(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with pytest.raises(Stopped):
        run_processes(2, worlds.work_until_stopped, (tiny_config(), tmp_path / "shards", tmp_path), lambda: True)


def test_one_failure_ends_all_and_is_told() -> None:
    with pytest.raises(UserError, match="shard 3 is damaged"):
        run_processes(2, worlds.work_that_fails, (), lambda: False)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"train.batch_size: 4 is not a multiple of 6 \(processes 3 x train.accumulation 1"
    ):
        make_trainer(tiny_config(), TrainingGroup(0, 3))


def test_processes_without_a_network_between_them_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Unable to find interface for: [127.0.0.1]\n")

    for name, value in {"RANK": "0", "WORLD_SIZE": "2", STORE: str(tmp_path / "store")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", fail)
    with pytest.raises(UserError, match=r"machine\.processes: .*Unable to find interface.*\); activate the loopback"):
        with join_training_group(torch.device("cpu")):
            pytest.fail("it began")
