"""The loop: stops, resumes and ends with the same model and curves; refuses to go on with numbers that are none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from threedgp.config import Config
from threedgp.data.loader import ShardLoader
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import Stopped, disk_is_full
from threedgp.training.checkpoints import load_state, save_state, saved_states
from threedgp.training.divergence import Diverged, check
from threedgp.training.logging import Logger, Record
from threedgp.training.loop import prepare_trainer, train
from threedgp.training.step import Trainer
from training.worlds import tiny_config, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return folder


def _open(shards: Path, config: Config, position: int = 0) -> ShardLoader:
    return ShardLoader(shards, config.train.batch_size, config.train.seed, position=position)


def _train(
    shards: Path, folder: Path, stop_after: int | None = None, **changes: Any
) -> tuple[Trainer, list[Record], list[Record]]:
    """The trainer, the curves, and what the last log that was opened has taken."""
    config = tiny_config(train=changes)
    loader = _open(shards, config)
    trainer = prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    logged: list[Record] = []

    def open_log() -> Logger:
        logged.clear()
        return lambda record, cameras=None: logged.append(record)

    outcome = train(
        trainer,
        lambda position: _open(shards, config, position),
        folder,
        open_log=open_log,
        should_stop=lambda: stop_after is not None and trainer.images >= stop_after,
    )
    return trainer, outcome.curves, logged


def _without_machine(records: list[Record]) -> list[Record]:
    return [{k: v for k, v in record.items() if k not in ("images_per_second", "memory_gb")} for record in records]


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
        assert _without_machine(again) == _without_machine(history)
        assert logged == again  # the lines before the stop are logged again first


def test_states_are_pruned(shards: Path, tmp_path: Path) -> None:
    _train(shards, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000000048.pt", "state-000000064.pt"]


def test_a_state_that_was_cut_off_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=2)

    def half(state: object, file: IO[bytes]) -> None:
        file.write(b"half a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 8, {"images": 8}, keep=2)
    assert saved_states(tmp_path) == [4]
    assert load_state(tmp_path, 4, torch.device("cpu")) == {"images": 4}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_saving_is_told_and_nothing_is_lost(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=1)
    save = torch.save

    class Full:
        def __init__(self, file: IO[bytes]) -> None:
            self.file, self.flush = file, file.flush

        def write(self, data: bytes) -> int:
            if self.file.tell() + len(data) > 10_000:
                raise OSError(number, os.strerror(number))
            return self.file.write(data)

    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Full(file)))
    with pytest.raises((OSError, RuntimeError)) as caught:
        save_state(tmp_path, 8, {"weights": torch.zeros(4000)}, keep=1)
    assert disk_is_full(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000004.pt"]
    assert load_state(tmp_path, 4, torch.device("cpu")) == {"images": 4}


@pytest.mark.parametrize("left", [lambda size: size // 2, lambda size: 0], ids=["half", "empty"])
def test_a_damaged_state_is_set_aside_for_the_one_before(
    left: Callable[[int], int], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stopped):
        _train(shards, tmp_path, stop_after=40)
    assert saved_states(tmp_path) == [32, 40]
    newest, older = tmp_path / "state-000000040.pt", tmp_path / "state-000000032.pt"
    os.truncate(newest, left(newest.stat().st_size))
    capsys.readouterr()
    with pytest.raises(Stopped):
        _train(shards, tmp_path, stop_after=0)
    assert f"train: {newest} is damaged: renamed to state-000000040.pt.damaged" in capsys.readouterr().out
    assert saved_states(tmp_path) == [32]
    os.truncate(older, left(older.stat().st_size))
    for _ in range(2):  # no state is renamed, so that the next attempt does not start from scratch
        with pytest.raises(UserError, match=r"none of the saved states can be read \(state-000000032\.pt\); "):
            _train(shards, tmp_path)


def test_asked_to_stop_before_the_first_step_it_takes_none(shards: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):
            _train(shards, tmp_path, stop_after=0)
        assert saved_states(tmp_path) == [0]


def test_a_full_disk_is_found_before_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10_000})())
    with pytest.raises(UserError, match=r"GB are needed and .* are free"):
        save_state(tmp_path, 8, {"images": 8, "nested": [{"weights": torch.zeros(4000)}]}, keep=1)
    assert saved_states(tmp_path) == [4]
    assert load_state(tmp_path, 4, torch.device("cpu")) == {"images": 4}


def test_the_first_state_after_every_archive_mark_stays(tmp_path: Path) -> None:
    for images in range(0, 100, 8):
        save_state(tmp_path, images, {}, keep=2, archive=20)
    # First of 0, 8, ... after each multiple of 20, and the newest two; the start belongs to no mark.
    assert saved_states(tmp_path) == [24, 40, 64, 80, 88, 96]


def _spoil(monkeypatch: pytest.MonkeyPatch, when: Callable[[Trainer], bool], by: float) -> list[tuple[int, int]]:
    """Multiply the generator's loss after steps; returns where that happened: images and stream."""
    step, places = Trainer.step, []

    def spoilt(self: Trainer, batch: object) -> dict[str, torch.Tensor]:
        stats = step(self, batch)
        if when(self):
            places.append((self.images, self.stream))
            stats["generator/loss"] = stats["generator/loss"] * by
        return stats

    monkeypatch.setattr(Trainer, "step", spoilt)
    return places


def test_a_run_that_diverges_goes_on_from_the_last_good_state_with_other_numbers(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _, _ = _train(shards, tmp_path / "plain")
    capsys.readouterr()
    _spoil(monkeypatch, lambda t: t.images == 40 and t.stream == 0, float("nan"))
    trainer, history, logged = _train(shards, tmp_path / "spoilt")
    assert (trainer.images, trainer.stream) == (64, 1)
    said = "generator/loss is not finite after 0.048 thousand images: back to 0.032 thousand images"
    assert said in capsys.readouterr().out
    assert [(r["kimg"], r["rollbacks"]) for r in history] == [(0.016, 0), (0.032, 0), (0.048, 1), (0.064, 1)]
    assert logged == history
    assert not torch.equal(plain.average.mapping.w_average, trainer.average.mapping.w_average)


def test_divergence_between_two_lines_is_not_saved(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda t: t.images == 20 and t.stream == 0, float("inf"))
    with pytest.raises(Stopped):  # asked to stop in the midst of it: first back, then stopped one step later
        _train(shards, tmp_path, stop_after=20)
    assert saved_states(tmp_path) == [16, 20]
    assert load_state(tmp_path, 20, torch.device("cpu"))["trainer"]["stream"] == 1


def test_a_state_that_led_astray_twice_is_given_up_and_in_the_end_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = _spoil(monkeypatch, lambda t: t.images == 36, float("nan"))
    with pytest.raises(UserError, match=r"3 times before \(train.max_rollbacks\)"):
        _train(shards, tmp_path, max_rollbacks=3)
    assert [stream for _, stream in places] == [0, 1, 2, 3]
    # 32 failed twice, so 16 came next; from there 32 was saved again and failed once more.
    assert saved_states(tmp_path) == [16, 32]
    with pytest.raises(UserError, match="3 times before"):  # that many remain that many when it is started again
        _train(shards, tmp_path, max_rollbacks=3)


def test_explosion_is_judged_by_what_was_usual() -> None:
    usual = [{"generator/loss": 2.0 + i % 2, "discriminator/gradient_norm": 0.01} for i in range(10)]
    check({"generator/loss": 240.0, "discriminator/gradient_norm": 90.0}, usual, 100)
    with pytest.raises(Diverged, match=r"generator/loss is 260"):
        check({"generator/loss": 260.0}, usual, 100)
    with pytest.raises(Diverged, match="gradient_norm is 110"):
        check({"discriminator/gradient_norm": 110.0}, usual, 100)
    check({"generator/loss": 1e6}, usual[:4], 100)  # too early to tell
    check({"generator/loss": 1e6}, usual, 0)
    with pytest.raises(Diverged, match="near_offset is not finite"):
        check({"generator/near_offset": float("nan")}, [], 0)


def test_pictures_come_at_intervals(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"pictures_kimg": 0.024})
    loader = _open(shards, config)
    trainer = prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    shown: list[int] = []
    train(trainer, lambda at: _open(shards, config, at), tmp_path, show=lambda trainer: shown.append(trainer.images))
    assert shown == [24, 48, 64]


def test_shards_without_depth_are_refused(shards: Path) -> None:
    config = tiny_config()
    loader = _open(shards, config)
    loader.has_depth = False
    with pytest.raises(UserError, match=r"the shards hold no depth; set depth\.estimator"):
        prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
