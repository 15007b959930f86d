"""`threedgp experiments` with the real DVC around imitated stages: queued, run, interrupted, collected."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.repo.experiments.queue.celery import LocalCeleryQueue
from typer.testing import CliRunner

from threedgp.commands.experiments import app
from threedgp.experiments.records import finished_experiments
from threedgp.runtime.errors import UserError


def experiments(*arguments: str) -> str:
    """Output of the command."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(*arguments: str) -> dict[str, dict[str, str]]:
    """The tables as CSV, by system."""
    lines = csv.reader(io.StringIO(experiments("table", *arguments, "--format", "csv")))
    found, header = {}, []
    for line in lines:
        if line[0] == "table":
            header = line
        else:
            found[line[1]] = dict(zip(header, line, strict=True))
    return found


def swd(project: Any, name: str) -> float:
    """The number of an experiment, as `dvc metrics diff` shows it."""
    return json.loads(project.dvc("metrics", "diff", "--json", "HEAD", name))["results/metrics.json"]["swd"]["new"]


def test_queued_once_run_and_collected(imitation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")  # DVC's worker is the command dvc
    params = imitation.root / "params.yaml"
    imitation.set("machine", "workers", 3)
    before = params.read_text()
    chosen = ("ideas", "--only", "full", "--seeds", "0,1")
    printed = experiments("queue", *chosen)
    assert printed.splitlines()[0] == "threedgp preset toy" and printed.count("dvc exp run --queue -n ideas-toy-") == 2
    assert experiments("queue", *chosen, "--queue", "--dry-run") == printed
    assert "ideas-toy" not in imitation.dvc("queue", "status"), "only printed"

    experiments("queue", *chosen[:3], "--queue")
    assert "1 of 2 experiments exist" in experiments("queue", *chosen, "--queue")
    assert imitation.dvc("queue", "status").count("Queued") == 2
    assert params.read_text() == before
    imitation.dvc("exp", "run", "--run-all")
    assert "2 of 2 experiments exist" in experiments("queue", *chosen)

    found = rows("ideas")
    values = [swd(imitation, f"ideas-toy-full-{seed}") for seed in (0, 1)]
    assert found["3DGP"]["swd"] == f"{statistics.mean(values):.4g} ± {statistics.stdev(values):.2g}"
    assert found["3DGP"]["seeds"] == "2"
    assert found["3DGP"]["commit"] == imitation.git("rev-parse", "HEAD")[:7]
    assert found["contracted space"]["swd"] == "not run"
    experiments("table", "ideas", "--report", "--out", "table.md", "--format", "markdown")
    assert found["3DGP"]["swd"] in Path("table.md").read_text()
    experiments("table", "ideas", "--save", "records.jsonl")
    monkeypatch.chdir(imitation.root.parent)  # there are no experiments here
    assert rows("ideas", "--records", f"{imitation.root}/records.jsonl") == found
    monkeypatch.chdir(imitation.root)
    (first, _) = json.loads(Path("results/table.json").read_text())
    assert first["datasets"] == ["toy 32"]


def test_run_here_goes_on_after_a_stop(imitation: Any) -> None:
    params, script = imitation.root / "params.yaml", imitation.root / "stages" / "train.py"
    before, works = params.read_text(), script.read_text()
    chosen = ("ideas", "--only", "no_depth,full", "-S", "train.kimg=5")
    # Stops the command, which passes it on to this script.
    script.write_text(f"import os, signal\nos.kill({os.getpid()}, signal.SIGTERM)\nsignal.pause()\n")
    with pytest.raises(UserError, match="'ideas-toy-full-0' was not finished; the same command continues"):
        experiments("run", *chosen)
    assert params.read_text() == before
    script.write_text(works)
    (imitation.root / "ran.txt").unlink(missing_ok=True)
    experiments("run", *chosen)
    assert (imitation.root / "ran.txt").read_text().split() == ["train", "evaluate"] * 2
    assert params.read_text() == before
    assert "2 of 2 experiments exist" in experiments("run", *chosen)
    assert rows("ideas")["no depth"]["swd"] == f"{swd(imitation, 'ideas-toy-no_depth-0'):.4g}"
    assert "kimg: 5 " in imitation.git("show", f"{finished_experiments()['ideas-toy-full-0'].revision}:params.yaml")
    assert imitation.repro() == [], "the results of the workspace's own settings come from the cache"


def test_what_a_killed_worker_was_running_is_queued_again(imitation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC calls it running for ever; here, what the queue says is made up."""
    tasks = [{"name": "ideas-toy-full-0", "status": "Running"}, {"name": "ideas-toy-no_depth-0", "status": "Failed"}]
    workers: dict[str, list[str]] = {"worker": ["task"]}
    monkeypatch.setattr(LocalCeleryQueue, "status", lambda self: tasks)
    monkeypatch.setattr(LocalCeleryQueue, "worker_status", lambda self: workers)
    chosen = ("queue", "ideas", "--only", "full,no_depth")
    assert "full-0" not in experiments(*chosen) and "no_depth-0" in experiments(*chosen)
    workers.clear()
    assert "full-0" in experiments(*chosen)


def test_an_experiment_that_lost_its_results_counts_as_not_run(imitation: Any) -> None:
    experiments("run", "ideas", "--only", "full")
    imitation.dvc("repro")
    imitation.dvc("gc", "--workspace", "--force")
    assert rows("ideas")["3DGP"]["swd"] == "not run"


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / ".dvc").mkdir()  # a copy of the project without its repository
    for arguments in (("table",), ("queue", "ideas")):
        with pytest.raises(UserError, match="not in a git repository"):
            experiments(*arguments)
    (tmp_path / ".dvc").rmdir()
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(UserError, match="not in a DVC project"):
        experiments("queue", "ideas")


def test_missing_settings(imitation: Any) -> None:
    for arguments in (("run", "ideas", "--only", "full"), ("queue", "ideas", "--only", "full", "--queue")):
        with pytest.raises(UserError, match=r"missing\.yaml: no such file"):
            experiments(*arguments, "--params", "missing.yaml")
