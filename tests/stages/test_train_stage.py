"""Stage `train` as a command: killed or stopped anywhere it ends with the same bytes; bad input is one sentence."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml

from command_line import Command
from stages.declaration import DeclaredSettings, declarations
from stages.harness import Stage
from stages.train import main
from threedgp.config import Config
from threedgp.evaluation.monitor import Monitor
from threedgp.features.moments import Moments
from threedgp.models.loading import load_model, read_model_config
from threedgp.models.sampler import draw_scenes, render_scenes
from threedgp.training.loggers import LOGGERS, RunLogs
from threedgp.training.posthoc import reconstruct
from training.worlds import CLASSES, RESOLUTION, Averages, tiny_config, write_shards

COMMAND = [sys.executable, "-m", "stages.train"]
STATES = 8
"""States that the whole run saves; all are kept, so that their number tells how far it is."""


def _set_up(place: Path, root: Path, processes: int = 1, **train: Any) -> Path:
    place.mkdir()
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    settings = {"save_kimg": 0.008, "keep_states": STATES, "posthoc_ema": {"snapshot_kimg": 0.02}, **train}
    config = tiny_config(train=settings, machine={"processes": processes})
    (place / "params.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for folder in ("prepared", "features", "shards"):  # without measurements only the last is read
        write_shards(place / "data" / "tiny" / folder)
    return place


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A project in which training ran undisturbed."""
    place = _set_up(tmp_path_factory.mktemp("train") / "a project", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        main(Path("params.yaml"))
    return place


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, as working directory."""
    place = _set_up(tmp_path / "a project", root)
    monkeypatch.chdir(place)
    return place


def _refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which training refuses."""
    with pytest.raises(SystemExit) as exit:
        main(Path("params.yaml"))
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def _states(place: Path) -> int:
    return len(list((place / ".scratch" / "train").rglob("state-*.pt")))


def _interrupt(place: Path, moment: int, number: signal.Signals) -> tuple[int, str]:
    """Start training, send a signal once `moment` states lie there, and wait; exit status and standard error."""
    process = subprocess.Popen(COMMAND, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and _states(place) < moment:
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def _assert_same_result(place: Path, finished: Path) -> None:
    for name in ("model.safetensors", "discriminator.safetensors", "config.json", "run.json"):
        ours, theirs = (folder / "results" / "model" / name for folder in (place, finished))
        assert ours.read_bytes() == theirs.read_bytes(), name
    ours, theirs = (
        {path.name: path.read_bytes() for path in (folder / "results" / "training" / "averages").iterdir()}
        for folder in (place, finished)
    )
    assert list(sorted(theirs)) == [f"averages-0000000{images}.safetensors" for images in (20, 40, 60, 64)]
    assert ours == theirs
    assert _curves(place) == _curves(finished)


def _curves(place: Path) -> list[dict[str, float]]:
    assert json.loads((place / "results" / "training" / "health.json").read_text()) == []
    lines = (place / "results" / "training" / "curves.jsonl").read_text().splitlines()
    own = ("images_per_second", "memory_gb")  # of the machine, not of the run
    return [{k: v for k, v in json.loads(line).items() if k not in own} for line in lines]


def test_killed_at_random_moments_it_ends_the_same(project: Path, finished: Path) -> None:
    for moment in sorted(random.Random("train").sample(range(1, STATES - 1), 2)):
        status, _ = _interrupt(project, moment, signal.SIGKILL)
        assert status == -signal.SIGKILL
        assert not (project / "results" / "model").exists()
    main(Path("params.yaml"))
    _assert_same_result(project, finished)
    assert not any((project / ".scratch" / "train").iterdir())


def test_stopped_it_saves_says_so_and_ends_the_same(project: Path, finished: Path) -> None:
    status, errors = _interrupt(project, 2, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "train: stopped; run the same command again to continue."
    main(Path("params.yaml"))
    _assert_same_result(project, finished)


def test_it_goes_on_with_other_settings_of_what_it_keeps(project: Path, finished: Path) -> None:
    _interrupt(project, 2, signal.SIGTERM)
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["train"] |= {"save_kimg": 1.0, "keep_states": 1, "archive_kimg": 0.0, "max_rollbacks": 9}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    main(Path("params.yaml"))
    assert not any(Path(".scratch/train").iterdir())  # another run would have left the scratch of the first
    weights = "results/model/model.safetensors"
    assert Path(weights).read_bytes() == (finished / weights).read_bytes()


def test_a_stop_cuts_off_what_comes_before_the_first_step(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _set_up(tmp_path / "a project", root, metric_kimg=0.016)

    def download(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        pytest.fail("it was not cut off")

    monkeypatch.setattr("threedgp.evaluation.monitor.open_monitor", download)
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as exit:
        main(Path("params.yaml"))
    assert exit.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "train: stopped; run the same command again to continue.\n"


def test_measurements_are_in_the_curves(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = _set_up(tmp_path / "a project", root, metric_kimg=0.032, metric_samples=20)
    reals = np.random.default_rng(0).uniform(0, 255, (20, 3)).astype(np.float32)
    labels, statistics = np.arange(20) % CLASSES, Moments.of(reals)
    monitor = Monitor(Averages(), statistics, (reals, labels), None, count=20, seed=0, batch_size=4)
    monkeypatch.setattr("threedgp.evaluation.monitor.open_monitor", lambda *_, **__: monitor)
    monkeypatch.chdir(place)
    main(Path("params.yaml"))
    training = place / "results" / "training"
    lines = [json.loads(line) for line in (training / "curves.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "diversity/in_class" in line]
    assert [line["kimg"] for line in lines] == [0.032, 0.064]
    assert all("distance/fd_averages_20" in line for line in lines)
    # The published model is that of the last measurement.
    model = load_model(place / "results" / "model")
    scenes = draw_scenes(model, 0, "monitor", torch.arange(20))
    images = render_scenes(model, scenes, RESOLUTION).images.double().mean((2, 3)).numpy()

    def distance(rows: np.ndarray) -> float:
        return np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)])

    sets = [(images[scenes.labels == label], reals[labels == label]) for label in range(CLASSES)]
    assert min(len(fakes) for fakes, _ in sets) > 1
    fake, real = (sum(distance(rows) for rows in column) for column in zip(*sets, strict=True))
    assert lines[-1]["diversity/in_class"] == pytest.approx(fake / real, rel=1e-3) and fake / real < 0.5
    (finding,) = json.loads((training / "health.json").read_text())
    assert finding["since_kimg"] == 0.032 and "almost alike" in finding["text"]


def test_a_user_without_an_account_trains_without_dvclive(
    project: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("dvclive.Live", refuse)
    main(Path("params.yaml"))
    assert "since DVCLive cannot start: 'getpwuid(): uid not found: 12345'" in capsys.readouterr().out
    _assert_same_result(project, finished)
    assert not (project / "results" / "training" / "plots").exists()


def test_an_average_is_reconstructed_after_training(finished: Path, tmp_path: Path, threedgp: Command) -> None:
    def average(*arguments: object) -> str:
        code, out, err = threedgp("ema", *arguments)
        assert code == (2 if err else 0)
        return out + err

    (place_taken := tmp_path / "file").touch()
    results, models = finished / "results", [tmp_path / name for name in ("a", "b", "early")]
    models[0].mkdir()
    (models[0] / "discriminator.safetensors").touch()  # of another model
    for model, options in zip(models, [(), ("--kimg", "0.064"), ("--kimg", "0.05")], strict=True):
        said = average(results, model, "--sigma-rel", 0.07, *options)
    assert f"{models[-1]} now holds the average of sigma_rel 0.07 after 0.04 thousand images" in said
    assert [read_model_config(model)["kimg"] for model in models] == [0.064, 0.064, 0.04]
    assert not (models[0] / "discriminator.safetensors").exists()
    assert (models[0] / "run.json").read_bytes() == (results / "model" / "run.json").read_bytes()
    whole, same, early = (load_model(model).state_dict() for model in models)
    expected = reconstruct(results / "training" / "averages", 0.07).state
    published = load_model(results / "model").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(value, expected[name].to(value.dtype), rtol=0, atol=0)
        assert torch.equal(value, same[name])
    assert not torch.equal(early["mapping.w_average"], whole["mapping.w_average"])
    assert torch.equal(published["mapping.w_average"], whole["mapping.w_average"])
    assert "name another folder" in average(results, results / "model", "--sigma-rel", 0.07)
    assert "cannot be written" in average(results, place_taken, "--sigma-rel", 0.07)
    assert "the first snapshot is that of 0.02 thousand" in average(
        results, models[0], "--sigma-rel", 0.07, "--kimg", 0.01
    )


def test_the_card_has_the_settings_with_which_the_run_began(
    project: Path, monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    def edit(stage: Stage, *arguments: Any, **options: Any) -> None:
        settings = yaml.safe_load(Path("params.yaml").read_text())
        settings["train"]["kimg"] = 999
        Path("params.yaml").write_text(yaml.safe_dump(settings))
        model = stage.scratch / "model"
        shutil.copytree(finished / "results" / "model", model)
        (model / "run.json").unlink()
        (stage.scratch / "curves").mkdir()

    monkeypatch.setattr("stages.train.share_work", edit)
    main(Path("params.yaml"))
    assert json.loads(Path("results/model/run.json").read_text())["settings"]["train"]["kimg"] == 0.064


def test_curves_are_what_dvc_plots(finished: Path) -> None:
    curves = finished / "results" / "training" / "plots" / "metrics" / "generator" / "loss.tsv"
    rows = [line.split("\t") for line in curves.read_text().splitlines()]
    assert "step" in rows[0] and len(rows) == 1 + len(_curves(finished))


@pytest.mark.parametrize("name", LOGGERS)
def test_loggers_read_only_settings_that_the_stage_declares(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    config = tiny_config(train={"loggers": [name]})
    settings = cast(Config, DeclaredSettings(config, declarations(config)["train"]))
    with RunLogs(tmp_path / "curves", settings) as logs:
        logs.open()({"kimg": 0.5, "generator/loss": 2.0})
    assert (tmp_path / "curves" / name).is_dir()


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_bad_shards_are_named(project: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    shard = project / "data" / "tiny" / "shards" / "part-00001.parquet"
    if damage == "missing":
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 0xFF
        shard.write_bytes(content)
    assert "part-00001.parquet" in _refused(capsys)


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


def test_processes_that_cannot_share_the_batch_are_one_sentence(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(_set_up(tmp_path / "a project", root, processes=3))
    line = _refused(capsys)
    assert line.startswith("error: train.batch_size: 4 is not a multiple of") and "machine.processes" in line


@pytest.mark.parametrize("launcher", [[], TORCHRUN], ids=["machine.processes", "torchrun"])
def test_two_processes_leave_one_model(launcher: list[str], tmp_path: Path, root: Path) -> None:
    place = _set_up(tmp_path / "a project", root, processes=2, kimg=0.008, pictures_kimg=0.008)
    run = subprocess.run(
        [sys.executable, *launcher, "-m", "stages.train"], cwd=place, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("train: 8/8 images") == 1
    assert load_model(place / "results" / "model").num_classes == 3
    assert [line["kimg"] for line in _curves(place)] == [0.008]
    pictures = place / "results" / "training" / "pictures"
    assert [path.name for path in pictures.iterdir()] == ["kimg-00000.008.png"]
    assert not any((place / ".scratch" / "train").iterdir())
