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


def run(project: Path, module: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_page_holds_in_a_copy_of_the_project(project: Path) -> None:
    assert "(npz, 16 px)" in run(project, "threedgp", "check")
    data = project / "data" / "smoke"

    run(project, "stages.download")
    run(project, "stages.prepare")
    prepared = ShardFolder(data / "prepared")
    assert prepared.manifest.rows == 24 and prepared.meta["class_names"] == ["class 0", "class 1"]

    run(project, "stages.features")
    features = next(iter(ShardFolder(data / "features").iterate())).column("feature")
    assert len(features[0]) == 192
    run(project, "stages.select")
    run(project, "stages.depth")
    depth = ShardFolder(data / "depth")
    first = depth_from_bytes(next(iter(depth.iterate())).column("depth")[0].as_py(), 16)
    assert depth.manifest.rows == 18, "three quarters of the images are selected"
    assert first[0].min() > 0.9 * 65535 and first[-1].max() < 0.1 * 65535

    np.savez(project / "samples.npz", arr_0=np.load(project / "images.npz")["images"][:12])
    run(project, "stages.evaluate", "--images", "samples.npz", "--out", "samples.json")
    numbers = json.loads((project / "samples.json").read_text())
    assert numbers["contrast"] == pytest.approx(1, abs=0.05), "samples are real images"
