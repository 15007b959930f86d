"""The stages features and embed as commands: any number of processes, killed or not, leaves the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from held_writing import HOLD

import stages.embed
import stages.features
from threedgp.data import schemas
from threedgp.data.images import encode_image
from threedgp.data.shards import ShardFolder, ShardWriter

SETTINGS = """
dataset: {name: tiny, source: procedural, resolution: 16}
download: {resolution: 16}
model: {discriminator: {patch_resolution: 8}}
depth: {estimator: simulated}
features: {network: efficientnet_lite0, input_size: 32, batch_size: 4}
embed: {network: test_resnet.r160_in1k, weights: weights.safetensors, input_size: 32, batch_size: 3}
machine: {processes: PROCESSES, workers: 1}
"""
DATA = Path("data/tiny")
SHARDS, ROWS = 8, 6
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


def write_inputs(data: Path) -> None:
    """Random images, every other one selected."""
    random = np.random.default_rng(0)
    prepared = ShardWriter(data / "prepared", schemas.PREPARED, "prepared", {"resolution": 16})
    for shard in range(SHARDS):
        rows = [
            {
                "id": f"{shard}-{row}",
                "label": row % 2,
                "image": {"bytes": encode_image(random.integers(0, 256, (16, 16, 3), dtype=np.uint8), "png")},
                "crop": [0, 0, 16, 16],
            }
            for row in range(ROWS)
        ]
        prepared.write(shard, pa.Table.from_pylist(rows, schemas.PREPARED))
    prepared.finish()
    selected = ShardWriter(data / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
    rows = [{"id": f"{shard}-{row}", "label": row % 2} for shard in range(SHARDS) for row in range(0, ROWS, 2)]
    selected.write(0, pa.Table.from_pylist(rows, schemas.SELECTED))
    selected.finish()


def write_weights(file: Path) -> None:
    """Random ones."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), file)


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, as working directory."""
    place = tmp_path / "a project"
    place.mkdir()
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    write_inputs(place / DATA)
    write_weights(place / "weights.safetensors")
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_processes(1)
    return place


def use_processes(count: int) -> None:
    Path("params.yaml").write_text(SETTINGS.replace("PROCESSES", str(count)))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def run_alone(stage: ModuleType, out: Path) -> dict[str, bytes]:
    """What one process makes of it; the output is taken away again."""
    stage.main(Path("params.yaml"))
    made = contents(out)
    shutil.rmtree(out)
    return made


def test_torchrun_leaves_what_one_process_does(project: Path) -> None:
    alone = run_alone(stages.features, DATA / "features")
    command = [sys.executable, *TORCHRUN, "-m", "stages.features"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(f"features: {SHARDS * ROWS}/{SHARDS * ROWS} images") == 1
    assert contents(DATA / "features") == alone
    assert {"manifest.json", "statistics.npz", "part-00007.parquet"} <= alone.keys()
    assert not any(Path(".scratch/features").iterdir())


def done(stage: str) -> int:
    return len(list(Path(".scratch", stage).rglob(f"{stage}/.*.done.json")))


def children(process: int) -> list[int]:
    """Processes that compute: those that were started by `spawn`, but for the tracker of resources."""
    task = Path(f"/proc/{process}/task/{process}/children")
    ids = [int(child) for child in task.read_text().split()]
    return [child for child in ids if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_one_of_two_processes_is_killed_and_the_same_command_goes_on(project: Path) -> None:
    alone = run_alone(stages.embed, DATA / "embed")
    use_processes(2)
    # From the fifth shard on writing is held back, so that the kill always comes in the middle.
    hold = {**os.environ, "PYTHONPATH": str(project)}
    (project / "sitecustomize.py").write_text(HOLD)
    (project / "hold").touch()
    process = subprocess.Popen([sys.executable, "-m", "stages.embed"], env=hold, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while done("embed") < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    (project / "hold").unlink()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and "too little memory (a process was killed)" in errors
    assert not (DATA / "embed").exists()
    kept = list(Path(".scratch/embed").rglob("embed/.*.done.json"))
    assert 4 <= len(kept) < SHARDS
    use_processes(1)
    stages.embed.main(Path("params.yaml"))
    assert contents(DATA / "embed") == alone
    assert ShardFolder(DATA / "embed").meta["embedding_dim"] == 96
    assert not any(Path(".scratch/embed").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("network: test_resnet.r160_in1k", "network: resnet51", "no model 'resnet51'; did you mean"),
        ("weights: weights.safetensors", "weights: nowhere.pth", "embed.weights: nowhere.pth does not exist"),
    ],
)
def test_bad_settings_are_one_sentence(
    project: Path, old: str, new: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(SETTINGS.replace("PROCESSES", "1").replace(old, new))
    with pytest.raises(SystemExit) as end:
        stages.embed.main(Path("params.yaml"))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and part in line
