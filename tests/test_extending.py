"""docs/extending.md, followed literally in a copy of the project."""

from __future__ import annotations

import json
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
from threedgp.data.images import depth_from_bytes
from threedgp.data.shards import ShardFolder

IGNORED = shutil.ignore_patterns("__pycache__")


def page(root: Path) -> str:
    return (root / "docs" / "extending.md").read_text(encoding="utf-8")


def modules(root: Path) -> dict[str, str]:
    """The page's Python code, by the file that the first line of each block names."""
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", page(root), re.DOTALL))


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
    for file, code in modules(root).items():
        assert not (place / file).exists(), f"{file} is already taken"
        (place / file).write_text(code, encoding="utf-8")
    values = preset_values("smoke", root / "presets")
    for changes in re.findall(r"```yaml\n# params\.yaml\n(.*?)```", page(root), re.DOTALL):
        merge(values, yaml.safe_load(changes))
    (place / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    np.savez(place / "images.npz", images=images, labels=np.arange(24) % 2)
    return place


# Modules as `python -m` runs them, one after the other: PyTorch is imported once.
RUN = """
import runpy, shlex, sys

for command in sys.argv[1:]:
    sys.argv = shlex.split(command)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, command
"""


def run(project: Path, *commands: str) -> str:
    """Output of modules of the copied project, each with its arguments."""
    environment = {**os.environ, "PYTHONPATH": str(project)}
    result = subprocess.run(
        [sys.executable, "-c", RUN, *commands],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_page_holds_in_a_copy_of_the_project(project: Path) -> None:
    np.savez(project / "samples.npz", arr_0=np.load(project / "images.npz")["images"][:12])
    made = [f"stages.{name}" for name in ("download", "prepare", "features", "select", "depth")]
    score = "stages.evaluate --images samples.npz --out samples.json"
    assert "(npz, 16 px)" in run(project, "threedgp check", *made, score)

    data = project / "data" / "smoke"
    prepared = ShardFolder(data / "prepared")
    assert prepared.manifest.rows == 24 and prepared.meta["class_names"] == ["class 0", "class 1"]
    features = next(iter(ShardFolder(data / "features").iterate())).column("feature")
    assert len(features[0]) == 192
    depth = ShardFolder(data / "depth")
    first = depth_from_bytes(next(iter(depth.iterate())).column("depth")[0].as_py(), 16)
    assert depth.manifest.rows == 18, "three quarters of the images are selected"
    assert first[0].min() > 0.9 * 65535 and first[-1].max() < 0.1 * 65535
    numbers = json.loads((project / "samples.json").read_text())
    assert numbers["contrast"] == pytest.approx(1, abs=0.05), "samples are real images"
