"""The report holds everything that it should, asks the network for nothing, and is the same for the same sources."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from threedgp.errors import UserError
from threedgp.visual.facts import git_commit, run_facts
from threedgp.visual.grids import write_png
from threedgp.visual.published import IMAGENET_256
from threedgp.visual.report import Sources, build_report

CAMERA = dict.fromkeys(("emd", "emd_prior", "mean", "std", "prior_mean", "prior_std", "true_mean", "true_std"), 0.125)
METRICS = {
    "swd": 0.1234,
    "swd_untrained": 0.29,
    "swd_background": 0.18,
    "swd_other_half": 0.025,
    "nfs": 12.5,
    "nfs_untrained": 3.0,
    "fd_efficientnet_lite0": 321.0,
    "fd_efficientnet_lite0_untrained": 700.0,
    "fd_efficientnet_lite0_distilled": True,
    "camera_emd_yaw": 0.125,
    "samples": 2048,
    "kimg": 0.2,
}


class Page(HTMLParser):
    """Tags, what they refer to, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    for name in ("samples", "depth", "real", "views"):
        write_png(tmp_path / "renders" / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "renders" / "flight.mp4").write_bytes(b"film")
    (tmp_path / "renders" / "mesh-000.glb").write_bytes(b"mesh")
    for name in ("real", "model", "untrained"):
        write_png(tmp_path / "evaluation" / f"{name}.png", np.zeros((4, 32, 3), np.uint8))
    (tmp_path / "evaluation" / "machine.json").write_text('{"device": "CPU, 2 cores", "torch": "2.15.0"}')
    cameras = [f"{name}\t0.{i}\t1.{i}\t2{i}\t0.0{i}" for name in ("learned", "prior", "true") for i in range(1, 4)]
    (tmp_path / "evaluation" / "cameras.tsv").write_text(
        "\n".join(["set\tyaw\tpitch\tfov\tlook_at_radius", *cameras]) + "\n"
    )
    (tmp_path / "evaluation" / "camera_distances.json").write_text(json.dumps({"yaw": CAMERA, "fov": CAMERA}))
    (tmp_path / "training").mkdir()
    records = [{"kimg": k, "generator/loss": 1 / k, "images_per_second": 20.0} for k in (0.1, 0.2)]
    (tmp_path / "training" / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return Sources(
        title="A <small> run",
        facts={"Data set": "toy"},
        parameters={"train": {"kimg": 16, "batch_size": 8}, "dataset.name": "toy"},
        metrics=METRICS,
        evaluation=tmp_path / "evaluation",
        renders=tmp_path / "renders",
        training=tmp_path / "training",
        rejects={"prepare": Counter({"the file is cut short": 3}), "depth": Counter()},
    )


def test_refers_to_nothing_outside(sources):
    page = Page(build_report(sources))
    assert page.references
    for reference in page.references:
        assert reference.startswith(("data:", "#")), reference
    assert page.tags["script"] == 0
    assert page.tags["link"] == 1  # the empty icon, which browsers would ask for otherwise
    assert page.tags["img"] == 4 + 3
    assert page.tags["video"] == 1
    assert "@import" not in page.text
    assert "url(http" not in page.text


def test_shows_numbers_controls_and_words(sources):
    text = " ".join(Page(build_report(sources)).text.split())
    for word in (
        "A <small> run",
        "0.1234",
        "backgrounds without objects",
        "0.025",
        "so this is no FID",
        "Training distils features of the same network",
        "not comparable",
        "the file is cut short",
        "Stage depth left out none",
        "mesh-000.glb",
        "train.batch_size",
        "0.125 ± 0.125",
        *(row.model for row in IMAGENET_256),
    ):
        assert word in text, word


def test_same_sources_same_bytes(sources):
    assert build_report(sources) == build_report(sources)


def test_real_source_without_truth_and_film(sources):
    (sources.renders / "flight.mp4").unlink()
    (sources.evaluation / "camera_distances.json").unlink()
    metrics = {name: value for name, value in METRICS.items() if name not in ("camera_emd_yaw", "swd_background")}
    page = Page(build_report(Sources(**{**vars(sources), "metrics": metrics})))
    assert page.tags["video"] == 0
    assert "backgrounds" not in page.text.split("How far")[1].split("Sliced Wasserstein distance of pictures")[0]


def test_missing_file_is_named(sources):
    shutil.rmtree(sources.training)
    with pytest.raises(UserError, match=r"curves\.jsonl.*dvc repro"):
        build_report(sources)


def test_facts(sources, training_shards):
    training_shards.meta["source"] = "procedural"
    facts = run_facts(training_shards, training_shards, METRICS, sources.training, sources.evaluation, "abc123")
    assert facts["Data set"] == "tiny (procedural), 6 pictures of 16×16 pixels"
    assert facts["Training"] == "0.2 thousand images in 10 s, 20 images a second"
    assert facts["Evaluation"] == "2,048 generated pictures, on CPU, 2 cores, PyTorch 2.15.0"
    assert facts["Code"] == "commit abc123"


def test_no_commit_outside_of_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
