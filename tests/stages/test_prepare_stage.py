"""Stage prepare as a command: any number of processes, killed or not, leaves the same bytes; a limit loses nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from held_writing import HOLD
from PIL import Image

import stages.download
import stages.prepare
from threedgp.data.shards import read_manifest

SETTINGS = """
dataset: {name: tiny, source: folder, path: pictures, resolution: 16}
model: {discriminator: {patch_resolution: 8}, depth: false}
depth: {estimator: none}
embed: {network: none}
train: {distillation: {loss: none}}
prepare: {shard_rows: 5}
machine: {processes: 1, workers: 1, max_reject_fraction: 0.2}
"""
SHARDS, PICTURES, BROKEN = 8, 40, (3, 21, 22)
OUT = Path("data/tiny/prepared")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project with images that stage download has listed, three of them broken; the working directory."""
    place = tmp_path / "a project"
    place.mkdir()
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        file = Path("pictures", "odd" if number % 2 else "even", f"{number:02d}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)
        if number in BROKEN:
            file.write_bytes(file.read_bytes()[:100])
    settings()
    stages.download.main(Path("params.yaml"))
    return place


def settings(**machine: float) -> None:
    text = SETTINGS
    for key, value in machine.items():
        before = {"processes": "processes: 1", "max_reject_fraction": "max_reject_fraction: 0.2"}[key]
        text = text.replace(before, f"{key}: {value}")
    Path("params.yaml").write_text(text)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def alone(project: Path) -> dict[str, bytes]:
    """What one process makes; the output is taken away again."""
    stages.prepare.main(Path("params.yaml"))
    made = contents(OUT)
    assert len([name for name in made if name.startswith("part-")]) == SHARDS
    shutil.rmtree(OUT)
    return made


def assert_same_result(out: str, alone: dict[str, bytes]) -> None:
    """The stage that printed `out` left what one process does, and said everything once."""
    assert out.count(f"prepare: {PICTURES}/{PICTURES} images") == 1
    assert out.count(f"prepare: {len(BROKEN)} of {PICTURES} images were left out") == 1
    assert contents(OUT) == alone
    assert read_manifest(OUT).meta["rejects"] == len(BROKEN)
    assert not any(Path(".scratch/prepare").iterdir())


def test_several_processes_leave_what_one_does(alone: dict[str, bytes], capfd: pytest.CaptureFixture[str]) -> None:
    settings(processes=3)
    capfd.readouterr()
    stages.prepare.main(Path("params.yaml"))
    assert_same_result(capfd.readouterr().out, alone)


def test_torchrun_leaves_what_one_process_does(alone: dict[str, bytes]) -> None:
    command = [sys.executable, *TORCHRUN, "-m", "stages.prepare"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert_same_result(run.stdout, alone)


def finished() -> list[Path]:
    return list(Path(".scratch/prepare").rglob("prepared/.*.done.json"))


def children(process: int) -> list[int]:
    """Processes that compute: those that were started by `spawn`, but for the tracker of resources."""
    ids = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return [child for child in ids if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_killed_process_loses_no_finished_shard(project: Path, alone: dict[str, bytes]) -> None:
    settings(processes=2)
    (project / "sitecustomize.py").write_text(HOLD)
    (project / "hold").touch()
    environment = {**os.environ, "PYTHONPATH": str(project)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while len(finished()) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    (project / "hold").unlink()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and "too little memory (a process was killed)" in errors
    assert not OUT.exists()
    kept = {file: file.stat().st_mtime_ns for file in finished()}
    assert 4 <= len(kept) < SHARDS
    settings(processes=1)
    stages.prepare.main(Path("params.yaml"))
    assert contents(OUT) == alone


def test_a_higher_limit_of_rejects_goes_on_with_what_is_done(
    alone: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    settings(max_reject_fraction=0.05)
    with pytest.raises(SystemExit) as end:
        stages.prepare.main(Path("params.yaml"))
    assert end.value.code == 2 and "3 of 40 images cannot be used, more than machine.max_reject_fraction (0.05)" in (
        capsys.readouterr().err
    )
    kept = {file: file.stat().st_ino for file in Path(".scratch/prepare").rglob("part-*.parquet")}
    assert len(kept) >= 2 * 5  # images and rejects; the third broken one is in shard 4
    settings(max_reject_fraction=0.2)
    stages.prepare.main(Path("params.yaml"))
    assert contents(OUT) == alone
    there = {file.name: file.stat().st_ino for file in OUT.glob("part-*.parquet")}
    written_once = [file for file in kept if file.parent.name == "prepared"]
    assert len(written_once) >= 5 and all(there[file.name] == kept[file] for file in written_once)


def test_too_few_images_are_told_before_training(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in sorted(Path("pictures").rglob("*.png"))[7:]:
        file.unlink()
    stages.download.main(Path("params.yaml"))
    with pytest.raises(SystemExit) as end:
        stages.prepare.main(Path("params.yaml"))
    assert end.value.code == 2
    assert re.search(
        r"dataset\.path: pictures has \d usable images; evaluation needs 8, so add some", capsys.readouterr().err
    )
