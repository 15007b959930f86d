"""Stages `render` and `report` as commands: the page shows what the stages before left, and user text stays text."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
from pathlib import Path

import pytest

import stages.depth
import stages.download
import stages.embed
import stages.evaluate
import stages.features
import stages.prepare
import stages.render
import stages.report
import stages.select
import stages.shards
from threedgp.models.saving import write_model

TITLE = "A run of <b>ours</b> & theirs"
SETTINGS = f"""
dataset: {{name: tiny, source: procedural, resolution: 16}}
model: {{discriminator: {{patch_resolution: 8}}}}
download: {{count: 24, resolution: 32, seed: 1}}
features: {{network: efficientnet_lite0, input_size: 32}}
depth: {{estimator: simulated}}
embed: {{network: none}}
train: {{distillation: {{loss: none}}}}
evaluate: {{metrics: [swd, nfs, cameras], samples: 10, real_samples: 10, nfs_samples: 2, controls: true}}
render:
  {{grid: [2, 2], views: 2, flights: 1, flight_frames: 2, interpolation: 0, meshes: 1, mesh_resolution: 12, seed: 3}}
report: {{title: "{TITLE}"}}
machine: {{device: cpu, processes: 1}}
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, root: Path, tiny_generator) -> Path:
    """A project in which all stages but training ran."""
    place = tmp_path_factory.mktemp("shown")
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    (place / "params.yaml").write_text(SETTINGS)
    before = stages.download, stages.prepare, stages.features, stages.select, stages.depth, stages.embed, stages.shards
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for stage in before:
            stage.main(Path("params.yaml"))
        about = dict(resolution=16, class_names=["a", "b"], seed=1, kimg=2.0, dataset="tiny")
        write_model(Path("results/model"), tiny_generator, **about)
        Path("results/training").mkdir()
        Path("results/training/health.json").write_text("[]")
        Path("results/training/machine.json").write_text('{"device": "CPU", "torch": "2.15"}')
        Path("results/training/curves.jsonl").write_text('{"kimg": 4.0, "images_per_second": 80.0, "gpus": 0}\n')
        for stage in (stages.evaluate, stages.render, stages.report):
            stage.main(Path("params.yaml"))
    return place


def test_renders(shown: Path) -> None:
    names = {file.name for file in (shown / "results" / "renders").iterdir()}
    assert names >= {
        "samples.png",
        "classes.png",
        "depth.png",
        "normals.png",
        "views.png",
        "real.png",
        "flight.mp4",
        "mesh-000.glb",
    }
    assert "interpolation.mp4" not in names
    assert not list((shown / ".scratch" / "render").iterdir())


def test_the_page_shows_all_numbers_and_settings(shown: Path) -> None:
    page = (shown / "results" / "report.html").read_text(encoding="utf-8")
    cells = [html.unescape(cell) for cell in re.findall(r"<td><code>([^<]*)</code></td>", page)]
    assert {"render.seed", "evaluate.metrics", "dataset.name"} <= set(cells)
    assert cells[cells.index("render.seed") + 1] == "3"
    head, details = (
        json.loads((shown / "results" / name).read_text()) for name in ("metrics.json", "evaluation/details.json")
    )
    rows = dict(re.findall(r"<tr><td><code>([^<]*)</code></td><td>([^<]*)</td></tr>", page))
    assert "swd" in head and "swd_untrained" in details
    assert {name: rows[name] for name in head | details} == {name: str(x) for name, x in (head | details).items()}
    assert f"<h1>{html.escape(TITLE)}</h1>" in page and "<b>" not in page
    assert "4 thousand images in 50 s on CPU, 80 images per second; the model is the best one, after 2 thousand" in page
    assert not re.findall(r"(?:src|href|action|poster|srcset)=[\"'](?!data:|#)", page)
    weights = hashlib.sha256((shown / "results" / "model" / "model.safetensors").read_bytes()).hexdigest()
    assert f"SHA-256 {weights}" in page and "seed 0</dd>" in page and re.search(r"<dd>20\d\d-\d\d-\d\d</dd>", page)
    assert not re.findall(r"url\((?!#)", page) and "@import" not in page


def test_a_missing_result_is_one_sentence(
    shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = shutil.copytree(shown, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(place)
    before = Path("results/report.html").read_bytes()
    Path("results/renders/samples.png").unlink()
    with pytest.raises(SystemExit) as left:
        stages.report.main(Path("params.yaml"))
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: results/renders/samples.png: missing")
    assert Path("results/report.html").read_bytes() == before
    shutil.rmtree("results/model")
    with pytest.raises(SystemExit) as left:
        stages.render.main(Path("params.yaml"))
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: results/model") and error.count("\n") == 1
