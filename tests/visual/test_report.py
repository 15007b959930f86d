"""The report holds everything that it should, asks the network for nothing, and is the same for the same sources."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from threedgp.evaluation.exhibits import write_table
from threedgp.experiments.definitions import load_set
from threedgp.experiments.tables import Rendered
from threedgp.runtime.commit import git_commit
from threedgp.runtime.errors import UserError
from threedgp.visual.grids import write_png
from threedgp.visual.other_runs import OtherRun
from threedgp.visual.report import Sources, build_report, run_facts

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


COMPARISONS = [
    {
        "metric": "fd_efficientnet_lite0",
        "title": "Fréchet distance on efficientnet_lite0 features",
        "description": "Distance between features, so this is no fid.",
        "better": "lower",
        "unit": "",
        "values": {"model": 321.0, "untrained": 700.0},
    },
    {
        "metric": "swd",
        "title": "Sliced Wasserstein distance of images",
        "description": "Compares texture.",
        "better": "lower",
        "unit": "levels",
        "values": {"model": 0.1234, "untrained": 0.29, "other_half": 0.025, "background": 0.18, "a_new_set": 0.5},
    },
]
IMAGENET = {"source": "imagenet", "resolution": 256}
CLASSES = [["class", "images", "recall", "diversity"], ["<cone>", 9, "0.125", "0.75"]]


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
    for name in ("normals", "truncation"):
        write_png(tmp_path / "renders" / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "renders" / "interpolation.mp4").write_bytes(b"film")
    for name in ("neighbors", "atypical"):
        write_png(tmp_path / "evaluation" / f"{name}.png", np.zeros((4, 8, 3), np.uint8))
    write_table(tmp_path / "evaluation" / "classes.tsv", CLASSES)
    (tmp_path / "evaluation" / "comparisons.json").write_text(json.dumps(COMPARISONS))
    for name in ("real", "model", "untrained"):
        write_png(tmp_path / "evaluation" / f"{name}.png", np.zeros((4, 32, 3), np.uint8))
    (tmp_path / "evaluation" / "machine.json").write_text('{"device": "CPU, 2 cores", "torch": "2.15.0"}')
    cameras = [f"{name}\t0.{i}\t1.{i}\t2{i}\t0.0{i}" for name in ("learned", "prior", "true") for i in range(1, 4)]
    (tmp_path / "evaluation" / "cameras.tsv").write_text(
        "\n".join(["set\tyaw\tpitch\tfov\tlook_at_radius", *cameras]) + "\n"
    )
    (tmp_path / "evaluation" / "camera_distances.json").write_text(json.dumps({"yaw": CAMERA, "fov": CAMERA}))
    for kimg in range(1, 21):
        write_png(tmp_path / "training" / "pictures" / f"kimg-{kimg:09.3f}.png", np.zeros((4, 4, 3), np.uint8))
    histograms = {"kimg": np.array([0.1, 0.2]), "yaw": np.ones((2, 4), int), "yaw_edges": np.linspace(-1, 1, 5)}
    fixed = {"fov": np.ones((2, 4), int), "fov_edges": np.full(5, 20.0)}
    np.savez(tmp_path / "training" / "camera_histograms.npz", **histograms, **fixed)
    records = [{"kimg": k, "generator/loss": 1 / k, "images_per_second": 20.0} for k in (0.1, 0.2)]
    (tmp_path / "training" / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    finding = {"since_kimg": 0.1, "text": "the learned fov does not vary"}
    (tmp_path / "training" / "health.json").write_text(json.dumps([finding]))
    (tmp_path / "training" / "machine.json").write_text('{"device": "an accelerator", "torch": "2.15.0"}')
    return Sources(
        title="A <small> run",
        facts={"Data set": "toy"},
        parameters={"train": {"kimg": 16, "batch_size": 8}, "dataset": IMAGENET},
        metrics=METRICS,
        evaluation=tmp_path / "evaluation",
        renders=tmp_path / "renders",
        training=tmp_path / "training",
        rejects={"prepare": Counter({"the file is cut short": 3}), "depth": Counter()},
    )


def test_problems_of_the_run_are_told(sources):
    assert "<strong>Since 0.1 thousand images:</strong> the learned fov does not vary." in build_report(sources)
    (sources.training / "health.json").write_text("[]")
    assert "The curves show none of the known problems at their end." in build_report(sources)


def test_refers_to_nothing_outside(sources):
    page = Page(build_report(sources))
    assert page.references
    for reference in page.references:
        assert reference.startswith(("data:", "#")), reference
    assert page.tags["script"] == 1
    assert page.tags["link"] == 1  # the empty icon, which browsers would ask for otherwise
    assert page.tags["img"] == 4 + 2 + 3 + 2 + 6  # renders, strips, failure cases, stages of training
    assert page.tags["video"] == 2
    assert "@import" not in page.text
    assert "url(http" not in page.text


def test_shows_numbers_controls_and_words(sources):
    text = " ".join(Page(build_report(sources)).text.split())
    for word in (
        "A <small> run",
        "0.1234",
        "backgrounds without objects",
        "0.025",
        "so this is no fid",
        "a_new_set",
        "lower is better; levels",
        "comparable with these only if",
        "the file is cut short",
        "Stage depth left out none",
        "mesh-000.glb",
        "<cone>",
        "yaw",
        "1 thousand images",
        "20 thousand images",
        "train.batch_size",
        "0.125 ± 0.125",
        *(row.system for row in load_set("paper").tables[0].rows if row.published),
    ):
        assert word in text, word


def test_same_sources_same_bytes(sources):
    assert build_report(sources) == build_report(sources)


def test_real_source_without_truth_and_film(sources):
    for file in ("flight.mp4", "interpolation.mp4", "normals.png", "truncation.png"):
        (sources.renders / file).unlink()
    for file in ("camera_distances.json", "classes.tsv", "neighbors.png", "atypical.png"):
        (sources.evaluation / file).unlink()
    (sources.training / "camera_histograms.npz").unlink()
    shutil.rmtree(sources.training / "pictures")
    page = Page(build_report(sources))
    assert page.tags["video"] == 0


def test_fixed_cameras_are_not_called_learned(sources):
    said = "learns the distribution of cameras"
    assert said in build_report(sources)
    (sources.training / "camera_histograms.npz").unlink()
    assert said not in build_report(sources)


def test_missing_file_is_named(sources):
    shutil.rmtree(sources.training)
    with pytest.raises(UserError, match=r"curves\.jsonl.*dvc repro"):
        build_report(sources)


def facts_of(shards, metrics, sources, commit) -> dict[str, str]:
    about = dict(seed=7, model="0123", date="2026-01-02", commit=commit)
    return run_facts(shards, shards, metrics, sources.training, sources.evaluation, **about)


def test_facts(sources, training_shards):
    training_shards.meta["source"] = "procedural"
    facts = facts_of(training_shards, METRICS, sources, commit="abc123")
    assert facts["Data set"] == "tiny (procedural), 6 images of 16×16 pixels"
    assert facts["Training"] == "0.2 thousand images in 10 s on an accelerator, 20 images per second; seed 7"
    assert facts["Evaluation"] == "2,048 generated images, on CPU, 2 cores, PyTorch 2.15.0"
    assert facts["Code"] == "commit abc123"
    assert (facts["Model"], facts["Date"]) == ("SHA-256 0123", "2026-01-02")


def test_facts_of_a_run_whose_best_model_came_before_its_end(sources, training_shards):
    training_shards.meta["source"] = "procedural"
    metrics = METRICS | {"kimg": 0.1, "gpu_days": 12.34}
    facts = facts_of(training_shards, metrics, sources, commit=None)
    assert "12.3 GPU days" in facts["Training"] and "the best one, after 0.1 thousand" in facts["Training"]
    assert facts["Code"] == "not in a repository"


def test_names_of_classes_that_hold_ends_of_lines(sources):
    names = ["a\u2028b", "c\x85d", "e\x0bf", "g\nh", 'i"j', "k\tl"]
    write_table(sources.evaluation / "classes.tsv", [CLASSES[0], *([name, 9, 0.5, 0.1] for name in names)])
    page = Page(build_report(sources))
    for name in names:
        assert name in page.text


def test_text_of_users_stays_text(sources):
    """Wherever it comes from: nothing of it becomes a tag."""
    evil = "</code><script>alert(1)</script><img src=https://outside.example/x.png>"
    usual = Page(build_report(sources)).tags
    write_table(sources.evaluation / "classes.tsv", [CLASSES[0], [evil, 9, 0.5, 0.5]])
    charts = [COMPARISONS[0] | {key: evil for key in ("metric", "title", "description", "better", "unit")}]
    (sources.evaluation / "comparisons.json").write_text(json.dumps(charts))
    page = Page(
        build_report(
            replace(
                sources,
                title=evil,
                facts={evil: evil},
                parameters={evil: {"key": evil}},
                metrics=METRICS | {evil: evil},
                rejects={"prepare": Counter({evil: 3})},
            )
        )
    )
    assert page.tags["script"] == usual["script"] == 1 and page.tags["img"] == usual["img"]
    assert page.text.count(evil) >= 8
    assert all(reference.startswith(("data:", "#")) for reference in page.references)


def test_tables_hold_their_numbers(sources):
    rejects = {"prepare": Counter({"cut short": 31, "too small": 7}), "depth": Counter()}
    page = build_report(replace(sources, rejects=rejects))
    cells = re.findall(r"<td>(?:<code>)?([^<]*)(?:</code>)?</td>", page)
    for row in (
        ("cut short", "31"),
        ("too small", "7"),
        ("train.kimg", "16"),
        ("dataset.source", "&#34;imagenet&#34;"),
    ):
        place = cells.index(row[0])
        assert tuple(cells[place : place + 2]) == row
    assert cells[cells.index("swd_background") + 1] == "0.18"
    histograms = page.split("<h2>Cameras</h2>")[1].split("<h2>Training</h2>")[0]
    found = re.findall(
        r">(radians|degrees|scene units)</text>.*?>(yaw|pitch|field of view|look-at radius)</text>", histograms, re.S
    )
    assert dict((name, unit) for unit, name in found) == {
        "yaw": "radians",
        "pitch": "radians",
        "field of view": "degrees",
        "look-at radius": "scene units",
    }


def test_no_commit_outside_of_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None


def test_numbers_of_this_run_stand_below_the_published_ones(sources):
    metrics = {"fid": 19.71, "inception_score": 124.75, "samples": 50000, "kimg": 1}
    text = " ".join(Page(build_report(replace(sources, metrics=metrics))).text.split())
    assert "A <small> run 19.71 124.8" in text
    assert "not measured" not in text
    assert "not measured" in Page(build_report(sources)).text


@pytest.mark.parametrize(
    ("dataset", "shown"),
    [
        (IMAGENET, "StyleGAN-XL"),
        (IMAGENET | {"resolution": 128}, None),
        ({"source": "procedural", "resolution": 256}, None),
        ({"source": "sdip", "subset": "dogs", "resolution": 256}, "8.13"),
        ({"source": "sdip", "subset": "elephants", "resolution": 256}, None),
    ],
)
def test_published_results_of_the_same_data_set_only(sources, dataset, shown):
    page = build_report(replace(sources, parameters={"train": {}, "dataset": dataset}))
    assert ('id="published"' in page) == (shown is not None) and (shown or "") in page
    assert ("StyleGAN-XL" in page) == (shown == "StyleGAN-XL")


def test_tables_of_all_experiments(sources):
    assert 'id="experiments"' not in build_report(sources)
    evil = "<script>alert(1)</script>"
    table = Rendered("Depth <adaptor>", "", ("toy 32",), ("system", "swd"), (("off", "0.1 ± 0.02"), (evil, "not run")))
    usual, page = (Page(build_report(replace(sources, tables=tables))) for tables in ([], [table]))
    assert page.tags["script"] == usual.tags["script"]
    for word in ("Depth <adaptor>", "0.1 ± 0.02", "not run", evil):
        assert word in page.text


def test_verdicts_of_the_headline(sources):
    worse = COMPARISONS[1] | {"metric": "recall_net", "title": "Recall", "better": "higher"}
    equal = COMPARISONS[1] | {"metric": "class_diversity", "values": {"model": 0.5, "untrained": 0.5, "real": 0.4}}
    (sources.evaluation / "comparisons.json").write_text(json.dumps([*COMPARISONS, worse, equal]))
    box = " ".join(Page(build_report(sources).split("<header>")[1].split("</header>")[0]).text.split())
    assert "321 better than untrained lower is better; the same model untrained 700" in box
    assert "Recall 0.1234 worse than untrained, backgrounds" in box
    assert "0.5 no better than untrained" in box
    assert "a_new_set 0.5" in box, "a control that the page does not know has no verdict but is shown"


def test_no_bold_number_that_is_worse_than_its_control(sources):
    rows = {"yaw": CAMERA | {"emd": 0.2}, "pitch": CAMERA | {"emd": 0.1}, "fov": CAMERA}
    (sources.evaluation / "camera_distances.json").write_text(json.dumps(rows))
    words = re.findall(r'data-name="learned to true" class="(\w+)">([\d.]+)', build_report(sources))
    assert words == [("worse", "0.2"), ("better", "0.1"), ("worse", "0.125")]


def test_what_does_not_change_has_no_chart(sources):
    records = [{"kimg": k, "generator/loss": k, "gpus": 0, "rollbacks": 0, "images_per_second": 9.5} for k in (1, 2)]
    (sources.training / "curves.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = build_report(sources)
    assert "GPUs 0, Rollbacks 0, Training speed 9.5 images per second." in " ".join(Page(page).text.split())
    assert ">Generator loss</text>" in page and ">GPUs</text>" not in page and ">Training speed</text>" not in page


def test_runs_of_other_settings_and_of_other_seeds(sources):
    records = [{"kimg": k, "generator/loss": 2.0, "images_per_second": 20.0} for k in (0.1, 0.2)]
    metrics = {"swd": 0.2, "fd_efficientnet_lite0": 300.0}
    png = (sources.renders / "samples.png").read_bytes()
    seed = OtherRun(sources.parameters | {"train": {"kimg": 16, "batch_size": 8, "seed": 5}}, metrics, records, png)
    changed = OtherRun(sources.parameters | {"train": {"kimg": 99, "batch_size": 8}}, metrics, records, png)
    page = build_report(replace(sources, others={"again": seed, "<longer>": changed}))
    text = " ".join(Page(page).text.split())
    assert "0.1234 to 0.2 over 2 seeds" in text and "300 to 321 over 2 seeds" in text
    assert "those of other seeds: again." in text and ">2 seeds</text>" in page
    others = Page(page.split('id="others"')[1].split("</section>")[0])
    words = " ".join(others.text.split())
    assert "Fréchet distance on efficientnet_lite0 features321 300" in words
    assert "Settings that differ: train.kimg 99 there, 16 here." in words
    assert "again" not in words and others.tags["img"] == 2
    assert re.findall(r'class="(better|worse)">([\d.]+)', page.split('id="others"')[1]) == [
        ("worse", "321"),
        ("better", "0.1234"),
    ]
    assert page.count(">&lt;longer&gt;</text>") >= 1, "curves of both runs"


def test_how_to_reproduce(sources):
    page = build_report(replace(sources, commit="0123456789ab, with changes"))
    assert "<pre>git checkout 0123456789ab\ndvc repro</pre>" in page and "in no commit" in page
    assert "<pre>dvc repro</pre>" in build_report(sources)
    (link,) = re.findall(r'href="data:text/yaml;base64,([^"]+)" download="params.yaml"', page)
    assert yaml.safe_load(base64.b64decode(link)) == sources.parameters
    assert "@inproceedings{skorokhodov2023threedgp," in page


def test_a_mesh_that_is_large_stays_beside_the_page(sources, monkeypatch):
    assert any(link.startswith("data:model/gltf-binary") for link in Page(build_report(sources)).references)
    monkeypatch.setattr("threedgp.visual.report.MAX_MESH_BYTES", 3)
    page = Page(build_report(sources))
    assert not any("gltf" in link for link in page.references) and "mesh-000.glb" in page.text


def test_changed_code_is_told(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train.py").write_text("a")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "dvc.lock").write_text("every run writes this")
    commit = git_commit()
    assert len(commit) == 12
    (tmp_path / "stages" / "train.py").write_text("b")
    assert git_commit() == f"{commit}, with changes"
