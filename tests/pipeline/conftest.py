"""A copy of the pipeline in which every stage is a small script: real `dvc.yaml`, settings and DVC, no real work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.declaration import declarations
from threedgp.config import load_config

# Writes the declared outputs of the stage, as a function of its declared settings and inputs; says so in ran.txt.
SCRIPT = """
import hashlib, json, os
from pathlib import Path
import yaml

name, values = os.environ["DVC_STAGE"], yaml.safe_load(Path("params.yaml").read_text())
stage = json.loads(Path("declared.json").read_text())[name]

def setting(key):
    place = values
    for part in key.split("."):
        place = place[part]
    return place

def filled(path):
    return Path(path.replace("DATASET", values["dataset"]["name"]))

digest = hashlib.sha256(json.dumps([name, [setting(key) for key in stage["params"]]]).encode())
for dep in map(filled, stage["deps"]):
    for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        if file.is_file() and file.suffix != ".pyc":
            digest.update(file.read_bytes())
for out in map(filled, stage["outs"]):
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".json":
        out.write_text(json.dumps({"swd": int(digest.hexdigest()[:6], 16) / 2**24}))
    elif out.suffix:
        out.write_text(digest.hexdigest())
    else:
        out.mkdir()
        (out / "content").write_text(digest.hexdigest())
    if name == "train" and out.name == "training":
        curve = out / "plots" / "metrics" / "generator" / "loss.tsv"
        curve.parent.mkdir(parents=True)
        curve.write_text("step\\tloss\\n1\\t0.9\\n2\\t0.5\\n")
with open("ran.txt", "a") as log:
    print(name, file=log)
"""


@dataclass
class Imitation:
    """The imitated project, whose root is the working directory."""

    root: Path

    def dvc(self, *arguments: str) -> str:
        """Output of a DVC command that must succeed, run as from a fresh shell in which nothing is activated."""
        command = [sys.executable, "-m", "dvc", *arguments]
        result = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def repro(self) -> list[str]:
        """Names of the stages that `dvc repro` ran, in their order; stages taken from the run cache do not count."""
        log = self.root / "ran.txt"
        log.unlink(missing_ok=True)
        from dvc.cli import main  # in this process, for DVC takes a second to start

        assert main(["repro", "--quiet"]) == 0
        return log.read_text().split() if log.exists() else []

    def git(self, *arguments: str) -> str:
        """Output of a git command."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout

    def set(self, section: str, key: str, value: object) -> None:
        """Change one line of params.yaml, as a person would."""
        lines = (self.root / "params.yaml").read_text().splitlines(keepends=True)
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{section}:"))
        row = next(i for i in range(start, len(lines)) if lines[i].startswith(f"  {key}:"))
        lines[row] = f"  {key}: {value}\n"
        (self.root / "params.yaml").write_text("".join(lines))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The project after its first `dvc repro` and commit, in a folder with a space in its name."""
    place = tmp_path_factory.mktemp("pipeline") / "a project"
    place.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(root / name, place)
    for name in (".dvc/config", ".dvc/plots.html", ".dvc/.gitignore", "data/.gitignore"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, place / name)
    shutil.copytree(root / "presets", place / "presets")

    config = load_config(root / "params.yaml")
    data = f"data/{config.dataset.name}/"
    declared = {}
    for stage in declarations(config).values():
        for dep in stage.deps:
            file = place / dep if dep.suffix else place / dep / "module.py"
            if dep.parts[0] in ("threedgp", "stages"):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(SCRIPT if dep.parts[0] == "stages" else "# code\n")
        declared[stage.name] = {
            "params": stage.params,
            "deps": [str(dep).replace(data, "data/DATASET/") for dep in stage.deps],
            "outs": [str(out).replace(data, "data/DATASET/") for out in stage.outs],
        }
    (place / "stages" / "__init__.py").touch()  # a folder without it would come after the installed package
    (place / "declared.json").write_text(json.dumps(declared))
    # Where no environment is activated, the `python` of the stages is that of the project's .venv.
    (place / ".venv").symlink_to(sys.prefix)
    project = Imitation(place)
    project.git("init", "--quiet", "--initial-branch=main")
    (place / ".git" / "info" / "exclude").write_text("ran.txt\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        project.dvc("repro")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "first run")
    return place


@pytest.fixture
def imitation(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imitation:
    """A copy of the project for one test."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    place = shutil.copytree(template, tmp_path / "a project", symlinks=True)
    monkeypatch.chdir(place)
    return Imitation(place)
