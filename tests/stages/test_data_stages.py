"""The stages download, prepare, select, depth and shards as commands: kill and resume, bad input, light imports."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import stages.depth
import stages.download
import stages.prepare
import stages.select
import stages.shards
from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter

SETTINGS = """
dataset: {name: tiny, source: procedural, resolution: 16}
model: {discriminator: {patch_resolution: 8}}
download: {count: 192, resolution: 32, seed: 1}
prepare: {shard_rows: 12}
select: {keep_fraction: 0.75}
depth: {estimator: simulated}
embed: {network: none}
shards: {rows_per_shard: 16, row_group_rows: 8}
train: {distillation: {loss: none}}
"""
DATA = Path("data/tiny")


def stand_in_for_networks(data: Path) -> None:
    """What the stages features and embed would write, but random and empty."""
    prepared = ShardFolder(data / "prepared")
    features = ShardWriter(data / "features", schemas.features(4), "features", {})
    embed = ShardWriter(data / "embed", schemas.embed(0), "embed", {"embedder": "none", "embedding_dim": 0})
    for shard in range(len(prepared)):
        rows = prepared.read(shard, ["id", "label"])
        values = np.random.default_rng(shard).normal(size=4 * len(rows)).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), 4)
        features.write(shard, rows.append_column("feature", vectors))
        embed.write(shard, rows.select(["id"]))
    features.finish()
    embed.finish()


def set_up(place: Path, root: Path, settings: str = SETTINGS) -> Path:
    place.mkdir()
    shutil.copy(root / "dvc.yaml", place)
    for code in ("threedgp", "stages"):
        (place / code).symlink_to(root / code)
    (place / "params.yaml").write_text(settings)
    return place


def run(*stages: ModuleType) -> None:
    for stage in stages:
        stage.main(Path("params.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A project in which all stages of this file ran undisturbed."""
    place = set_up(tmp_path_factory.mktemp("project") / "a project", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run(stages.download, stages.prepare)
        stand_in_for_networks(DATA)
        run(stages.select, stages.depth, stages.shards)
    return place


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as working directory."""
    place = shutil.copytree(finished, tmp_path / "a project", symlinks=True)
    monkeypatch.chdir(place)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("stage", "times"), [("prepare", 2), ("depth", 2), ("shards", 1)])
def test_killed_runs_lead_to_the_same_bytes(stage: str, times: int, project: Path, finished: Path) -> None:
    out = DATA / {"prepare": "prepared"}.get(stage, stage)
    shutil.rmtree(out)
    command, scratch, done_before = [sys.executable, "-m", f"stages.{stage}"], Path(".scratch") / stage, {}
    moments = random.Random(stage)
    kills = 0
    # The more files there are, the later the moment.
    for moment in sorted(moments.sample(range(1, 20), times)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and len([f for f in scratch.rglob("*") if f.is_file()]) < moment:
            time.sleep(0.001)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert not out.exists()
        stamps = {f.name: f.stat().st_mtime_ns for f in scratch.rglob(f"{out.name}/part-*.parquet")}
        assert all(stamps[name] == stamp for name, stamp in done_before.items())  # what was finished stays
        # A shard is finished once its record is there; one that lies there without was cut off and is written again.
        records = {f.name[1:6] for f in scratch.rglob(f"{out.name}/.*.done.json")}
        done_before = {name: stamp for name, stamp in stamps.items() if name[5:10] in records}
    assert kills == times
    run(import_module(f"stages.{stage}"))
    assert contents(out) == contents(finished / out)
    assert not any(scratch.iterdir())


def test_what_the_stages_leave(finished: Path) -> None:
    prepared, selected, depth, shards = (
        ShardFolder(finished / DATA / n) for n in ("prepared", "selected", "depth", "shards")
    )
    assert prepared.manifest.rows == 192 and len(prepared) == 16
    labels = prepared.column("label").to_numpy()
    assert selected.manifest.rows == sum(max(1, round(0.75 * count)) for count in np.bincount(labels) if count)
    assert depth.manifest.rows == shards.manifest.rows == selected.manifest.rows
    assert shards.meta["class_counts"] == np.bincount(selected.column("label").to_numpy(), minlength=6).tolist()
    assert (finished / DATA / "prepared/rejects.parquet").is_file()


def fails(stage: ModuleType, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a stage that cannot work."""
    with pytest.raises(SystemExit) as end:
        run(stage)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("stage", "folder", "maker"),
    [
        (stages.prepare, "raw", "download"),
        (stages.select, "features", "features"),
        (stages.depth, "prepared", "prepare"),
        (stages.shards, "depth", "depth"),
    ],
)
def test_damaged_and_missing_shards(
    stage: ModuleType, folder: str, maker: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = DATA / folder / "part-00000.parquet"
    data = file.read_bytes()
    file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert f"{file}: its checksum" in (line := fails(stage, capsys)) and f"dvc repro {maker}" in line
    file.unlink()
    assert f"{file}: the shard is missing" in (line := fails(stage, capsys)) and f"dvc repro {maker}" in line


@pytest.fixture
def rgbd(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a project on a folder of ten images with depth maps."""

    def make(more: str = "") -> Path:
        settings = SETTINGS.replace("procedural", "rgbd, path: pictures").replace("simulated", "sidecar")
        place = set_up(tmp_path / "own", root, settings + more)
        monkeypatch.chdir(place)
        for number in range(10):
            (place / "pictures").mkdir(exist_ok=True)
            Image.new("RGB", (20, 16), (number, 0, 0)).save(place / f"pictures/{number}.jpg")
            ramp = np.tile(np.arange(20, dtype=np.uint16), (16, 1))
            Image.fromarray(ramp).save(place / f"pictures/{number}_depth.png")
        return place / "pictures"

    return make


def test_broken_image_among_good_ones(rgbd: Callable[[str], Path]) -> None:
    (rgbd("") / "3.jpg").write_bytes(b"broken")
    run(stages.download, stages.prepare)
    assert ShardFolder(DATA / "prepared").manifest.rows == 9
    (reject,) = pq.read_table(DATA / "prepared/rejects.parquet").to_pylist()
    assert reject == {"id": "3", "reason": "no known image format"}


def test_missing_and_empty_folder(rgbd: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(pictures := rgbd(""))
    assert "pictures does not exist" in fails(stages.download, capsys)
    pictures.mkdir()
    assert "pictures holds no images" in fails(stages.download, capsys)


def test_too_many_broken_images(rgbd: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    pictures = rgbd("")
    for number in range(3):
        (pictures / f"{number}.jpg").write_bytes(b"broken")
    run(stages.download)
    capsys.readouterr()
    assert "3 of 10 images cannot be used" in fails(stages.prepare, capsys)


def test_image_that_changed(rgbd: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    pictures = rgbd("")
    run(stages.download)
    capsys.readouterr()
    Image.new("RGB", (20, 16), "blue").save(pictures / "4.jpg")
    assert "4.jpg: changed since stage download" in fails(stages.prepare, capsys)


def test_start_without_torch(root: Path) -> None:
    names = ", ".join(f"stages.{name}" for name in ("download", "prepare", "select", "depth", "shards"))
    heavy = "{'torch', 'timm', 'matplotlib', 'skimage'}"
    code = f"import sys, {names}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
