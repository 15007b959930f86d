"""Results of another revision are read from DVC's cache, with the real DVC."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from threedgp.config import parse_config
from threedgp.runtime.errors import UserError
from threedgp.visual.other_runs import is_other_seed, read_run

DATASET = {"dataset": {"name": "a", "source": "folder"}}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose commit `first` has results, which are in DVC's cache and nowhere else."""
    monkeypatch.chdir(tmp_path)
    files = {
        "metrics.json": json.dumps({"swd": 0.25}),
        "training/curves.jsonl": '{"kimg": 1.0, "generator/loss": 2.0}\n',
        "renders/samples.png": "a picture",
    }
    for name, content in files.items():
        file = tmp_path / "results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "params.yaml").write_text("dataset: {name: a, source: folder}\ntrain: {kimg: 3, seed: 7}\n")
    dvc = [sys.executable, "-m", "dvc"]
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["git", "init", "--quiet"],
        [*dvc, "init", "--quiet"],
        [*dvc, "add", "--quiet", "results"],
        ["git", "add", "--all"],
        ["git", *identity, "commit", "--quiet", "-m", "first"],
        ["git", "tag", "first"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    shutil.rmtree("results")
    return tmp_path


def test_results_of_a_revision(repository: Path) -> None:
    run = read_run("first")
    assert run.metrics == {"swd": 0.25} and run.samples == b"a picture"
    assert run.records == [{"kimg": 1.0, "generator/loss": 2.0}]
    assert (run.parameters["train"]["seed"], run.parameters["train"]["batch_size"]) == (7, 64)


def test_a_revision_that_cannot_be_read_is_one_sentence(repository: Path) -> None:
    with pytest.raises(UserError, match=r"^report.compare: cannot read the results of revision 'second' \("):
        read_run("second")
    shutil.rmtree(repository / ".dvc" / "cache")
    with pytest.raises(UserError, match=r"^report.compare: cannot read the results of revision 'first' \("):
        read_run("first")


def test_other_seeds() -> None:
    def settings(**train: int) -> dict:
        return parse_config(DATASET | {"train": train}).model_dump(mode="json")

    assert is_other_seed(settings(seed=1), settings(seed=2))
    assert is_other_seed(settings(seed=1), settings(seed=2) | {"report": {"title": "x"}, "machine": {"workers": 9}})
    assert not is_other_seed(settings(seed=1), settings(seed=2, kimg=3))
    assert not is_other_seed(settings(seed=1), settings(seed=1))


def test_one_revision_stands_without_brackets() -> None:
    assert parse_config(DATASET | {"report": {"compare": "main"}}).report.compare == ("main",)
    assert parse_config(DATASET | {"report": {"compare": ["a", "b"]}}).report.compare == ("a", "b")
    assert parse_config(DATASET | {"report": {}}).report.compare == ()
    with pytest.raises(UserError, match=r"report\.compare"):
        parse_config(DATASET | {"report": {"compare": 3}})
