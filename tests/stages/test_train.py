"""Stage `train` as a process: by itself, and as the processes of torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from threedgp.models.saving import load_model
from training.worlds import tiny_config, write_shards


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with shards and settings, but no code."""
    settings = tiny_config(train={"kimg": 0.008, "pictures_kimg": 0.008}).model_dump(mode="json")
    settings["machine"]["processes"] = 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    write_shards(tmp_path / "data" / "tiny" / "shards")
    return tmp_path


@pytest.mark.parametrize(
    "launcher",
    [
        ["-m"],
        [
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
            "-m",
        ],
    ],
    ids=["machine.processes", "torchrun"],
)
def test_two_processes_leave_one_model(launcher: list[str], project: Path, root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, "stages.train"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train: 8/8 images") == 1
    generator = load_model(project / "results" / "model")
    assert generator.num_classes == 3
    lines = (project / "results" / "training" / "curves.jsonl").read_text().splitlines()
    assert [json.loads(line)["kimg"] for line in lines] == [0.008]
    assert [path.name for path in (project / "results" / "training" / "pictures").iterdir()] == ["kimg-00000.008.png"]
    assert not list((project / ".scratch" / "train").iterdir())
