"""The loop: stops, resumes and ends with the same model and curves; refuses to go on with numbers that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from threedgp.config import Config
from threedgp.data.loader import ShardLoader
from threedgp.errors import UserError
from threedgp.training.loop import Record, Stopped, prepare_trainer, train
from threedgp.training.state import load_newest_state, save_state
from threedgp.training.trainer import Trainer
from training.worlds import tiny_config, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return folder


def _open(shards: Path, config: Config, position: int = 0) -> ShardLoader:
    return ShardLoader(shards, config.train.batch_size, config.train.seed, position=position)


def _train(shards: Path, folder: Path, stop_after: int | None = None) -> tuple[Trainer, list[Record], list[Record]]:
    config = tiny_config()
    loader = _open(shards, config)
    trainer = prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    logged: list[Record] = []
    history = train(
        trainer,
        lambda position: _open(shards, config, position),
        folder,
        log=logged.append,
        should_stop=lambda: stop_after is not None and trainer.images >= stop_after,
    )
    return trainer, history, logged


def _without_speed(records: list[Record]) -> list[Record]:
    return [{k: v for k, v in record.items() if k != "images_per_second"} for record in records]


def test_stopped_anywhere_it_ends_the_same(shards: Path, tmp_path: Path) -> None:
    whole, history, _ = _train(shards, tmp_path / "whole")
    assert whole.images == 64 and [r["kimg"] for r in history] == pytest.approx([0.016, 0.032, 0.048, 0.064])
    for stop in (4, 28, 60):  # the last one twice interrupted would be the same state again
        folder = tmp_path / f"stop-{stop}"
        with pytest.raises(Stopped):
            _train(shards, folder, stop_after=stop)
        resumed, again, logged = _train(shards, folder)
        for (name, x), y in zip(whole.average.state_dict().items(), resumed.average.state_dict().values(), strict=True):
            assert torch.equal(x, y), name
        assert _without_speed(again) == _without_speed(history)
        assert logged == again  # the lines before the stop are logged again first


def test_states_are_pruned(shards: Path, tmp_path: Path) -> None:
    _train(shards, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000000048.pt", "state-000000064.pt"]


def test_a_state_that_was_cut_off_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=2)

    def half(state: object, path: Path) -> None:
        path.write_bytes(b"half a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 8, {"images": 8}, keep=2)
    assert load_newest_state(tmp_path, torch.device("cpu")) == {"images": 4}


def test_a_full_disk_is_found_before_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match=r"GB are needed and .* are free"):
        save_state(tmp_path, 8, {"images": 8}, keep=1)
    assert load_newest_state(tmp_path, torch.device("cpu")) == {"images": 4}


def test_divergence_is_an_error_and_its_state_is_not_saved(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def diverge(self: Trainer, batch: object) -> dict[str, torch.Tensor]:
        stats = step(self, batch)
        return stats | {"generator/loss": stats["generator/loss"] * float("nan")} if self.images > 20 else stats

    monkeypatch.setattr(Trainer, "step", diverge)
    with pytest.raises(UserError, match=r"generator/loss is not finite after 0.032 thousand images"):
        _train(shards, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["state-000000016.pt"]
