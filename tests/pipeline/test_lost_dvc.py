"""A real DVC that is killed while a stage runs, as a full memory or a lost connection does it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from threedgp.commands.preset import default_values

PIPELINE = """
stages:
  prepare:
    cmd: python work.py
    deps: [work.py]
    params: [prepare]
    outs: ["data/${dataset.name}/prepared"]
"""
# Long work, which ends when the file `go` is there.
WORK = """
import os, time
from pathlib import Path
import typer
from stages.harness import open_stage

def main() -> None:
    with open_stage("prepare", Path("params.yaml")) as stage:
        with open("ran.txt", "a") as log:
            print("ran", file=log, flush=True)
        while not Path("go").exists():
            time.sleep(0.05)
        built = stage.scratch / "prepared" / "inner"
        built.mkdir(parents=True)
        for name in ("part-0", "part-10", "part_1"):
            (built / name).write_text(name)
        (built.parent / "inner-file").write_text("é")
        stage.publish(built.parent, stage.layout.prepared)

typer.run(main)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_finished_result_is_recorded_by_the_next_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("work.py").write_text(WORK)
    values = default_values()  # a stage that DVC runs wants every key in the file
    values["dataset"] |= {"name": "tiny", "source": "procedural", "resolution": 64}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], check=True)
    ran, target = Path("ran.txt"), Path("data/tiny/prepared")

    first = subprocess.Popen([*dvc, "repro", "--quiet"])
    wait_for(lambda: ran.exists() or first.poll() is not None)
    assert first.poll() is None
    first.kill()
    first.wait()
    Path("go").touch()
    wait_for(lambda: not Path(".scratch/locks/prepare.pid").exists())
    assert target.is_dir() and not Path("dvc.lock").exists()

    subprocess.run([*dvc, "repro", "--quiet"], check=True)
    assert ran.read_text().split() == ["ran"]
    assert (target / "inner" / "part-10").read_text() == "part-10"
    assert subprocess.run([*dvc, "status"], check=True, capture_output=True, text=True).stdout.startswith("Data and")
    for times in (2, 3):  # what is recorded is made again if a person asks for it
        subprocess.run([*dvc, "repro", "--quiet", "--force"], check=True)
        assert ran.read_text().split() == ["ran"] * times
