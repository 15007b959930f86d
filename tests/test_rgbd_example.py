"""The images with depth of preset `rgbd_example`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_real_presets import SMALLER, merge, project

from threedgp.commands.check import check
from threedgp.commands.preset import preset_values, write_values
from threedgp.config import parse_config
from threedgp.data.shards import read_manifest
from threedgp.data.source import download_source, open_source
from threedgp.data.world.rendering import render_picture
from threedgp.data.world.scenes import draw_scene


def test_preset_is_valid_in_any_clone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    params.write_bytes((root / "params.yaml").read_bytes())
    write_values(preset_values("rgbd_example", root / "presets"), params)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(root / "docs")
    check(params)


def test_depth_is_that_of_the_world(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled from the nearest to the farthest point; colors are as JPEG keeps them."""
    monkeypatch.chdir(root)
    config = parse_config(preset_values("rgbd_example", root / "presets"))
    download_source(config, tmp_path / "raw")
    source = open_source(config.dataset, tmp_path / "raw")
    pictures = list(source.read(source.entries()))
    assert len(pictures) == 8 and source.class_names == ["all"]
    for number, picture in enumerate(pictures):
        rendering = render_picture(draw_scene(0, number), len(picture.rgb))
        near, far = rendering.depth.min(), rendering.depth.max()
        np.testing.assert_allclose(picture.depth, (rendering.depth - near) / (far - near), atol=1e-4)
        assert np.abs(picture.rgb.astype(int) - rendering.rgb).mean() < 8
    total = sum(file.stat().st_size for file in (root / "docs/rgbd_example").iterdir())
    assert total < 200_000


@pytest.mark.slow
def test_whole_pipeline(root: Path, tmp_path: Path) -> None:
    """With tiny networks; eight images are the fewest that every stage takes."""
    place = project(tmp_path, root)
    (place / "docs").symlink_to(root / "docs")
    values = preset_values("rgbd_example", root / "presets")
    for changes in (SMALLER, {"train": {"metric_kimg": 0.032}}):
        merge(values, changes)
    (place / "params.yaml").write_text(yaml.safe_dump(values))
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=place, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert json.loads((place / "results/metrics.json").read_text())["swd"] > 0
    assert read_manifest(place / "data/rgbd_example/shards").rows == 8
