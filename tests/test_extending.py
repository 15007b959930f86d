"""docs/extending.md, followed literally in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from threedgp.commands.preset import preset_values
from threedgp.data.shards import ShardFolder

IGNORED = shutil.ignore_patterns("__pycache__")


def blocks(root: Path, language: str) -> dict[str, str]:
    """Code blocks of the page, by the file that their first line names; those of one file are joined."""
    text = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for file, code in re.findall(rf"```{language}\n# (\S+)\n(.*?)```", text, re.DOTALL):
        found[file] = found.get(file, "") + code
    return found


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            merge(values[key], value)
        else:
            assert key in values, key
            values[key] = value


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A copy of the project with the files and settings of the page, at the scale of preset `smoke`."""
    place = tmp_path_factory.mktemp("extended") / "project"
    for folder in ("threedgp", "stages"):
        shutil.copytree(root / folder, place / folder, ignore=IGNORED)
    shutil.copy(root / "dvc.yaml", place)
    for file, code in blocks(root, "python").items():
        assert not (place / file).exists(), f"{file} is already taken"
        (place / file).write_text(code, encoding="utf-8")
    values = preset_values("smoke", root / "presets")
    merge(values, {"model": {"depth": False}, "depth": {"estimator": "none"}})
    for changes in blocks(root, "yaml").values():
        merge(values, yaml.safe_load(changes))
    (place / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    np.savez(place / "images.npz", images=images, labels=np.arange(24) % 2)
    return place


def run(project: Path, module: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_page_holds_in_a_copy_of_the_project(project: Path) -> None:
    assert "(npz, 16 px)" in run(project, "threedgp", "check")
    data = project / "data" / "smoke"

    run(project, "stages.download")
    run(project, "stages.prepare")
    prepared = ShardFolder(data / "prepared")
    assert prepared.manifest.rows == 24 and prepared.meta["class_names"] == ["class 0", "class 1"]
