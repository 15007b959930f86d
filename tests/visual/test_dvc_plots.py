"""`dvc plots` and `dvc exp show` with the real DVC, over files that the real code of the stages wrote."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from threedgp.config import RenderConfig
from threedgp.evaluation.measuring import Row, load_metrics, split
from threedgp.runtime.atomic import write_json
from threedgp.training.loggers import dvclive
from threedgp.training.logging import CameraHistograms
from threedgp.visual.gallery import draw_gallery

RENDER = RenderConfig(grid=(1, 2), views=2, flights=0, interpolation=0, meshes=0)
FACTS = {"samples": 50000, "kimg": 1.0, "gpu_days": 28.0, "images_per_second": 20.0}
NUMBERS = {"swd": 0.1, "nfs": 12.5, "frechet": 19.7, "inception_score": 124.8}
"""The first value of each metric."""
OTHER_CURVES = dict.fromkeys(
    ("distance/fd_net_64", "distance/swd", "discriminator/loss", "generator/gradient_norm",
     "discriminator/gradient_norm", "images_per_second", "memory_gb"),
    2.0,
)  # fmt: skip


@pytest.fixture
def project(tmp_path, root, tiny_generator, training_shards) -> Path:
    """A repository with our plots, metrics and settings, and results; no stages, so that nothing has to run."""
    place = tmp_path / "project"
    declared = yaml.safe_load((root / "dvc.yaml").read_text())
    metrics = [file for stage in declared["stages"].values() for file in stage.get("metrics", [])]
    place.mkdir()
    (place / "dvc.yaml").write_text(
        yaml.safe_dump({"plots": declared["plots"], "metrics": metrics, "params": ["params.yaml"]})
    )
    (place / "params.yaml").write_text((root / "params.yaml").read_text())
    draw_gallery(tiny_generator, 16, training_shards, RENDER, place / "results" / "renders")
    camera = tiny_generator.camera_config
    histograms = CameraHistograms(camera, torch.device("cpu"))
    with dvclive(place / "results" / "training", camera) as log:
        for kimg in (0.5, 1.0):
            histograms.add(torch.rand(64, 8))
            log({"kimg": kimg, "generator/loss": 1 / kimg, **OTHER_CURVES}, histograms.end_line())
    values = {name: metric.values[0] for name, metric in load_metrics(NUMBERS).items()}
    rows = [
        Row(value, value.name("inception", "main"), "inception", {"model": NUMBERS[name], "untrained": 1.0})
        for name, value in values.items()
    ]
    head, _ = split(rows, FACTS)
    write_json(place / metrics[0], head)
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    for name in ("config", "plots.html"):
        shutil.copy(root / ".dvc" / name, place / ".dvc")
    return place


def dvc(project: Path, *arguments: str) -> str:
    """Output of a command that must succeed and have nothing to complain about."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    return done.stdout


def test_plots_show_curves_cameras_and_images(project):
    found = json.loads(dvc(project, "plots", "show", "--json"))
    assert not found.get("errors")
    kinds = {name: plots[0]["type"] for name, plots in found["data"].items()}
    curves = (
        "Fréchet distance on efficientnet_lite0 features, 512 images",
        "Sliced Wasserstein distance of images",
        "Losses of generator and discriminator",
        "Norms of the gradients of generator and discriminator",
        "Training speed",
        "Peak memory",
        "Learned yaw at the end",
        "Learned pitch at the end",
        "Learned field of view at the end",
    )
    images = [
        f"results/renders/{name}.png" for name in ("samples", "classes", "depth", "normals", "views", "truncation")
    ]
    assert kinds == dict.fromkeys(curves, "vega") | dict.fromkeys(images, "image")
    (losses,) = found["data"]["Losses of generator and discriminator"]
    points = [
        (float(point["step"]), float(point["loss"]))
        for point in losses["content"]["data"]["values"]
        if point["filename"] == "generator/loss.tsv"
    ]
    assert points == [(0.5, 2.0), (1.0, 1.0)]
    page = Path(dvc(project, "plots", "show").strip().removeprefix("file://")).read_text(encoding="utf-8")
    shown = re.findall(r'"title": {"text": "(.*?)"', page)
    assert [json.loads(f'"{title}"') for title in shown] == list(curves), "quality first, in words"
    assert "<script src" not in page and "cdn" not in page


def test_exp_show_has_the_first_columns_first_and_a_short_table(project, root):
    subprocess.run(["git", "add", "--all", "--force"], cwd=project, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "commit", "--quiet", "-m", "results"], cwd=project, check=True)
    header, *rows = csv.reader(dvc(project, "exp", "show", "--csv").splitlines())
    metrics = header[header.index("parent") + 1 : header.index("dataset.name")]
    assert metrics[:6] == ["kimg", "fid", "inception_score", "nfs", "images_per_second", "gpu_days"]
    assert "swd_untrained" not in metrics, "controls are in results/evaluation/details.json"
    assert (
        rows[0][header.index("dataset.name")] == yaml.safe_load((root / "params.yaml").read_text())["dataset"]["name"]
    )

    documented = re.search(r"dvc exp show --drop '(.+?)' --keep '(.+?)'", (root / "docs" / "seeing.md").read_text())
    short = dvc(project, "exp", "show", "--csv", "--drop", documented[1], "--keep", documented[2]).splitlines()[0]
    wanted = ["Experiment", "kimg", "fid", "inception_score", "nfs", "images_per_second", "gpu_days", "dataset.name"]
    assert short.split(",") == wanted
