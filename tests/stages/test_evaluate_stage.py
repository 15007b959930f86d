"""Stage `evaluate` as a command: killed, stopped or distributed, it gives the same numbers; samples of other systems
are scored beside it; invalid input gives one-line errors."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import stages.download
import stages.evaluate
import stages.features
import stages.prepare
import stages.select
from threedgp.data.images import decode_images
from threedgp.data.shards import ShardFolder
from threedgp.models.initialization import initial_generator
from threedgp.models.saving import write_model

COMMAND = [sys.executable, "-m", "stages.evaluate"]
SETTINGS = """
dataset: {name: tiny, source: procedural, resolution: 16}
model: {discriminator: {patch_resolution: 8}}
download: {count: 48, resolution: 32, seed: 1}
prepare: {shard_rows: 12}
features: {network: efficientnet_lite0, input_size: 32}
select: {keep_fraction: 0.75}
depth: {estimator: simulated}
embed: {network: efficientnet_lite0}
evaluate:
  metrics: [frechet, precision_recall, class_diversity, neighbors, swd, nfs, cameras, views,
    depth_swd, normal_swd, shape_matching, depth_consistency]
  neighbor_network: features
  samples: 300
  real_samples: 24
  nfs_samples: 4
machine: {device: cpu, processes: 1}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path, tiny_generator) -> Path:
    """A project in which the evaluation ran undisturbed."""
    place = tmp_path_factory.mktemp("evaluate") / "a project"
    place.mkdir()
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    (place / "params.yaml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for stage in (stages.download, stages.prepare, stages.features, stages.select):
            stage.main(Path("params.yaml"))
        model = Path("results/model")
        write_model(model, tiny_generator, resolution=16, class_names=["a", "b"], seed=1, kimg=2.0)
        Path("results/training").mkdir()
        Path("results/training/curves.jsonl").write_text('{"kimg": 2.0, "images_per_second": 80.0, "gpus": 1}\n')
        stages.evaluate.main(Path("params.yaml"))
    return place


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it without results, as working directory."""
    place = shutil.copytree(finished, tmp_path / "a project", symlinks=True)
    monkeypatch.chdir(place)
    (place / "results" / "metrics.json").unlink()
    shutil.rmtree(place / "results" / "evaluation")
    return place


def numbers(place: Path) -> dict[str, float]:
    results = place / "results"
    head, details = (json.loads((results / name).read_text()) for name in ("metrics.json", "evaluation/details.json"))
    return head | details


def test_first_columns(finished: Path) -> None:
    head = list(json.loads((finished / "results" / "metrics.json").read_text()))
    assert head[:5] == ["kimg", "fd_efficientnet_lite0", "nfs", "images_per_second", "gpu_days"]
    found = numbers(finished)
    assert found["images_per_second"] == 80
    assert found["gpu_days"] == pytest.approx(2000 / 80 / 86400, rel=1e-5)
    # The stand-in never has the name of what it stands for, and the simulated estimator looks at no pixel.
    assert not {"fid", "kid", "precision", "recall", "inception_score", "depth_consistency"} & set(found)
    assert {"swd", "depth_swd", "camera_emd", "camera_emd_yaw", "normal_swd", "shape_distance"} <= set(found)
    assert not any(name.endswith("_untrained") for name in found)  # controls are off


def scratch_files(place: Path) -> int:
    return sum(file.suffix in (".npz", ".npy") for file in (place / ".scratch" / "evaluate").rglob("[!.]*"))


@pytest.mark.parametrize(("moment", "number"), [(1, signal.SIGKILL), (3, signal.SIGTERM)])
def test_stopped_evaluation_resumes_with_the_same_numbers(
    moment: int, number: signal.Signals, project: Path, finished: Path
) -> None:
    process = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and scratch_files(project) < moment:
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in errors
    assert not (project / "results" / "metrics.json").exists()
    before = {file: file.stat().st_mtime_ns for file in (project / ".scratch" / "evaluate").rglob("*.npz")}
    assert len(before) >= moment
    kept: set[Path] = set()

    def remember(*arguments: object) -> object:
        kept.update(file for file, stamp in before.items() if file.exists() and file.stat().st_mtime_ns == stamp)
        return finish(*arguments)

    from stages import finished as results

    finish = results.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "finish", remember)
        stages.evaluate.main(Path("params.yaml"))
    assert kept == {file for file in before if not file.name.startswith(".")}
    assert numbers(project) == numbers(finished)


def test_several_processes_give_the_same_numbers(project: Path, finished: Path) -> None:
    (project / "params.yaml").write_text(SETTINGS.replace("processes: 1", "processes: 2"))
    stages.evaluate.main(Path("params.yaml"))
    assert numbers(project) == numbers(finished)


def test_samples_of_another_system(project: Path, finished: Path) -> None:
    """The real images as samples, without a model."""
    shutil.rmtree("results")
    Path("params.yaml").write_text(SETTINGS.replace("real_samples: 24", "real_samples: 48"))  # some classes have enough
    folder = project / "samples"
    folder.mkdir()
    prepared = ShardFolder(Path("data/tiny/prepared"))
    names, labels = (prepared.column(name).to_pylist() for name in ("id", "label"))
    for name, image in zip(names, decode_images(prepared.column("image")), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
        np.save(folder / f"{name}_depth.npy", np.full((16, 16), 0.9, np.float32))
    Path("labels.json").write_text(
        json.dumps({"labels": [[f"{n}.png", k] for n, k in zip(names, labels, strict=True)]})
    )
    depth = ["--depth", "samples", "--depth-range", "0.75", "1.25"]
    stages.evaluate.app(["--images", "samples", *depth, "--labels", "labels.json"], standalone_mode=False)
    found = json.loads(Path("results/external/samples.json").read_text())
    assert (found["about"]["dataset"], found["about"]["resolution"]) == ("tiny", 16)
    assert found["about"]["real_images"] == found["samples"] == 48
    assert found["fd_efficientnet_lite0"] == pytest.approx(0, abs=1e-3)
    assert found["recall_efficientnet_lite0"] == found["class_recall_efficientnet_lite0"] == 1
    assert found["class_diversity_efficientnet_lite0"] == pytest.approx(1, rel=1e-4)
    assert found["nfs"] == 1
    assert found["shape_distance"] == 1
    assert [path.name for path in Path("results").iterdir()] == ["external"]
    assert not any((project / ".scratch" / "evaluate-samples").iterdir())


def test_real_images_that_are_missing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scoring samples needs no model, so none is trained to make what is missing."""
    shutil.rmtree("data/tiny/features")
    with pytest.raises(SystemExit):
        stages.evaluate.main(Path("params.yaml"), images=project)
    assert "data/tiny/features: stage 'evaluate-samples' reads this" in (err := capsys.readouterr().err)
    assert err.endswith("run `dvc repro features`.\n")


def test_archive_scores_like_the_model(project: Path) -> None:
    settings = yaml.safe_load(SETTINGS)
    settings["evaluate"] |= {"archive": True, "metrics": ["frechet", "swd"], "samples": 40}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    stages.evaluate.main(Path("params.yaml"))
    archive = Path("results/evaluation/samples.npz")
    assert np.load(archive)["arr_0"].shape == (40, 16, 16, 3)
    stages.evaluate.main(Path("params.yaml"), images=archive, out=Path("out.json"))
    own, found = json.loads(Path("results/metrics.json").read_text()), json.loads(Path("out.json").read_text())
    assert found["fd_efficientnet_lite0"] == own["fd_efficientnet_lite0"]
    assert found["swd"] == pytest.approx(own["swd"], rel=0.1)  # other patches, since samples are shuffled


@pytest.mark.parametrize("num_classes", [0, 2])
def test_archive_has_labels_if_the_model_has_classes(project: Path, tiny_generator, num_classes: int) -> None:
    camera, model = tiny_generator.camera_config, tiny_generator.model_config
    generator = initial_generator(camera, model, num_classes, [], seed=0)
    write_model(Path("results/model"), generator, resolution=16, class_names=["a", "b"], seed=1, kimg=2.0)
    settings = yaml.safe_load(SETTINGS)
    settings["evaluate"] |= {"archive": True, "metrics": ["frechet"], "samples": 10}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    stages.evaluate.main(Path("params.yaml"))
    assert set(np.load("results/evaluation/samples.npz")) == ({"arr_0", "arr_1"} if num_classes else {"arr_0"})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"images": Path("nowhere")}, "nowhere: there is no such folder"),
        ({"images": Path("data")}, "data: there are no images in this folder"),
        ({"depth": Path("data")}, "--depth, --labels, --depth-range, --out: need --images"),
        ({"depth_range": (0.0, 5.0)}, "--depth, --labels, --depth-range, --out: need --images"),
        ({"images": Path("data"), "depth_range": (1.0, 1.0)}, "--depth-range: 1 is not less than 1"),
        ({"images": Path("data"), "depth_range": (0.0, 5.0)}, "--depth-range: needs --depth"),
        ({"images": Path("data"), "depth_range": (0.0, float("inf"))}, "--depth-range: 0 is not less than inf"),
        *(
            ({"images": Path("data"), "out": Path(out)}, f"--out: {out} is an output of the pipeline")
            for out in (
                "results/metrics.json",
                "results/../results/metrics.json",
                "results/model/config.json",
                "results/report.html",
                "results/evaluation/a.json",
                "data/tiny/prepared/manifest.json",
            )
        ),
        ({"images": Path("data"), "out": Path("params.yaml")}, "--out: the file must end in .json"),
        ({"images": Path("data"), "out": Path("data.json")}, "--out: data.json is not a file"),
        ({"images": Path("data"), "out": Path("dvc.yaml/x.json")}, "--out: dvc.yaml/x.json cannot be written"),
        ({"images": Path("data"), "out": Path("/proc/x.json")}, "--out: /proc/x.json cannot be written"),
    ],
)
def test_bad_input(arguments: dict, sentence: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.json").mkdir()
    before = {file: file.read_bytes() for file in Path("results").rglob("*") if file.is_file()}
    with pytest.raises(SystemExit) as left:
        stages.evaluate.main(Path("params.yaml"), **arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {sentence}")
    assert error.count("\n") == 1
    assert {file: file.read_bytes() for file in Path("results").rglob("*") if file.is_file()} == before
    assert not list(Path(".").glob(".data*")) and Path("params.yaml").read_text() == SETTINGS


def measure_only(metric: str) -> None:
    settings = yaml.safe_load(SETTINGS)
    settings["evaluate"]["metrics"] = [metric]
    Path("params.yaml").write_text(yaml.safe_dump(settings))


def gray_images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_unwritable_output_is_reported_and_features_are_kept(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may become unwritable while the samples are measured."""
    measure_only("frechet")
    samples = gray_images(Path("samples"))

    def refuse(target: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("threedgp.runtime.atomic.write_json", refuse)
    with pytest.raises(SystemExit) as left:
        stages.evaluate.main(Path("params.yaml"), images=samples, out=Path("mine.json"))
    assert left.value.code == 2
    assert "error: --out: mine.json cannot be written (Permission denied)" in capsys.readouterr().err
    assert list(Path(".scratch/evaluate-samples").rglob("*.npz"))


def test_folder_names_with_dots_keep_their_full_name(project: Path) -> None:
    measure_only("swd")
    for name in ("run.1", "run.2"):
        stages.evaluate.main(Path("params.yaml"), images=gray_images(Path(name)))
    assert {file.name for file in Path("results/external").iterdir()} == {"run.1.json", "run.2.json"}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("neighbor_network: features", "neighbor_weights: nowhere.pth", "evaluate.neighbor_weights"),
        ("estimator: simulated", "estimator: leres, weights: nowhere.pth", "depth.weights"),
    ],
)
def test_missing_weights_are_reported_before_generation(
    old: str, new: str, key: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(SETTINGS.replace(old, new))
    with pytest.raises(SystemExit) as left:
        stages.evaluate.main(Path("params.yaml"))
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {key}: ")
    assert scratch_files(project) == 0
