"""The training loop: resumption, saved states, rollbacks, measurements and the best model."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch

from threedgp.camera.geometry import FOV
from threedgp.config import Config
from threedgp.data.loader import ShardLoader
from threedgp.models.loading import load_model, load_untrained
from threedgp.models.sampler import sample_scenes
from threedgp.models.saving import save_model
from threedgp.runtime.errors import UserError, disk_is_full
from threedgp.runtime.processes import Stopped
from threedgp.training.checkpoints import RunState, load_state, save_state, saved_states
from threedgp.training.distributed import SINGLE_PROCESS
from threedgp.training.logging import Logger, Record, no_log
from threedgp.training.loop import Measured, _Loop, prepare_trainer, train
from threedgp.training.posthoc import snapshots
from threedgp.training.step import Trainer
from training.worlds import FOV_QUANTILES, tiny_config, train_over, write_shards


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


def test_stopped_and_resumed_run_ends_the_same(shards: Path, tmp_path: Path) -> None:
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


def test_run_ends_at_its_length_where_rounding_exceeds_it() -> None:
    assert 8.028 * 1000 > 8028
    trainer = SimpleNamespace(config=tiny_config(train={"kimg": 8.028}), group=SINGLE_PROCESS)
    assert _Loop(trainer, RunState(), None, no_log, lambda: False, lambda trainer: None, None).total == 8028


def test_states_are_pruned(shards: Path, tmp_path: Path) -> None:
    _train(shards, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000000048.pt", "state-000000064.pt"]


def test_states_of_a_billion_images_are_found(tmp_path: Path) -> None:
    for images in (10**9, 999_999_996):
        save_state(tmp_path, images, {"images": images}, keep=2)
    assert saved_states(tmp_path) == [999_999_996, 10**9]


def test_partially_written_state_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=2)

    def half(state: object, file: IO[bytes]) -> None:
        file.write(b"half a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 8, {"images": 8}, keep=2)
    assert saved_states(tmp_path) == [4]
    assert load_state(tmp_path, 4, torch.device("cpu")) == {"images": 4}


def test_what_a_killed_save_has_left_is_removed(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped run saves wherever it is, so that no later save has the same name."""
    save, partial = torch.save, []
    monkeypatch.setattr(torch, "save", lambda state, file: (partial.append(Path(file.name)), save(state, file)))
    with pytest.raises(Stopped):
        _train(shards, tmp_path, stop_after=20)
    partial[-1].write_bytes(b"half a state")
    _train(shards, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000000048.pt", "state-000000064.pt"]


def test_no_state_is_written_where_it_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 4, {"images": 4}, keep=1)
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9, 0))
    with pytest.raises(UserError, match="are needed and 0 B are free"):
        save_state(tmp_path, 8, {"images": 8}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000004.pt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_reported_and_earlier_states_are_kept(
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
def test_damaged_state_is_renamed_and_the_previous_one_used(
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
    told = f"{newest} is damaged: renamed to state-000000040.pt.damaged; continuing from state-000000032.pt"
    assert told in capsys.readouterr().out
    assert saved_states(tmp_path) == [32]
    os.truncate(older, left(older.stat().st_size))
    for _ in range(2):  # no state is renamed, so that the next attempt does not start from scratch
        with pytest.raises(UserError, match=r"none of the saved states can be read \(state-000000032\.pt\); "):
            _train(shards, tmp_path)


def test_stop_before_the_first_step(shards: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):
            _train(shards, tmp_path, stop_after=0)
        assert saved_states(tmp_path) == [0]


def test_archived_states_are_kept(tmp_path: Path) -> None:
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


def test_diverged_run_is_rolled_back_and_continues_with_other_random_numbers(
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


def test_diverged_state_is_not_saved(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _spoil(monkeypatch, lambda t: t.images == 20 and t.stream == 0, float("inf"))
    with pytest.raises(Stopped):  # stop and divergence at once: the run is rolled back first, and stops one step later
        _train(shards, tmp_path, stop_after=20)
    assert saved_states(tmp_path) == [16, 20]
    assert load_state(tmp_path, 20, torch.device("cpu"))["trainer"]["stream"] == 1


def test_state_is_discarded_after_two_divergences_and_rollbacks_are_limited(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = _spoil(monkeypatch, lambda t: t.images == 36, float("nan"))
    with pytest.raises(UserError, match=r"3 times before \(train.max_rollbacks\)"):
        _train(shards, tmp_path, max_rollbacks=3)
    assert [stream for _, stream in places] == [0, 1, 2, 3]
    # 32 failed twice, so 16 came next; from there 32 was saved again and failed once more.
    assert saved_states(tmp_path) == [16, 32]
    with pytest.raises(UserError, match="3 times before"):  # the number of rollbacks is saved, too
        _train(shards, tmp_path, max_rollbacks=3)


def test_samples_are_shown_at_intervals(shards: Path, tmp_path: Path) -> None:
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


def test_estimated_prior_needs_fields_of_view(shards: Path) -> None:
    config = tiny_config(camera={"prior": "estimated"})
    loader = _open(shards, config)
    loader.fov_quantiles = None
    message = r"'estimated' needs fields of view, and depth\.estimator 'given' gave none; choose simulated, moge or"
    with pytest.raises(UserError, match=message):
        prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()


@pytest.mark.parametrize(("fov", "share"), [((12, 40), None), ((13, 40), "33%"), ((20, 30), "100%")])
def test_clamped_fields_of_view_are_reported(
    fov: tuple[float, float], share: str | None, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(camera={"prior": "estimated", "fov": fov})
    loader = _open(shards, config)
    prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    text = f"train: {share} of the estimated fields of view are outside of camera.fov and are clamped to it\n"
    assert capsys.readouterr().out == (text if share else "")


def test_metric_depth_is_compared_with_the_rays(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(camera={"ray_start": 0.5, "ray_end": 1.0})
    loader = _open(shards, config)
    loader.depth_range = {"far": 8.0, "near": 2.0, "ratio": 3.5}
    prepare_trainer(config, loader, torch.device("cpu"))
    loader.close()
    assert capsys.readouterr().out == (
        "train: metric depth of the images runs from 2 to 8 (medians), far / near is 3.5; "
        "camera.ray_end / camera.ray_start is 2\n"
    )


@pytest.mark.parametrize("conditional", [True, False])
def test_model_remembers_the_estimated_prior(conditional: bool, shards: Path, tmp_path: Path) -> None:
    """A model folder alone gives the scenes of training, of the class that each of them has."""
    config = tiny_config(camera={"prior": "estimated"}, model={"class_conditional": conditional}, train={"kimg": 0.008})
    trainer, _ = train_over(shards, tmp_path / "states", config)
    save_model(tmp_path / "model", trainer.average, config, class_names=["a", "b", "c"], kimg=0.008)
    for generator in (load_model(tmp_path / "model"), load_untrained(tmp_path / "model")):
        found, expected = sample_scenes(generator, 300, 0), sample_scenes(trainer.average, 300, 0)
        assert torch.equal(found.prior_cameras, expected.prior_cameras)
        quantiles = torch.tensor(FOV_QUANTILES[1:])[found.labels] if conditional else torch.tensor(FOV_QUANTILES[:1])
        fov = found.prior_cameras[:, FOV]
        assert ((quantiles[:, 0] <= fov) & (fov <= quantiles[:, -1])).all()
        below = (fov < quantiles[:, 1]).double().mean().item()
        assert below == pytest.approx(0.5, abs=0.12)  # four standard errors of 300 draws


DISTANCES = {16: 3.0, 32: 1.0, 48: 2.0, 64: 2.5}


def _run(shards: Path, folder: Path, stop_after: int = -1, distances: Any = None, **changes: Any) -> Any:
    """A run whose measurements are known: the weights at each of them, the trainer at the end, and the curves."""
    config = tiny_config(train={"metric_kimg": 0.016, "publish": "best", **changes})
    seen: dict[int, torch.Tensor] = {}

    def measure(trainer: Trainer, stop_if_asked: Callable[[], None]) -> Measured:
        seen[trainer.images] = trainer.average.mapping.layers[0].weight.clone()
        distance = next(distances) if distances else DISTANCES[trainer.images]
        return Measured({"distance/given": distance}, distance)

    stop = dict(should_stop=lambda: bool(trainers) and trainers[0].images == stop_after) if stop_after > 0 else {}
    trainers: list[Trainer] = []
    trainer, curves = train_over(
        shards, folder, config, measure=measure, after_step=lambda t, s: trainers.insert(0, t), **stop
    )
    return seen, trainer, curves


def test_best_model_is_published_and_measurements_are_in_the_curves(shards: Path, tmp_path: Path) -> None:
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


def test_last_model_is_published_on_request(shards: Path, tmp_path: Path) -> None:
    seen, trainer, _ = _run(shards, tmp_path, publish="last")
    assert torch.equal(trainer.average.mapping.layers[0].weight, seen[64])


def test_snapshots_of_a_resumed_or_rolled_back_run_are_those_of_its_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    posthoc = {"publish": "posthoc", "posthoc_ema": {"snapshot_kimg": 0.02, "sigma_rel": 0.05}}
    whole, _, _ = _train(shards, tmp_path / "whole", **posthoc)
    assert "published average differs by 0.00% from that of sigma_rel 0.05" in capsys.readouterr().out
    files = snapshots(tmp_path / "whole" / "averages")
    assert list(files) == [20, 40, 60, 64]
    with pytest.raises(Stopped):
        _train(shards, tmp_path / "halves", stop_after=44, **posthoc)
    resumed, _, _ = _train(shards, tmp_path / "halves", **posthoc)
    for images, path in snapshots(tmp_path / "halves" / "averages").items():
        assert path.read_bytes() == files[images].read_bytes()
    tracked = whole.power_averages.values[0.05]
    for (name, x), y in zip(whole.average.named_parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(x, y)
        torch.testing.assert_close(x, tracked[name], rtol=1e-3, atol=1e-4)  # stored in float16

    place = tmp_path / "diverged"
    _spoil(monkeypatch, lambda t: t.images == 44 and t.stream == 0, float("nan"))  # back to 32, before a snapshot
    with pytest.raises(Stopped):
        _train(shards, place, stop_after=36, **posthoc)
    kept = snapshots(place / "averages")[20].read_bytes()
    _train(shards, place, **posthoc)
    again = snapshots(place / "averages")
    assert list(again) == [20, 40, 60, 64] and again[20].read_bytes() == kept == files[20].read_bytes()
    assert again[40].read_bytes() != files[40].read_bytes(), "other random numbers"


def test_exploding_distance_rolls_the_run_back(shards: Path, tmp_path: Path) -> None:
    def distances() -> Iterator[float]:
        yield from (1.0, 9.0, 1.5, 1.2, 1.3)  # the second is an explosion, measured again after the return

    _, trainer, curves = _run(shards, tmp_path, distances=distances())
    assert trainer.stream == 1 and curves[-1]["rollbacks"] == 1
    assert [line["distance/given"] for line in curves] == [1.0, 1.5, 1.2, 1.3]


def test_exploding_distance_discards_all_states_since_the_last_good_one(shards: Path, tmp_path: Path) -> None:
    distances = iter((1.0, 9.0, 2.0))  # after 32, 64 and again 64
    given: list[list[int]] = []

    def measure(trainer: Trainer, stop_if_asked: Callable[[], None]) -> Measured:
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


def test_interrupted_measurement_is_repeated_on_resume(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"metric_kimg": 0.032, "publish": "best"})
    measured: list[int] = []

    def run(folder: Path, stop_at: int = 0) -> tuple[Trainer, list[Any]]:
        signals: list[int] = []

        def measure(trainer: Trainer, stop_if_asked: Callable[[], None]) -> Measured:
            if trainer.images == stop_at:
                signals.append(1)
            stop_if_asked()
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
